from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.replay.selection import (
    Done,
    Rejection,
    Request,
    is_chosen,
    parse_when,
    rejection_of,
)

HOUR_MS = 3_600_000


def test_a_time_is_rfc_3339_or_a_duration_ago():
    assert parse_when("1970-01-01T01:00:00Z", 0) == HOUR_MS
    assert parse_when("1970-01-01T01:00:00.250+01:00", 0) == 250
    assert parse_when("1h30m", 2 * HOUR_MS) == HOUR_MS // 2


@pytest.mark.parametrize("text", ["yesterday", "2026-11-23", "2026-11-23T22:16:00", "2026-", "-2h"])
def test_another_time_is_refused_with_what_was_expected(text: str):
    with pytest.raises(ValueError, match=rf"expected a time such as .*, got '{text}'$"):
        parse_when(text, 0)


def test_headers_say_why_and_where_to():
    headers = [("reason", b"columns"), ("detail", b"expected 2"), ("partition", b"3")]
    assert rejection_of(headers, 4) == Rejection("columns", 3)
    assert rejection_of([("reason", b"version")], 4) == Rejection("version", 0)
    assert rejection_of([], 1) == Rejection("unknown", 0)


@pytest.mark.parametrize("partition", [b"4", b"-1", b"x", b""])
def test_a_partition_that_the_topic_does_not_have_is_none(partition: bytes):
    assert rejection_of([("partition", partition)], 4).partition is None


def test_a_range_has_its_beginning_and_not_its_end():
    request = Request("telemetry", rejected=True, since_ms=10, until_ms=20, reasons=("columns",))
    columns = Rejection("columns", 0)
    assert [is_chosen(request, columns, time_ms) for time_ms in (9, 10, 19, 20)] == [
        False, True, True, False,
    ]  # fmt: skip
    assert not is_chosen(request, Rejection("target", 0), 10)
    assert is_chosen(Request("telemetry", rejected=True), Rejection("target", 0), 0)


@given(
    st.lists(st.sets(st.integers(0, 60), max_size=20), max_size=5),
    st.integers(0, 20),
)
def test_what_was_done_is_known_after_any_runs_and_any_restart(runs, beginning):
    done = Done()
    added: set[int] = set()
    for offsets in runs:
        done.add(sorted(offsets))
        added |= offsets
        done = Done(done.below, done.note())
    assert {offset for offset in range(61) if offset in done} == added
    done.begin_at(beginning)
    assert {offset for offset in range(61) if offset in done} == added | set(range(beginning))
    assert done.below not in done
