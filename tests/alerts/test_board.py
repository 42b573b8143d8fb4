from __future__ import annotations

from pipeline.alerts.board import CLEANUP_INTERVAL_MS, LOG_KEPT_MS, RESOLVED_KEPT_MS, Board, Saved
from pipeline.alerts.incident import Report
from pipeline.alerts.notification import Intent
from tests.alerts.conftest import BoardMaker, ReportMaker

TREE = """
route:
  receiver: ops
  group_by: [alertname]
  group_wait: 1s
  group_interval: 2s
  repeat_interval: 5s
receivers: [{name: ops}]
"""


def accept(board: Board, now_ms: int, *reports: Report) -> None:
    for report in reports:
        assert board.report(report, now_ms) == "accepted"


def told(intents: list[Intent]) -> list[list[tuple[str, str]]]:
    """Of each message: the `instance` and the status of its alerts."""
    return [
        [(dict(alert.labels).get("instance", ""), alert.status) for alert in intent.message.alerts]
        for intent in intents
    ]


def flush(board: Board, now_ms: int, *, delivered: bool = True) -> list[list[tuple[str, str]]]:
    """Flush what is due, and end its deliveries at once."""
    intents = board.flush_due(now_ms)
    for intent in intents:
        board.finish(intent, delivered, now_ms)
    return told(intents)


def flushes(board: Board, until_ms: int) -> list[tuple[int, list[tuple[str, str]]]]:
    """Every notification up to `until_ms`, with its time."""
    notifications = []
    while (due_ms := board.next_due_ms()) <= until_ms:
        notifications += [(due_ms, message) for message in flush(board, due_ms)]
        board.clean_up(due_ms)
    return notifications


def saved_copy(board: Board) -> Saved:
    return Saved(
        list(board.alerts.values()),
        list(board.groups.values()),
        dict(board.log),
        list(board.outbox.values()),
    )


FIRING = ("", "firing")
RESOLVED = ("", "resolved")


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


def test_reports_that_change_nothing_say_why(board: BoardMaker, report: ReportMaker) -> None:
    it = board(TREE)
    assert it.report(report(5, source="worker", ends_in_ms=0), 5) == "unknown"
    assert it.report(report(5, source="worker"), 5) == "accepted"
    assert it.report(report(5, source="worker"), 6) == "old"
    assert len(it.take_changes().alerts) == 1


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
