from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import yaml

from pipeline.local.problems import StartError
from pipeline.local.prometheus import (
    prometheus_command,
    semantics_of,
    version_of,
    write_config,
)
from pipeline.settings import CollectSettings, DispatchSettings, RulesSettings, Settings

SCRAPED = """
global: {scrape_interval: 5s}
scrape_configs:
  - job_name: aurigraph-production
    metrics_path: /q/metrics
    file_sd_configs: [{files: [targets/*.json]}]
  - job_name: other
    static_configs: [{targets: ["127.0.0.1:1"], labels: {node: a}}]
"""
RULES = """
groups:
  - name: g
    rules: [{alert: Down, expr: up == 0, for: 1m}]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "collect").mkdir()
    (tmp_path / "collect" / "scrape.yml").write_text(SCRAPED)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yml").write_text(RULES)
    (tmp_path / "rules" / "a_test.yml").write_text("not: rules")
    return Settings(
        data=str(tmp_path / "data"),
        collect=CollectSettings(
            listen="127.0.0.1:7001", scrape_config=str(tmp_path / "collect" / "scrape.yml")
        ),
        dispatch=DispatchSettings(listen="127.0.0.1:7003"),
        rules=RulesSettings(files=("rules/*.yml",), external_labels={"site": "here"}),
    )


def test_the_same_targets_rules_and_dispatcher_are_in_the_configuration(
    settings: Settings, tmp_path: Path
):
    config = yaml.safe_load(write_config(settings, tmp_path).read_text())
    assert config["global"] == {
        "scrape_interval": "5s",
        "evaluation_interval": "15000ms",
        "external_labels": {"site": "here"},
    }
    assert config["rule_files"] == [str(tmp_path / "rules" / "a.yml")]
    [alertmanager] = config["alerting"]["alertmanagers"]
    assert alertmanager == {
        "path_prefix": "/backstop",
        "static_configs": [{"targets": ["127.0.0.1:7003"]}],
    }
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert list(jobs) == ["aurigraph-production", "other", "watchkeeper-fleet", "watchkeeper"]
    assert jobs["aurigraph-production"]["file_sd_configs"] == [
        {"files": [str(tmp_path / "collect" / "targets" / "*.json")]}
    ]
    assert jobs["watchkeeper-fleet"]["honor_labels"] is True
    assert jobs["watchkeeper-fleet"]["static_configs"] == [{"targets": ["127.0.0.1:7001"]}]
    assert jobs["watchkeeper"]["static_configs"][0]["targets"] == [
        "127.0.0.1:7001", "127.0.0.1:9465", "127.0.0.1:7003", "127.0.0.1:9466",
    ]  # fmt: skip


def test_without_a_scrape_configuration_only_watchkeeper_is_scraped(
    settings: Settings, tmp_path: Path
):
    bare = msgspec.structs.replace(settings, collect=CollectSettings())
    config = yaml.safe_load(write_config(bare, tmp_path).read_text())
    assert [job["job_name"] for job in config["scrape_configs"]] == [
        "watchkeeper-fleet",
        "watchkeeper",
    ]


@pytest.mark.parts
def test_prometheus_accepts_the_configuration(
    settings: Settings, tmp_path: Path, program: Callable[[str], str]
):
    path = write_config(settings, tmp_path)
    done = subprocess.run(
        [program("promtool"), "check", "config", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rules found" in done.stdout


@pytest.mark.parts
def test_promtool_accepts_the_configuration_shipped_for_production(program: Callable[[str], str]):
    path = Path(__file__).parents[2] / "deploy" / "prometheus" / "prometheus.yml"
    done = subprocess.run(
        [program("promtool"), "check", "config", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_keeps_everything_in_the_data_folder(settings: Settings):
    command = prometheus_command(settings, "/usr/bin/prometheus", Path("/x/prometheus.yml"))
    assert command[:2] == ["/usr/bin/prometheus", "--config.file=/x/prometheus.yml"]
    assert f"--storage.tsdb.path={settings.data}/prometheus" in command
    assert "--web.listen-address=127.0.0.1:9090" in command


def test_semantics_are_those_of_the_major_version():
    assert semantics_of("3.5.0") == "3"
    with pytest.raises(StartError, match=r"expected version 2 or 3, got 1\.8\.2"):
        semantics_of("1.8.2")


def a_program(folder: Path, says: str) -> str:
    path = folder / "prometheus"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return str(path)


def test_the_version_is_what_the_program_says(tmp_path: Path):
    said = "prometheus, version 2.53.1+ds (branch: HEAD, revision: 14cfec3)"
    assert version_of(a_program(tmp_path, said)) == "2.53.1+ds"


def test_a_program_that_is_not_prometheus_is_refused(tmp_path: Path):
    with pytest.raises(StartError, match=r"expected `prometheus, version \.\.\.`, got 'hello"):
        version_of(a_program(tmp_path, "hello"))
    with pytest.raises(StartError, match=r"nowhere --version: .*No such file"):
        version_of(str(tmp_path / "nowhere"))


def test_files_of_a_login_are_found_from_the_generated_configuration(
    settings: Settings, tmp_path: Path
):
    who = "basic_auth: {username: u, password_file: p}, tls_config: {ca_file: ca.pem}"
    source = Path(settings.collect.scrape_config)
    source.write_text(f"scrape_configs: [{{job_name: a, {who}, bearer_token_file: /b}}]")
    [job, *_] = yaml.safe_load(write_config(settings, tmp_path).read_text())["scrape_configs"]
    assert job["basic_auth"] == {"username": "u", "password_file": f"{source.parent}/p"}
    assert job["tls_config"] == {"ca_file": f"{source.parent}/ca.pem"}
    assert job["bearer_token_file"] == "/b"


@pytest.mark.parametrize(
    ("who", "place"),
    [
        ("basic_auth: {username: u, password: t0ken}", "a.basic_auth.password"),
        ("authorization: {credentials: t0ken}", "a.authorization.credentials"),
        ("bearer_token: t0ken", "a.bearer_token"),
    ],
)
def test_a_secret_is_not_copied_into_the_data_folder(
    settings: Settings, tmp_path: Path, who: str, place: str
):
    Path(settings.collect.scrape_config).write_text(f"scrape_configs: [{{job_name: a, {who}}}]")
    with pytest.raises(
        StartError, match=rf"^scrape_configs: {place}: expected \w+_file:"
    ) as caught:
        write_config(settings, tmp_path)
    assert "t0ken" not in str(caught.value)
    assert not (tmp_path / "data" / "prometheus.yml").exists()
