"""When groups are flushed, and what they tell then."""

from __future__ import annotations

from pipeline.alerts.board import (
    CLEANUP_INTERVAL_MS,
)
from tests.alerts.boards import FIRING, RESOLVED, TREE, accept, flush, flushes, told
from tests.alerts.conftest import BoardMaker, ReportMaker


def test_group_is_flushed_after_group_wait(board: BoardMaker, report: ReportMaker) -> None:
    it = board(TREE)
    accept(it, 100, report(100))
    assert it.next_due_ms() == 1100
    assert flush(it, 1099) == []
    assert flush(it, 1100) == [[FIRING]]
    assert it.next_due_ms() == 3100


def test_alerts_with_the_same_group_labels_are_told_together(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE)
    accept(it, 0, report(0, instance="b"), report(0, name="Other"), report(0, instance="a"))
    assert flush(it, 1000) == [[("a", "firing"), ("b", "firing")], [FIRING]]


def test_alert_that_has_waited_elsewhere_is_told_at_once(
    board: BoardMaker, report: ReportMaker
) -> None:
    """ALERTMANAGER.md, 2."""
    it = board(TREE)
    accept(it, 5000, report(5000, starts_at_ms=3999))
    assert it.next_due_ms() == 5000
    waiting = board(TREE)
    accept(waiting, 5000, report(5000, starts_at_ms=4000))
    assert waiting.next_due_ms() == 6000


def test_late_joiner_that_has_waited_hurries_its_group(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE)
    accept(it, 5000, report(5000, instance="a"))
    accept(it, 5100, report(5100, instance="b", starts_at_ms=1000))
    assert it.next_due_ms() == 5100


def test_flushed_group_is_not_hurried(board: BoardMaker, report: ReportMaker) -> None:
    it = board(TREE)
    accept(it, 0, report(0, instance="a"))
    flush(it, 1000)
    accept(it, 1100, report(1100, instance="b", starts_at_ms=1))
    assert it.next_due_ms() == 3000


def test_start_in_the_future_is_told_normally(board: BoardMaker, report: ReportMaker) -> None:
    it = board(TREE)
    accept(it, 0, report(0, starts_at_ms=60_000))
    assert flush(it, 1000) == [[FIRING]]


def test_repeat_interval_is_looked_at_only_at_flushes(
    board: BoardMaker, report: ReportMaker
) -> None:
    """ALERTMANAGER.md, 1: 5 s with a group_interval of 2 s repeats every 6 s."""
    it = board(TREE)
    accept(it, 0, report(0))
    assert flushes(it, 14_000) == [(t, [FIRING]) for t in (1000, 7000, 13_000)]


def test_new_alert_is_told_with_the_whole_group_at_the_next_flush(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE)
    accept(it, 0, report(0, instance="a"))
    flush(it, 1000)
    accept(it, 1500, report(1500, instance="b"))
    intents = it.flush_due(3000)
    assert told(intents) == [[("a", "firing"), ("b", "firing")]]
    assert [alert.news for alert in intents[0].message.alerts] == [False, True]


def test_end_is_told_once_and_empties_the_group(board: BoardMaker, report: ReportMaker) -> None:
    it = board(TREE)
    accept(it, 0, report(0))
    flush(it, 1000)
    accept(it, 1500, report(1500, ends_in_ms=0, starts_at_ms=0))
    assert flushes(it, 20_000) == [(3000, [RESOLVED])]
    assert [group.members for group in it.groups.values()] == [set()]


def test_alert_that_is_not_renewed_ends_by_itself(board: BoardMaker, report: ReportMaker) -> None:
    it = board(TREE)
    accept(it, 0, report(0, ends_in_ms=5000))
    assert flushes(it, 10_000) == [(1000, [FIRING]), (5000, [RESOLVED])]


def test_ended_within_group_wait_is_listed_if_others_fire(
    board: BoardMaker, report: ReportMaker
) -> None:
    """ALERTMANAGER.md, 7."""
    it = board(TREE)
    accept(it, 0, report(0, instance="a"), report(0, instance="b"))
    accept(it, 500, report(500, instance="b", ends_in_ms=0, starts_at_ms=0))
    assert flush(it, 1000) == [[("a", "firing"), ("b", "resolved")]]


def test_nothing_is_told_if_all_ended_within_group_wait(
    board: BoardMaker, report: ReportMaker
) -> None:
    """ALERTMANAGER.md, 7."""
    it = board(TREE)
    accept(it, 0, report(0))
    accept(it, 500, report(500, ends_in_ms=0, starts_at_ms=0))
    assert flushes(it, 10_000) == []
    assert [group.members for group in it.groups.values()] == [set()]


def test_firing_again_waits_for_group_interval_while_the_emptied_group_is_there(
    board: BoardMaker, report: ReportMaker
) -> None:
    """ALERTMANAGER.md, 4."""
    it = board(TREE)
    accept(it, 0, report(0))
    flush(it, 1000)
    accept(it, 1500, report(1500, ends_in_ms=0, starts_at_ms=0))
    flush(it, 3000)
    accept(it, 3100, report(3100))
    assert flushes(it, 6000) == [(5000, [FIRING])]


def test_firing_again_after_the_cleanup_waits_for_group_wait(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE)
    accept(it, 0, report(0, ends_in_ms=1500))
    assert [t for t, _ in flushes(it, CLEANUP_INTERVAL_MS)] == [1000, 3000]
    assert it.groups == {}
    accept(it, 30_100, report(30_100))
    assert flushes(it, 31_200) == [(31_100, [FIRING])]
