"""The bodies of Alertmanager's API v2: posted alerts in, alerts and groups out. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from pipeline.alerts.incident import Incident, Report, Source
from pipeline.model import Labels, fingerprint, labels_from

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_URI = re.compile(r"/|[a-zA-Z][a-zA-Z0-9+.-]*:")


class BodyError(ValueError):
    """A body that is refused as a whole: `code` as Alertmanager's framework numbers them."""

    def __init__(self, status: Literal[400, 415, 422], code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _PostedAlert(msgspec.Struct):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    startsAt: str | None = None  # noqa: N815 - the API's name
    endsAt: str | None = None  # noqa: N815 - the API's name
    generatorURL: str | None = None  # noqa: N815 - the API's name


_read_posted = msgspec.json.Decoder(list[_PostedAlert]).decode


class Posted(msgspec.Struct):
    """The good alerts of a POST, and what is wrong with the others."""

    reports: list[Report]
    problems: list[str]


def parse_alerts(body: bytes, source: Source, resolve_timeout_ms: int, now_ms: int) -> Posted:
    """The alerts of a POST. One without an end is taken to end in `resolve_timeout_ms`.

    Raises
    ------
    BodyError
        The body is not a list of alerts.

    References
    ----------
    alertmanager 0.25, api/v2/api.go: postAlertsHandler.
    """
    if not body.strip():
        raise BodyError(422, 602, "alerts in body is required")
    try:
        alerts = _read_posted(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BodyError(400, 400, f"expected a list of alerts: {error}") from error
    for i, alert in enumerate(alerts):
        if alert.labels is None:
            raise BodyError(422, 602, f"{i}.labels in body is required")
        if alert.generatorURL and not _URI.match(alert.generatorURL):
            raise BodyError(422, 601, f"{i}.generatorURL in body must be of type uri")
    posted = Posted([], [])
    for alert in alerts:
        report = _report(alert, source, resolve_timeout_ms, now_ms)
        problem = _problem(report)
        if problem is None:
            posted.reports.append(report)
        else:
            posted.problems.append(problem)
    return posted


def _report(alert: _PostedAlert, source: Source, resolve_timeout_ms: int, now_ms: int) -> Report:
    starts_at_ms, ends_at_ms = parse_time(alert.startsAt), parse_time(alert.endsAt)
    if starts_at_ms is None:
        starts_at_ms = now_ms if ends_at_ms is None else ends_at_ms
    labels = labels_from(alert.labels or {})
    return Report(
        fingerprint=fingerprint(labels),
        labels=labels,
        annotations=tuple(sorted((alert.annotations or {}).items())),
        starts_at_ms=starts_at_ms,
        ends_at_ms=now_ms + resolve_timeout_ms if ends_at_ms is None else ends_at_ms,
        time_ms=now_ms,
        source=source,
        timed_out=ends_at_ms is None,
        generator_url=alert.generatorURL or "",
    )


def _problem(report: Report) -> str | None:
    """What is wrong with an alert, in Alertmanager's words."""
    if report.ends_at_ms < report.starts_at_ms:
        return "start time must be before end time"
    for what, pairs in (("label set", report.labels), ("annotations", report.annotations)):
        for name, _ in pairs:
            if not _LABEL_NAME.fullmatch(name):
                return f'invalid {what}: invalid name "{name}"'
    return None if report.labels else "at least one label pair required"


def parse_time(text: str | None) -> int | None:
    """Milliseconds of an RFC 3339 time; None for none and for Go's zero time.

    Raises
    ------
    BodyError
        Another text.

    >>> parse_time("1970-01-01T00:00:01.123456789Z"), parse_time("0001-01-01T00:00:00Z")
    (1123, None)
    """
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        if time.year == 1:
            return None
        return (time.replace(tzinfo=time.tzinfo or UTC) - _EPOCH) // _MILLISECOND
    except (ValueError, OverflowError) as error:
        raise BodyError(400, 400, f"expected an RFC 3339 time, got {text!r}") from error


def alert_body(incident: Incident, receivers: list[str]) -> dict[str, object]:
    """A GettableAlert of the API."""
    body: dict[str, object] = {
        "annotations": dict(incident.annotations),
        "endsAt": _format_time(incident.ends_at_ms),
        "fingerprint": f"{incident.fingerprint:016x}",
        "receivers": [{"name": name} for name in receivers],
        "startsAt": _format_time(incident.starts_at_ms),
        "status": {"inhibitedBy": [], "silencedBy": [], "state": "active"},
        "updatedAt": _format_time(incident.updated_at_ms),
        "labels": dict(incident.labels),
    }
    if incident.generator_url:
        body["generatorURL"] = incident.generator_url
    return body


def group_body(labels: Labels, receiver: str, alerts: list[dict[str, object]]) -> dict[str, object]:
    """An AlertGroup of the API."""
    return {"alerts": alerts, "labels": dict(labels), "receiver": {"name": receiver}}


def _format_time(time_ms: int) -> str:
    seconds, millis = divmod(time_ms, 1000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{millis:03d}Z"
