"""Whatever is posted to /api/v2/alerts, it is alerts with their problems, or a refused body."""

import json

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.dispatch.wire import BodyError, parse_alerts

NOW_MS = 1_767_604_530_482
GOOD = {
    "labels": {"alertname": "A", "severity": "high"},
    "annotations": {"summary": "s"},
    "startsAt": "2026-01-05T09:15:30.482Z",
    "endsAt": "2026-01-05T10:15:30+01:00",
    "generatorURL": "http://p/graph",
}
TIMES = st.sampled_from(
    ["", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999+00:00", "2026-01-05", "now", "0",
     "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-02-30T00:00:00Z", "١"]
)  # fmt: skip
VALUES = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8) | TIMES
LABELS = st.dictionaries(st.text(max_size=4) | st.just("alertname"), VALUES, max_size=3)
ALERTS = st.fixed_dictionaries(
    {},
    optional={
        "labels": LABELS | VALUES,
        "annotations": LABELS | VALUES,
        "startsAt": VALUES,
        "endsAt": VALUES,
        "generatorURL": VALUES,
        "more": VALUES,
    },
).map(lambda changes: GOOD | changes)
quick = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def is_read_or_refused(body: bytes) -> None:
    status, reports = 0, []
    try:
        reports = parse_alerts(body, "api", 300_000, NOW_MS).reports
    except BodyError as error:
        status = error.status
    assert status in (0, 400, 415, 422)
    for report in reports:
        assert report.labels
        assert report.starts_at_ms <= report.ends_at_ms


@quick
@given(st.lists(ALERTS, max_size=3) | ALERTS | VALUES)
def test_any_json_is_alerts_or_refused(content: object) -> None:
    is_read_or_refused(json.dumps(content).encode())


@quick
@given(
    st.binary(max_size=80),
    st.integers(0, 220),
    st.integers(0, 12),
)
@example(b"[" * 100_000, 0, 0)
@example(b'[{"labels":' * 50_000, 0, 0)
def test_any_bytes_are_alerts_or_refused(piece: bytes, start: int, cut: int) -> None:
    good = json.dumps([GOOD]).encode()
    is_read_or_refused(piece)
    is_read_or_refused(good[:start] + piece + good[start + cut :])
