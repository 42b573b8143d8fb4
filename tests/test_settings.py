from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pipeline.secret import Secret
from pipeline.settings import (
    NOT_SETTINGS,
    ClockSettings,
    KafkaSettings,
    RulesSettings,
    Settings,
    SettingsError,
    environment_of,
    load_settings,
)


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "watchkeeper.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path, environment=None):
    with pytest.raises(SettingsError) as caught:
        load_settings(path, environment or {})
    return [problem.replace(f"{path}", "FILE") for problem in caught.value.problems]


def test_without_a_file_everything_has_its_default():
    assert load_settings(None, {}) == Settings()


def test_a_file_sets_what_it_names_and_nothing_else(file):
    path = file('data = "/srv"\nbrokers = ["a:1", "b:2"]\n[kafka]\npartitions = 8\n')
    settings = load_settings(path, {})
    expected = msgspec.structs.replace(
        Settings(),
        data="/srv",
        brokers=("a:1", "b:2"),
        kafka=msgspec.structs.replace(Settings().kafka, partitions=8),
    )
    assert settings == expected


def test_the_environment_overrides_the_file(file):
    path = file("[kafka]\npartitions = 8\nheap_mb = 100\n")
    settings = load_settings(path, {"WATCHKEEPER_KAFKA_PARTITIONS": "2"})
    assert (settings.kafka.partitions, settings.kafka.heap_mb) == (2, 100)


@pytest.mark.parametrize(
    ("name", "text", "section", "key", "expected"),
    [
        ("DATA", "/srv", "", "data", "/srv"),
        ("BROKERS", "a:1, b:2,", "", "brokers", ("a:1", "b:2")),
        ("CLOCK_ORIGIN", "60", "clock", "origin", 60.0),
        ("LOCAL_PROMETHEUS", "false", "local", "prometheus", False),
        ("RULES_PROMETHEUS", "2", "rules", "prometheus", "2"),
        ("RULES_FILES", "a.yml,b.yml", "rules", "files", ("a.yml", "b.yml")),
        ("RULES_EXTERNAL_LABELS", "zone=a, q=x=y", "rules", "external_labels",
         {"zone": "a", "q": "x=y"}),
        ("DISPATCH_LISTEN", "127.0.0.1:1", "dispatch", "listen", "127.0.0.1:1"),
        ("SIMULATE_SEED", "-3", "simulate", "seed", -3),
    ],
)  # fmt: skip
def test_every_kind_of_setting_can_come_from_the_environment(name, text, section, key, expected):
    settings = load_settings(None, {f"WATCHKEEPER_{name}": text})
    owner = getattr(settings, section) if section else settings
    assert getattr(owner, key) == expected


def test_other_variables_are_left_alone():
    others = dict.fromkeys(NOT_SETTINGS, "x") | {"PATH": "/bin", "watchkeeper_data": "x"}
    assert load_settings(None, others) == Settings()


def test_all_problems_of_file_and_environment_come_in_one_report(file):
    path = file(
        'colour = "red"\nkafka = 3\n'
        "[collect]\nhost_interval = -1\nbatch_bytes = 0\nspeed = 2\n"
        "[simulate]\nbase_port = 70000\n"
    )
    environment = {"WATCHKEEPER_KAFKA_PARTITION": "3", "WATCHKEEPER_CLOCK_SPEED": "fast"}
    found = problems(path, environment)
    assert found[0].startswith("FILE: colour: unknown setting; expected one of brokers, clock,")
    assert found[1:] == [
        "FILE: kafka: expected a section, got 3",
        "FILE: collect.host_interval: Expected `float` > 0.0, got -1",
        "FILE: collect.batch_bytes: Expected `int` >= 1, got 0",
        found[4],
        "FILE: simulate.base_port: Expected `int` <= 65535, got 70000",
        "environment: WATCHKEEPER_CLOCK_SPEED: Expected `float`, got `str`, got 'fast'",
        "environment: WATCHKEEPER_KAFKA_PARTITION: no such setting",
    ]
    assert found[4].startswith("FILE: collect.speed: unknown setting; expected one of batch_bytes,")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("BROKERS", "", "Expected `array` of length >= 1, got ''"),
        ("CLOCK_SPEED", "nan", "Expected `float` > 0.0, got 'nan'"),
        ("LOCAL_PROMETHEUS", "perhaps", "Expected `bool`, got `str`, got 'perhaps'"),
        ("RULES_PROMETHEUS", "4", "Invalid enum value '4', got '4'"),
        ("RULES_EXTERNAL_LABELS", "a=b,c", "expected name=value, separated by commas, got 'a=b,c'"),
    ],
)
def test_a_variable_that_can_not_be_used_is_named_with_its_value(name, text, expected):
    assert problems(None, {f"WATCHKEEPER_{name}": text}) == [
        f"environment: WATCHKEEPER_{name}: {expected}"
    ]


def test_a_file_that_is_not_there_is_said():
    assert problems(Path("/nowhere/w.toml")) == ["FILE: can't be read: No such file or directory"]


@pytest.mark.parametrize("content", [b"a = ", b"\xff"])
def test_a_file_that_is_no_toml_is_said(tmp_path, content):
    path = tmp_path / "w.toml"
    path.write_bytes(content)
    (problem,) = problems(path)
    assert problem.startswith("FILE: expected TOML: ")


def test_the_prefix_stands_before_every_topic():
    kafka = msgspec.structs.replace(Settings().kafka, topic_prefix="test.")
    assert msgspec.structs.replace(Settings(), kafka=kafka).topic("alerts") == "test.alerts"


def test_a_secret_comes_from_the_environment_and_is_never_shown():
    settings = load_settings(None, {"WATCHKEEPER_KAFKA_SASL_PASSWORD": "t0ken"})
    assert settings.kafka.sasl_password.value == "t0ken"
    assert "t0ken" not in repr(settings)


def test_a_secret_in_the_file_is_refused_without_being_quoted(file):
    (problem,) = problems(file('[kafka]\nsasl_password = "t0ken"\n'))
    assert problem == (
        "FILE: kafka.sasl_password: a secret: "
        "expected in the environment, as WATCHKEEPER_KAFKA_SASL_PASSWORD"
    )


def test_a_child_process_is_told_everything_by_its_environment():
    kafka = KafkaSettings(sasl_password=Secret("t0ken"), sasl_username="wk")
    rules = RulesSettings(files=("a.yml", "b.yml"), external_labels={"zone": "a"})
    settings = Settings(brokers=("a:1", "b:2"), kafka=kafka, rules=rules)
    assert load_settings(None, environment_of(settings)) == settings


def test_everything_listens_on_this_machine_alone_unless_told():
    listening = {
        name: value
        for name, value in environment_of(Settings()).items()
        if name.endswith(("_LISTEN", "_LISTEN_ADDRESS"))
    }
    assert len(listening) >= 6
    assert [name for name, value in listening.items() if not value.startswith("127.0.0.1:")] == []


def test_a_faster_clock_needs_to_know_since_when():
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {"WATCHKEEPER_CLOCK_SPEED": "60"})
    (problem,) = caught.value.problems
    assert problem.startswith("clock.origin: expected a time with clock.speed 60, got 0: ")
    both = {"WATCHKEEPER_CLOCK_SPEED": "60", "WATCHKEEPER_CLOCK_ORIGIN": "1763928000.5"}
    assert load_settings(None, both).clock == ClockSettings(60.0, 1763928000.5)
