from __future__ import annotations

import msgspec
import pytest

from pipeline.alerts.incident import Report, merge
from pipeline.dispatch.wire import (
    BodyError,
    Posted,
    alert_body,
    group_body,
    parse_alerts,
    parse_time,
)
from pipeline.model import fingerprint

NOW = 1_700_000_000_123
TIMEOUT = 300_000


def parse(*alerts: object) -> Posted:
    return parse_alerts(msgspec.json.encode(alerts), "api", TIMEOUT, NOW)


def the_only(posted: Posted) -> Report:
    assert posted.problems == []
    (report,) = posted.reports
    return report


def test_alert_is_read() -> None:
    report = the_only(
        parse(
            {
                "labels": {"b": "2", "a": "1", "empty": ""},
                "annotations": {"summary": "", "info": "x"},
                "startsAt": "2023-11-14T22:13:19.5Z",
                "endsAt": "2023-11-14T23:13:20+01:00",
                "generatorURL": "http://p/g",
                "unknown": 1,
            }
        )
    )
    labels = (("a", "1"), ("b", "2"))
    assert report == Report(
        fingerprint=fingerprint(labels),
        labels=labels,
        annotations=(("info", "x"), ("summary", "")),
        starts_at_ms=1_699_999_999_500,
        ends_at_ms=1_700_000_000_000,
        time_ms=NOW,
        source="api",
        generator_url="http://p/g",
    )


@pytest.mark.parametrize(
    ("times", "starts", "ends", "guessed"),
    [
        ({}, NOW, NOW + TIMEOUT, True),
        ({"startsAt": None, "endsAt": ""}, NOW, NOW + TIMEOUT, True),
        ({"startsAt": "1970-01-01T00:00:01Z"}, 1000, NOW + TIMEOUT, True),
        ({"endsAt": "1970-01-01T00:00:01Z"}, 1000, 1000, False),
        ({"startsAt": "0001-01-01T00:00:00Z", "endsAt": "1970-01-01T00:00:02Z"}, 2000, 2000, False),
    ],
)
def test_times_that_are_not_given(
    times: dict[str, str], starts: int, ends: int, guessed: bool
) -> None:
    """ALERTMANAGER.md, 3."""
    report = the_only(parse({"labels": {"a": "1"}} | times))
    assert (report.starts_at_ms, report.ends_at_ms, report.timed_out) == (starts, ends, guessed)


@pytest.mark.parametrize(
    ("alert", "problem"),
    [
        ({"labels": {}}, "at least one label pair required"),
        ({"labels": {"a": ""}}, "at least one label pair required"),
        ({"labels": {"a-b": "c"}}, 'invalid label set: invalid name "a-b"'),
        (
            {"labels": {"a": "b"}, "annotations": {"1": "c"}},
            'invalid annotations: invalid name "1"',
        ),
        (
            {
                "labels": {"a": "b"},
                "startsAt": "2030-01-01T00:00:00Z",
                "endsAt": "2020-01-01T00:00:00Z",
            },
            "start time must be before end time",
        ),
    ],
)
def test_bad_alert_is_named_and_the_good_ones_are_kept(alert: object, problem: str) -> None:
    """ALERTMANAGER.md, 9; the words are Alertmanager's."""
    posted = parse(alert, {"labels": {"good": "1"}})
    assert posted.problems == [problem]
    assert [report.labels for report in posted.reports] == [(("good", "1"),)]


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        (b"", 422, 602, "alerts in body is required"),
        (b"x", 400, 400, "expected a list of alerts"),
        (b"{}", 400, 400, "Expected `array`, got `object`"),
        (b'[{"labels":{"a":3}}]', 400, 400, "Expected `str`, got `int`"),
        (b'[{"labels":{"a":"b"}},{}]', 422, 602, "1.labels in body is required"),
        (
            b'[{"labels":{"a":"b"},"generatorURL":"::"}]',
            422, 601, "0.generatorURL in body must be of type uri",
        ),
        (b'[{"labels":{"a":"b"},"startsAt":"x"}]', 400, 400, "expected an RFC 3339 time, got 'x'"),
    ],
)  # fmt: skip
def test_body_that_is_no_list_of_alerts_is_refused(
    body: bytes, status: int, code: int, message: str
) -> None:
    with pytest.raises(BodyError) as caught:
        parse_alerts(body, "api", TIMEOUT, NOW)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000_000),
        ("2023-11-14T22:13:20", 1_700_000_000_000),
    ],
)
def test_time_is_read_to_the_millisecond(text: str | None, expected: int | None) -> None:
    assert parse_time(text) == expected


def test_alert_is_shown_as_alertmanager_shows_it() -> None:
    report = the_only(parse({"labels": {"a": "1"}, "generatorURL": "http://p/g"}))
    incident = merge(None, report, NOW)
    assert alert_body(incident, ["ops"]) == {
        "annotations": {},
        "endsAt": "2023-11-14T22:18:20.123Z",
        "fingerprint": f"{fingerprint((('a', '1'),)):016x}",
        "receivers": [{"name": "ops"}],
        "startsAt": "2023-11-14T22:13:20.123Z",
        "status": {"inhibitedBy": [], "silencedBy": [], "state": "active"},
        "updatedAt": "2023-11-14T22:13:20.123Z",
        "labels": {"a": "1"},
        "generatorURL": "http://p/g",
    }
    bare = msgspec.structs.replace(incident, generator_url="")
    assert "generatorURL" not in alert_body(bare, [])


def test_group_is_shown_with_its_labels_and_receiver() -> None:
    assert group_body((("a", "1"),), "ops", []) == {
        "alerts": [],
        "labels": {"a": "1"},
        "receiver": {"name": "ops"},
    }
