"""`watchkeeper check`: every problem of the configuration in one report; starts nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from pipeline.api.client import check_web
from pipeline.api.http import ListenError, split_address
from pipeline.brokers import connection_of
from pipeline.collect.collector import load_config
from pipeline.dispatch.main import read_config
from pipeline.document import ConfigError
from pipeline.local.problems import EXIT_DONE, EXIT_FAILED
from pipeline.rules.document import Severity
from pipeline.rules.files import load_rules, rule_files
from pipeline.settings import Settings, SettingsError


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    part: str
    severity: str
    message: str


class Report(msgspec.Struct, frozen=True):
    """What was looked at, and what is wrong with it."""

    ok: bool
    """Nothing is an error; there may be warnings."""
    rule_files: int
    rules: int
    receivers: int
    problems: tuple[Finding, ...]


def run(settings: Settings, *, as_json: bool) -> int:
    """Print the report; 0 if there is no error in it."""
    report = inspect_configuration(settings, Path.cwd())
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n")
    else:
        sys.stdout.write(report_text(report))
    return EXIT_DONE if report.ok else EXIT_FAILED


def inspect_configuration(settings: Settings, root: Path) -> Report:
    """Read everything that the settings name; relative globs of rules start at `root`."""
    findings = [*_addresses(settings), *_edges(settings), *_targets(settings)]
    files = rule_files(settings.rules.files, root.resolve())
    if not files:
        wanted = ", ".join(settings.rules.files)
        findings.append(Finding("rules", "error", f"rules.files: no file matches {wanted}"))
    groups, problems = load_rules(files, settings.rules.prometheus)
    for problem in problems:
        severity = "error" if problem.severity is Severity.ERROR else "warning"
        findings.append(Finding("rules", severity, str(problem)))
    receivers = 0
    try:
        receivers = len(read_config(settings).receivers)
    except ConfigError as error:
        findings += [Finding("receivers", "error", line) for line in error.problems]
    return Report(
        ok=all(finding.severity != "error" for finding in findings),
        rule_files=len(files),
        rules=sum(len(group.rules) for group in groups),
        receivers=receivers,
        problems=tuple(findings),
    )


def report_text(report: Report) -> str:
    """The report for a person, a line for each problem."""
    lines = [finding.message for finding in report.problems]
    seen = (
        f"{report.rules} rules in {report.rule_files} files, {report.receivers} receivers, targets"
    )
    if report.problems:
        errors = sum(finding.severity == "error" for finding in report.problems)
        lines.append(f"{errors} errors, {len(report.problems) - errors} warnings in {seen}")
    else:
        lines.append(f"No problems in {seen}.")
    return "\n".join(lines) + "\n"


def _targets(settings: Settings) -> list[Finding]:
    try:
        load_config(settings)
    except ConfigError as error:
        return [Finding("targets", "error", line) for line in error.problems]
    return []


def _edges(settings: Settings) -> list[Finding]:
    """What Kafka's and our own listeners' settings name and can't be used."""
    findings: list[Finding] = []
    for check in (lambda: connection_of(settings), lambda: check_web(settings.web)):
        try:
            check()
        except SettingsError as error:
            findings += [Finding("settings", "error", line) for line in error.problems]
    return findings


def _addresses(settings: Settings) -> list[Finding]:
    """Addresses that aren't `host:port`, with the names of their settings."""
    named = {
        "collect.listen": settings.collect.listen,
        "worker.listen": settings.worker.listen,
        "dispatch.listen": settings.dispatch.listen,
        "export.listen": settings.export.listen,
        "local.listen": settings.local.listen,
        "local.prometheus_listen": settings.local.prometheus_listen,
        **{f"brokers[{i}]": address for i, address in enumerate(settings.brokers)},
    }
    findings = []
    for name, address in named.items():
        try:
            split_address(address)
        except ListenError as error:
            findings.append(Finding("settings", "error", f"{name}: {error}"))
    return findings
