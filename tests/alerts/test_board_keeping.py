"""What is stored, restored and dropped."""

from __future__ import annotations

from pipeline.alerts.board import (
    CLEANUP_INTERVAL_MS,
    LOG_KEPT_MS,
    RESOLVED_KEPT_MS,
    Board,
)
from tests.alerts.boards import FIRING, TREE, accept, flush, flushes, saved_copy
from tests.alerts.conftest import BoardMaker, ReportMaker


def test_changes_name_what_is_to_be_stored(board: BoardMaker, report: ReportMaker) -> None:
    it = board(TREE)
    sent = report(0)
    accept(it, 0, sent)
    first = it.take_changes()
    assert (list(first.alerts), list(first.groups)) == ([sent.fingerprint], list(it.groups))
    assert not it.take_changes()
    (intent,) = it.flush_due(1000)
    assert it.take_changes().outbox == {intent.id: intent}
    it.finish(intent, True, 1001)
    after = it.take_changes()
    assert after.outbox == {intent.id: None}
    assert list(after.log.values()) == list(it.log.values())
    it.flush_due(3000)
    assert not it.take_changes()


def test_change_of_members_alone_is_stored(board: BoardMaker, report: ReportMaker) -> None:
    it = board(TREE)
    accept(it, 0, report(0, ends_in_ms=500))
    it.take_changes()
    accept(it, 10, report(10, ends_in_ms=490, starts_at_ms=0))
    assert not it.take_changes().groups
    assert flush(it, 1000) == []
    assert [group.members for group in it.take_changes().groups.values() if group] == [set()]


def test_old_things_are_dropped(board: BoardMaker, report: ReportMaker) -> None:
    it = board(TREE)
    accept(it, 0, report(0, ends_in_ms=1500))
    flushes(it, 29_999)
    assert (len(it.alerts), len(it.groups), len(it.log)) == (1, 1, 1)
    it.take_changes()
    group = next(iter(it.groups))
    it.clean_up(30_000)
    assert it.take_changes().groups == {group: None}
    it.clean_up(1500 + RESOLVED_KEPT_MS - 1)
    assert len(it.alerts) == 1
    it.clean_up(1500 + RESOLVED_KEPT_MS + CLEANUP_INTERVAL_MS)
    assert list(it.take_changes().alerts.values()) == [None]
    assert it.alerts == {}
    it.clean_up(3000 + LOG_KEPT_MS)
    assert len(it.log) == 1
    it.clean_up(3001 + LOG_KEPT_MS + CLEANUP_INTERVAL_MS)
    assert list(it.take_changes().log.values()) == [None]
    assert it.log == {}


def test_cleanup_spares_groups_with_members_and_deliveries(
    board: BoardMaker, report: ReportMaker
) -> None:
    it = board(TREE)
    accept(it, 0, report(0))
    it.clean_up(30_000)
    assert len(it.groups) == 1


class TestRestore:
    def restored(self, board: BoardMaker, it: Board, now_ms: int, text: str = TREE) -> Board:
        other = board(text)
        other.restore(saved_copy(it), now_ms)
        return other

    def test_waiting_group_is_flushed_when_it_was_due(
        self, board: BoardMaker, report: ReportMaker
    ) -> None:
        it = board(TREE)
        accept(it, 0, report(0))
        other = self.restored(board, it, 600)
        assert other.next_due_ms() == 1000
        assert flush(other, 1000) == [[FIRING]]

    def test_what_was_told_is_not_told_again(self, board: BoardMaker, report: ReportMaker) -> None:
        it = board(TREE)
        accept(it, 0, report(0))
        flush(it, 1000)
        other = self.restored(board, it, 4000)
        assert flush(other, 4000) == []

    def test_delivery_under_way_is_given_back_and_ends_normally(
        self, board: BoardMaker, report: ReportMaker
    ) -> None:
        it = board(TREE)
        accept(it, 0, report(0))
        intents = it.flush_due(1000)
        other = board(TREE)
        assert other.restore(saved_copy(it), 4000) == intents
        assert flush(other, 4000) == []
        other.finish(intents[0], True, 4001)
        assert other.outbox == {}
        assert flush(other, 4002) == []

    def test_two_deliveries_of_a_group_both_have_to_end(
        self, board: BoardMaker, report: ReportMaker
    ) -> None:
        it = board(TREE, webhooks=2)
        accept(it, 0, report(0))
        it.flush_due(1000)
        other = board(TREE, webhooks=2)
        first, second = other.restore(saved_copy(it), 4000)
        other.finish(first, True, 4001)
        assert other.next_due_ms() == CLEANUP_INTERVAL_MS
        other.finish(second, True, 4002)
        assert other.next_due_ms() == 3000

    def test_alerts_move_to_the_groups_of_another_tree(
        self, board: BoardMaker, report: ReportMaker
    ) -> None:
        it = board(TREE)
        accept(it, 0, report(0, instance="a"), report(0, instance="b", ends_in_ms=500))
        flush(it, 1000)
        other = self.restored(
            board, it, 2000, TREE.replace("group_by: [alertname]", "group_by: [instance]")
        )
        assert flushes(other, 4000) == [(2000, [("a", "firing")])]

    def test_delivery_to_a_receiver_that_is_gone_is_dropped_and_the_new_one_told(
        self, board: BoardMaker, report: ReportMaker
    ) -> None:
        it = board(TREE)
        accept(it, 0, report(0))
        (intent,) = it.flush_due(1000)
        other = board(TREE.replace("ops", "other"))
        assert other.restore(saved_copy(it), 2000) == []
        assert other.take_changes().outbox == {intent.id: None}
        assert flushes(other, 4000) == [(3000, [FIRING])]

    def test_group_whose_route_is_gone_is_dropped(
        self, board: BoardMaker, report: ReportMaker
    ) -> None:
        text = """
        route:
          receiver: root
          routes: [{matchers: [x=y], receiver: a}]
        receivers: [{name: root}, {name: a}]
        """
        it = board(text)
        accept(it, 0, report(0, x="y"))
        old = next(iter(it.groups))
        other = self.restored(board, it, 10, TREE)
        changes = other.take_changes()
        assert changes.groups.pop(old) is None
        assert list(changes.groups) == list(other.groups)

    def test_members_that_are_not_known_are_left_out(
        self, board: BoardMaker, report: ReportMaker
    ) -> None:
        it = board(TREE)
        accept(it, 0, report(0))
        saved = saved_copy(it)
        saved.alerts = []
        other = board(TREE)
        other.restore(saved, 10)
        assert flush(other, 1000) == []
