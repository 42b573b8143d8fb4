from __future__ import annotations

import pytest

from pipeline.alerts.marks import Handover, Marks

LIFETIME_MS = 60_000
T = 10_000_000


@pytest.fixture
def marks() -> Marks:
    """Of two partitions; long awake, so that only what is heard counts."""
    return Marks(2, LIFETIME_MS, 0)


@pytest.mark.parametrize(("age_ms", "fresh"), [(0, True), (59_999, True), (60_000, False)])
def test_mark_is_believed_for_its_lifetime(marks: Marks, age_ms: int, fresh: bool) -> None:
    marks.hear(0, T, T)
    assert marks.fresh([0], T + age_ms) is fresh
    assert marks.lapse_ms([0]) == T + LIFETIME_MS


@pytest.mark.parametrize(("lag_ms", "fresh"), [(59_999, True), (60_000, False), (3_600_000, False)])
def test_worker_that_lags_is_not_there(marks: Marks, lag_ms: int, fresh: bool) -> None:
    marks.hear(0, T - lag_ms, T)
    assert marks.fresh([0], T) is fresh
    assert marks.lapse_ms([0]) == T - lag_ms + LIFETIME_MS


def test_mark_of_the_future_is_not_believed(marks: Marks) -> None:
    marks.hear(0, T + LIFETIME_MS, T)
    assert not marks.fresh([0], T)
    marks.hear(0, T + 1, T + 1)
    assert marks.fresh([0], T + 1)


def test_older_mark_does_not_hide_a_newer_one(marks: Marks) -> None:
    marks.hear(0, T, T)
    marks.hear(0, T - 3_600_000, T + 1000)
    assert marks.fresh([0], T + 1000)
    marks.hear(0, T - 1, T + 50_000)
    assert not marks.fresh([0], T + LIFETIME_MS)


def test_all_partitions_asked_for_have_to_be_fresh(marks: Marks) -> None:
    marks.hear(0, T, T)
    assert marks.fresh([0], T)
    assert not marks.fresh([0, 1], T)
    marks.hear(1, T - 1000, T)
    assert marks.fresh([0, 1], T)
    assert marks.lapse_ms([0, 1]) == T - 1000 + LIFETIME_MS


def test_partition_that_does_not_exist_is_left_out(marks: Marks) -> None:
    marks.hear(7, T, T)
    assert marks.age_ms(7, T) is None


def test_who_has_just_woken_gives_a_lifetime_of_patience(marks: Marks) -> None:
    marks.wake(T)
    assert marks.fresh([0], T + LIFETIME_MS - 1)
    assert not marks.heard([0], T)
    assert not marks.fresh([0], T + LIFETIME_MS)
    assert marks.lapse_ms([0]) == T + LIFETIME_MS


def test_clock_set_back_gives_no_patience(marks: Marks) -> None:
    marks.wake(T)
    marks.hear(0, T, T)
    assert not marks.fresh([0], T - LIFETIME_MS)


def test_since_when_it_is_heard_without_a_gap(marks: Marks) -> None:
    assert marks.since_ms([0, 1]) == 0
    marks.hear(0, T, T)
    marks.hear(0, T + 59_000, T + 59_000)
    assert marks.since_ms([0]) == T
    later = T + 59_000 + LIFETIME_MS
    marks.hear(0, later, later)
    assert marks.since_ms([0, 1]) == later


def test_loss_and_return_are_told_once(marks: Marks) -> None:
    assert marks.next_lapse_ms() is None
    marks.hear(1, T, T)
    assert marks.handovers(T) == []
    assert marks.next_lapse_ms() == T + LIFETIME_MS
    assert marks.handovers(T + LIFETIME_MS) == [Handover(1, worker_decides=False)]
    assert marks.handovers(T + LIFETIME_MS + 1) == []
    assert marks.next_lapse_ms() is None
    back = T + 2 * LIFETIME_MS
    marks.hear(1, back, back)
    assert marks.handovers(back) == [Handover(1, worker_decides=True)]
    assert marks.handovers(back) == []


def test_age_is_that_of_the_older_time(marks: Marks) -> None:
    marks.hear(0, T - 5000, T)
    assert marks.age_ms(0, T + 1000) == 6000
    marks.hear(1, T + 10, T)
    assert marks.age_ms(1, T + 1000) == 1000
