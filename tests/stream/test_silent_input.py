from __future__ import annotations

from pathlib import Path

from pipeline.rules.files import load_rules
from pipeline.rules.rendering import Expander
from pipeline.stream.silent_input import LIMIT_S, NAME, SilentInput

SHIPPED = Path(__file__).parents[2] / "alert_rules/watchkeeper.yml"


def silent_input(*files: str) -> SilentInput:
    groups, problems = load_rules(files, "3")
    assert problems == []
    return SilentInput(groups, Expander({"site": "x"}, "http://p:9090", "3"), 30_000, 240_000)


def test_it_fires_after_ten_seconds_with_the_labels_and_texts_of_the_rule():
    alerts = silent_input(str(SHIPPED))
    assert alerts.reports({0: 3.0, 1: LIMIT_S}, 100_000) == []
    (alert,) = alerts.reports({0: 4.0, 1: 11.0}, 101_000)
    assert dict(alert.labels) == {
        "alertname": NAME,
        "job": "watchkeeper",
        "partition": "1",
        "severity": "critical",
        "site": "x",
    }
    assert dict(alert.annotations)["summary"] == "No collector is heard in partition 1"
    assert "for 11s" in dict(alert.annotations)["description"]
    assert (alert.state, alert.value) == ("firing", 11.0)
    assert (alert.time_ms, alert.starts_at_ms, alert.ends_at_ms) == (101_000, 101_000, 341_000)
    assert alert.generator_url.startswith("http://p:9090/graph")


def test_it_is_repeated_each_resend_interval_with_the_same_start():
    alerts = silent_input(str(SHIPPED))
    (first,) = alerts.reports({1: 11.0}, 100_000)
    assert alerts.reports({1: 40.0}, 129_999) == []
    (again,) = alerts.reports({1: 41.0}, 130_000)
    assert (again.starts_at_ms, again.time_ms, again.ends_at_ms) == (100_000, 130_000, 370_000)
    assert again.fingerprint == first.fingerprint
    assert alerts.reports({1: 42.0}, 131_000) == []


def test_its_end_is_told_once_when_a_tick_has_come():
    alerts = silent_input(str(SHIPPED))
    alerts.reports({1: 11.0}, 100_000)
    (end,) = alerts.reports({1: 0.0}, 105_000)
    assert (end.state, end.starts_at_ms, end.ends_at_ms) == ("inactive", 100_000, 105_000)
    assert alerts.reports({1: 0.0}, 106_000) == []
    (anew,) = alerts.reports({1: 10.5}, 120_000)
    assert anew.starts_at_ms == 120_000


def test_a_partition_that_went_to_another_worker_is_left_to_that_one():
    alerts = silent_input(str(SHIPPED))
    alerts.reports({1: 11.0}, 100_000)
    assert alerts.reports({}, 101_000) == []
    (anew,) = alerts.reports({1: 11.0}, 102_000)
    assert anew.starts_at_ms == 102_000


def test_without_the_rule_nothing_is_raised(tmp_path):
    other = tmp_path / "other.yml"
    other.write_text("groups: [{name: g, rules: [{alert: A, expr: up == 0}]}]\n")
    assert silent_input(str(other)).reports({1: 99.0}, 100_000) == []
