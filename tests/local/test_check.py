from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.local.check import inspect_configuration, report_text, run
from pipeline.settings import (
    CollectSettings,
    DispatchSettings,
    KafkaSettings,
    RulesSettings,
    Settings,
    WorkerSettings,
)

GOOD = "groups: [{name: g, rules: [{alert: Down, expr: up == 0}]}]\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "good.yml").write_text(GOOD)
    return Settings(rules=RulesSettings(files=(str(tmp_path / "*.yml"),)))


def test_nothing_wrong_is_said_with_what_was_looked_at(
    settings: Settings, capsys: pytest.CaptureFixture[str]
):
    assert run(settings, as_json=False) == 0
    assert capsys.readouterr().out == ("No problems in 1 rules in 1 files, 2 receivers, targets.\n")


def test_problems_of_every_part_are_in_one_report(settings: Settings, tmp_path: Path):
    (tmp_path / "bad.yml").write_text("groups: [{name: g, rules: [{alert: A, expr: 'up =='}]}]\n")
    (tmp_path / "am.cfg").write_text("route: {receiver: nobody}\nreceivers: []\n")
    (tmp_path / "scrape.cfg").write_text("scrape_configs: [{job_name: a, oauth2: {}}]\n")
    (tmp_path / "feeds.cfg").write_text("websocket_configs: [{feeds: [/nowhere]}]\n")
    broken = Settings(
        rules=settings.rules,
        kafka=KafkaSettings(security_protocol="SSL", ssl_ca_file="/nowhere/ca"),
        worker=WorkerSettings(listen="everywhere"),
        dispatch=DispatchSettings(config_file=str(tmp_path / "am.cfg")),
        collect=CollectSettings(
            scrape_config=str(tmp_path / "scrape.cfg"), feeds_config=str(tmp_path / "feeds.cfg")
        ),
    )
    report = inspect_configuration(broken, tmp_path)
    assert not report.ok
    messages = "\n".join(f"{finding.part}: {finding.message}" for finding in report.problems)
    assert "settings: kafka.ssl: /nowhere/ca: can't be read: No such file" in messages
    assert "settings: worker.listen: everywhere: expected host:port" in messages
    assert f"rules: {tmp_path}/bad.yml:1: groups[0].rules[0].expr" in messages
    assert f"receivers: {tmp_path}/am.cfg:" in messages
    assert f"targets: {tmp_path}/scrape.cfg:1: scrape_configs[0].oauth2" in messages
    assert f"targets: {tmp_path}/feeds.cfg:1: " in messages
    assert report_text(report).splitlines()[-1].startswith(f"{len(report.problems)} errors, 0 war")


def test_a_glob_without_files_is_a_problem(tmp_path: Path):
    report = inspect_configuration(Settings(), tmp_path)
    assert [finding.message for finding in report.problems] == [
        "rules.files: no file matches alert_rules/*.yml"
    ]


def test_the_report_can_be_read_by_a_program(
    settings: Settings, capsys: pytest.CaptureFixture[str]
):
    (Path(settings.rules.files[0]).parent / "bad.yml").write_text("groups: 1\n")
    assert run(settings, as_json=True) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert report["rules"] == 1
    [problem] = report["problems"]
    assert (problem["part"], problem["severity"]) == ("rules", "error")
    assert "bad.yml" in problem["message"]
