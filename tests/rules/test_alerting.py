"""Reports as Prometheus would send them."""

from __future__ import annotations

import pytest

from pipeline.model import Alert, labels_from
from pipeline.rules.alert import ActiveAlert, Kind, Transition
from pipeline.rules.alerting import report_active, report_transition
from pipeline.rules.files import read_rules
from pipeline.rules.rendering import Expander
from pipeline.rules.rule import AlertingRule

FILE = b"""
groups:
- name: g
  labels: {team: core, severity: low}
  rules:
  - alert: Full
    expr: >
      disk_free{job="node"} < 5
    for: 1m
    labels: {severity: high, alertname: Other, device: '', site: '{{ $externalLabels.site }}2'}
    annotations:
      summary: '{{ $labels.__name__ }} of {{ $labels.device }} is {{ $value }}'
      broken: '{{ gt $value 1 }}'
"""
SERIES = labels_from({"__name__": "disk_free", "instance": "a:1", "device": "sda", "zone": "z"})
LABELS = {
    "alertname": "Full",
    "instance": "a:1",
    "severity": "high",
    "site": "one2",
    "team": "core",
    "zone": "z",
}


@pytest.fixture
def rule() -> AlertingRule:
    groups, _ = read_rules(FILE, "rules/disk.yml", "3")
    (found,) = groups[0].rules
    assert isinstance(found, AlertingRule)
    return found


@pytest.fixture
def expander() -> Expander:
    return Expander({"site": "one", "zone": "other", "dc": "d"}, "http://p:9090/", "3")


def transition(rule: AlertingRule, expander: Expander, kind: Kind) -> Transition:
    return Transition(
        kind=kind, rule=rule, instance="a:1", series=SERIES,
        labels=expander.labels(rule, SERIES, 4.0), time_ms=70_000, reported_at_ms=70_002, frame=3,
        value=4.0, active_at_ms=5_000, starts_at_ms=65_000,
    )  # fmt: skip


def report(rule: AlertingRule, expander: Expander, kind: Kind) -> Alert:
    return report_transition(transition(rule, expander, kind), expander, 240_000)


def test_an_alert_has_the_labels_of_series_group_and_rule(
    rule: AlertingRule, expander: Expander
) -> None:
    """The rule's over its group's, an empty one removed, `alertname` not to be overridden."""
    assert dict(expander.labels(rule, SERIES, 4.0)) == LABELS


def test_external_labels_are_added_where_the_alert_has_none(
    rule: AlertingRule, expander: Expander
) -> None:
    assert dict(report(rule, expander, "firing").labels) == {**LABELS, "dc": "d"}


def test_annotations_see_the_series_own_labels(rule: AlertingRule, expander: Expander) -> None:
    annotations = dict(report(rule, expander, "firing").annotations)
    assert annotations["summary"] == "disk_free of sda is 4"
    assert annotations["broken"].startswith("<error expanding template: ")
    assert expander.failures == {"rules/disk.yml;g;Full;1": 1}


def test_a_report_names_group_and_query(rule: AlertingRule, expander: Expander) -> None:
    alert = report(rule, expander, "firing")
    assert alert.group == "rules/disk.yml;g"
    assert alert.generator_url == (
        "http://p:9090/graph?g0.expr=disk_free%7Bjob%3D%22node%22%7D+%3C+5&g0.tab=1"
    )
    assert (alert.value, alert.sample_time_ms, alert.source) == (4.0, 70_000, "worker")


@pytest.mark.parametrize(
    ("kind", "state", "starts_at", "ends_at"),
    [
        ("pending", "pending", 5_000, 310_002),
        ("firing", "firing", 65_000, 310_002),
        ("resolved", "inactive", 65_000, 70_000),
        ("dropped", "inactive", 5_000, 70_000),
    ],
)
def test_what_a_transition_says_of_times(
    rule: AlertingRule, expander: Expander, kind: Kind, state: str, starts_at: int, ends_at: int
) -> None:
    alert = report(rule, expander, kind)
    assert (alert.state, alert.time_ms, alert.active_at_ms) == (state, 70_002, 5_000)
    assert (alert.starts_at_ms, alert.ends_at_ms) == (starts_at, ends_at)


def test_an_active_alert_is_reported_again(rule: AlertingRule, expander: Expander) -> None:
    firing = ActiveAlert(
        state="firing", rule=rule, instance="a:1", series=SERIES,
        labels=expander.labels(rule, SERIES, 4.0), value=4.5, active_at_ms=5_000,
        starts_at_ms=65_000,
    )  # fmt: skip
    alert = report_active(firing, expander, 100_000, 240_000)
    first = report(rule, expander, "firing")
    assert alert.fingerprint == first.fingerprint
    assert (alert.state, alert.time_ms, alert.starts_at_ms) == ("firing", 100_000, 65_000)
    assert (alert.ends_at_ms, alert.active_at_ms, alert.value) == (340_000, 5_000, 4.5)
    assert (alert.group, alert.generator_url) == (first.group, first.generator_url)
    assert dict(alert.annotations)["summary"] == "disk_free of sda is 4.5"
    assert alert.sample_time_ms == 65_000


def test_a_pending_alert_starts_when_it_became_active(
    rule: AlertingRule, expander: Expander
) -> None:
    pending = ActiveAlert(
        state="pending", rule=rule, instance="a:1", series=SERIES,
        labels=expander.labels(rule, SERIES, 4.0), value=4.0, active_at_ms=5_000, starts_at_ms=0,
    )  # fmt: skip
    alert = report_active(pending, expander, 10_000, 240_000)
    assert (alert.state, alert.starts_at_ms, alert.sample_time_ms) == ("pending", 5_000, 5_000)
