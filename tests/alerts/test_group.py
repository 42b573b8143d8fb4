from __future__ import annotations

import pytest

from pipeline.alerts.group import (
    LogEntry,
    Reason,
    alert_in_message,
    in_order,
    reason_to_notify,
)
from pipeline.alerts.incident import Incident, merge
from pipeline.model import labels_from
from tests.alerts.conftest import ReportMaker

REPEAT_MS = 5000


@pytest.mark.parametrize(
    ("entry", "firing", "resolved", "expected"),
    [
        (None, (), (), None),
        (None, (), (1,), None),
        (None, (1,), (), "first"),
        (LogEntry(0, (1,), ()), (1,), (), None),
        (LogEntry(0, (1,), ()), (1, 2), (), "new"),
        (LogEntry(0, (1, 2), ()), (2,), (), None),
        (LogEntry(0, (1,), ()), (), (1,), "all resolved"),
        (LogEntry(0, (), (1,)), (), (1,), None),
        (LogEntry(0, (), (1,)), (), (1, 2), None),
        (LogEntry(0, (), (1,)), (1,), (), "new"),
        (LogEntry(0, (1, 2), ()), (1,), (2,), "some resolved"),
        (LogEntry(0, (1,), (2,)), (1,), (2,), None),
    ],
)
def test_what_is_new_is_told(
    entry: LogEntry | None,
    firing: tuple[int, ...],
    resolved: tuple[int, ...],
    expected: Reason | None,
) -> None:
    """alertmanager 0.25, notify/notify_test.go: TestDedupStageNeedsUpdate has these cases."""
    assert reason_to_notify(entry, firing, resolved, True, REPEAT_MS, REPEAT_MS) == expected


@pytest.mark.parametrize(("now_ms", "expected"), [(5000, None), (5001, "repeat")])
def test_repeat_is_due_only_after_the_interval(now_ms: int, expected: Reason | None) -> None:
    entry = LogEntry(0, (1,), ())
    assert reason_to_notify(entry, (1,), (), True, REPEAT_MS, now_ms) == expected


def test_partial_end_is_no_news_for_those_who_do_not_hear_of_ends() -> None:
    entry = LogEntry(0, (1, 2), ())
    assert reason_to_notify(entry, (1,), (2,), False, REPEAT_MS, 0) is None
    assert reason_to_notify(entry, (), (1, 2), False, REPEAT_MS, 0) == "all resolved"


def incident_with(report: ReportMaker, **labels: str) -> Incident:
    merged = merge(None, report(1000, **labels), 1000)
    assert isinstance(merged, Incident)
    return merged


def test_order_is_job_then_instance_then_size_then_content(report: ReportMaker) -> None:
    expected = [
        {"job": "a", "instance": "2"},
        {"job": "a"},
        {"job": "b", "instance": "1"},
        {"job": "b", "instance": "1", "z": "1"},
        {"job": "b", "instance": "1", "y": "1", "z": "1"},
        {"instance": "0"},
        {},
        {"yy": "1"},
        {"y": "1"},
        {"x": "1"},
        {"x": "2"},
    ]
    incidents = [incident_with(report, **labels) for labels in expected]
    shuffled = incidents[::2] + incidents[1::2]
    assert [dict(i.labels) for i in in_order(shuffled)] == [
        dict(labels_from({"alertname": "Down"} | labels)) for labels in expected
    ]


def test_alert_in_a_message_has_an_end_only_when_it_has_ended(report: ReportMaker) -> None:
    incident = incident_with(report)
    firing = alert_in_message(incident, None, 1000)
    ended = alert_in_message(incident, None, incident.ends_at_ms)
    assert (firing.status, firing.ends_at_ms) == ("firing", 0)
    assert (ended.status, ended.ends_at_ms) == ("resolved", 241_000)


def test_what_was_told_is_no_news(report: ReportMaker) -> None:
    incident = incident_with(report)
    told = LogEntry(0, (incident.fingerprint,), ())
    assert alert_in_message(incident, None, 1000).news
    assert not alert_in_message(incident, told, 1000).news
    assert alert_in_message(incident, told, incident.ends_at_ms).news
