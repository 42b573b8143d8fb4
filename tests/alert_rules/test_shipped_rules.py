"""The shipped rule files: accepted by promtool unchanged, unit-tested, and each with a runbook."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.promql.plan import Version
from pipeline.rules.files import load_rules, rule_files
from pipeline.rules.rule import AlertingRule

Program = Callable[[str], str]

ROOT = Path(__file__).parents[2]
FILES = rule_files(["alert_rules/*.yml"], ROOT)
CRITICAL = {
    "AurigraphServiceDown": "critical",
    "LowTransactionThroughput": "high",
    "WebSocketErrors": "medium",
    "HighLatency": "medium",
}


def shipped(prometheus: Version = "3") -> list[AlertingRule]:
    groups, problems = load_rules(FILES, prometheus)
    assert problems == []
    return [rule for group in groups for rule in group.rules if isinstance(rule, AlertingRule)]


@pytest.mark.parametrize("prometheus", ["2", "3"])
def test_they_load_without_a_problem(prometheus: Version) -> None:
    assert len(shipped(prometheus)) >= 10


def test_the_four_critical_alerts_have_their_severity_as_a_label() -> None:
    severities = {
        rule.name: dict(rule.labels)["severity"]
        for rule in shipped()
        if rule.group.endswith(";critical")
    }
    assert severities == CRITICAL


def of_itself(rule: AlertingRule) -> bool:
    """Whether the alert is on Watchkeeper itself: those have sections of one page."""
    return rule.group.endswith(";watchkeeper")


def test_each_alert_says_what_is_wrong() -> None:
    for rule in shipped():
        assert set(dict(rule.annotations)) == {"summary", "description", "runbook_url"}, rule.name


def test_each_alert_on_watchkeeper_itself_has_a_section_that_says_what_to_do() -> None:
    page = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    named = [rule for rule in shipped() if of_itself(rule)]
    for rule in named:
        assert dict(rule.annotations)["runbook_url"] == f"docs/operations.md#{rule.name.lower()}"
        section = page.partition(f"\n### {rule.name}\n")[2].partition("\n### ")[0]
        for word in ("**Means:**", "**Do:**"):
            assert word in section, f"{rule.name}: {word}"
    assert page.count("\n### Watchkeeper") == len(named)


def test_each_other_alert_has_a_runbook() -> None:
    for rule in [rule for rule in shipped() if not of_itself(rule)]:
        annotations = dict(rule.annotations)
        assert annotations["runbook_url"] == f"docs/runbooks/{rule.name}.md"
        page = (ROOT / annotations["runbook_url"]).read_text(encoding="utf-8")
        assert page.startswith(f"# {rule.name}\n")
        for heading in ("## What it means", "## What to look at", "## What to do"):
            assert heading in page, f"{rule.name}: {heading}"


def test_each_runbook_is_of_an_alert() -> None:
    pages = {page.stem for page in (ROOT / "docs/runbooks").glob("*.md")}
    assert pages == {rule.name for rule in shipped() if not of_itself(rule)}


def test_each_alert_has_unit_tests_in_which_it_fires_and_does_not() -> None:
    fires: dict[str, set[bool]] = {}
    for file in (ROOT / "alert_rules").glob("*_test.yml"):
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for case in test.get("alert_rule_test", []):
                fires.setdefault(case["alertname"], set()).add(bool(case.get("exp_alerts")))
    always = {"WatchkeeperHeartbeat": {True}}
    assert fires == {rule.name: {True, False} for rule in shipped()} | always


@pytest.mark.parts
def test_promtool_accepts_them(program: Program) -> None:
    done = subprocess.run(
        [program("promtool"), "check", "rules", "--lint-fatal", *FILES],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parts
@pytest.mark.parametrize("file", sorted((ROOT / "alert_rules").glob("*_test.yml")), ids=str)
def test_their_unit_tests_pass(program: Program, file: Path) -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(file)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
