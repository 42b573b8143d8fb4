"""Deliveries under way: how they end, to whom they go, and what names them."""

from __future__ import annotations

from pipeline.alerts.board import (
    CLEANUP_INTERVAL_MS,
)
from tests.alerts.boards import FIRING, RESOLVED, TREE, accept, flush, told
from tests.alerts.conftest import BoardMaker, ReportMaker


def test_failed_delivery_is_tried_again_at_the_next_flush_with_the_same_id(
    board: BoardMaker, report: ReportMaker
) -> None:
    """ALERTMANAGER.md, 8; the receiver may have taken the first one."""
    it = board(TREE)
    accept(it, 0, report(0))
    (first,) = it.flush_due(1000)
    it.finish(first, False, 1100)
    (second,) = it.flush_due(3000)
    assert (second.id, told([second])) == (first.id, [[FIRING]])


def test_only_the_integration_that_failed_is_tried_again(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE, webhooks=2)
    accept(it, 0, report(0))
    good, bad = it.flush_due(1000)
    it.finish(good, True, 1001)
    it.finish(bad, False, 1002)
    again = it.flush_due(3000)
    assert [intent.integration for intent in again] == [bad.integration]


def test_ended_alert_stays_until_every_integration_was_told(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE, webhooks=2)
    accept(it, 0, report(0, ends_in_ms=1500))
    flush(it, 1000)
    good, bad = it.flush_due(3000)
    it.finish(bad, False, 3001)
    it.finish(good, True, 3002)
    assert flush(it, 5000) == [[RESOLVED]]
    assert [group.members for group in it.groups.values()] == [set()]


def test_group_under_way_is_flushed_only_when_its_deliveries_have_ended(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE)
    accept(it, 0, report(0, instance="a"))
    (slow,) = it.flush_due(1000)
    accept(it, 1500, report(1500, instance="b"))
    assert it.flush_due(3000) == []
    assert it.next_due_ms() == CLEANUP_INTERVAL_MS
    it.finish(slow, True, 4500)
    assert it.next_due_ms() == 3000
    assert flush(it, 4500) == [[("a", "firing"), ("b", "firing")]]


def test_alert_that_fires_again_during_the_delivery_of_its_end_stays(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE)
    accept(it, 0, report(0, ends_in_ms=1500))
    flush(it, 1000)
    (ending,) = it.flush_due(3000)
    accept(it, 3010, report(3010))
    it.finish(ending, True, 3020)
    assert flush(it, 5000) == [[FIRING]]


def test_repetition_and_another_episode_have_ids_of_their_own(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE)
    accept(it, 0, report(0))
    ids = []
    for now_ms in range(1000, 8000, 2000):
        for intent in it.flush_due(now_ms):
            it.finish(intent, True, now_ms)
            ids.append(intent.id)
    assert len(ids) == len(set(ids)) == 2
    other = board(TREE)
    accept(other, 1, report(1))
    assert other.flush_due(1001)[0].id not in ids


def test_receiver_that_does_not_hear_of_ends_is_told_again_when_it_fires_again(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE, send_resolved=False)
    accept(it, 0, report(0, instance="a"), report(0, instance="b", ends_in_ms=500))
    assert flush(it, 1000) == [[("a", "firing")]]
    accept(it, 1500, report(1500, instance="a", ends_in_ms=0, starts_at_ms=0))
    assert flush(it, 3000) == []
    assert [group.members for group in it.groups.values()] == [set()]
    accept(it, 3500, report(3500, instance="a"))
    assert flush(it, 5000) == [[("a", "firing")]]


def test_alert_goes_to_every_route_that_takes_it(board: BoardMaker, report: ReportMaker) -> None:
    it = board("""
    route:
      receiver: root
      group_wait: 0s
      routes: [{receiver: a, continue: true}, {receiver: b}]
    receivers: [{name: root}, {name: a}, {name: b}]
    """)
    sent = report(5)
    accept(it, 5, sent)
    assert [intent.message.receiver for intent in it.flush_due(5)] == ["a", "b"]
    assert it.receivers_of(sent.labels) == ["a", "b"]
    assert [it.receiver_of(group) for group in it.groups.values()] == ["a", "b"]
    assert {it.group_interval_ms(group) for group in it.groups} == {300_000}


def test_twin_routes_with_one_receiver_tell_once(board: BoardMaker, report: ReportMaker) -> None:
    it = board("""
    route:
      receiver: root
      group_wait: 0s
      routes: [{matchers: [x=y], continue: true}, {matchers: [x=y]}]
    receivers: [{name: root}]
    """)
    accept(it, 5, report(5, x="y"))
    assert len(it.groups) == 2
    assert len(flush(it, 5)) == 1
