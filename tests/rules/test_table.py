"""Slots, identities and lifetimes of alerts, over hand-made outcomes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pipeline.model import Labels, labels_from
from pipeline.promql.evaluate import Outcome
from pipeline.rules.alert import ActiveAlert, Transition
from pipeline.rules.files import read_rules
from pipeline.rules.rendering import Expander
from pipeline.rules.rule import AlertingRule
from pipeline.rules.table import AlertTable

S = 1000
MIN = 60 * S
INSTANCES = ["a:1", "b:1"]


def rules(*texts: str) -> list[AlertingRule]:
    """Rules of YAML flow mappings."""
    lines = "\n".join(f"    - {text}" for text in texts)
    groups, problems = read_rules(
        f"groups:\n- name: g\n  rules:\n{lines}\n".encode(), "rules.yml", "3"
    )
    assert problems == []
    return [rule for rule in groups[0].rules if isinstance(rule, AlertingRule)]


DOWN = "{alert: Down, expr: up == 0, labels: {severity: high}}"
BY_VALUE = "{alert: Level, expr: x > 0, labels: {level: '{{ $value }}'}}"
MERGING = "{alert: Merged, expr: x > 0, labels: {disk: any}}"
SLOW = "{alert: Slow, expr: x > 0, for: 1m}"
KEPT = "{alert: Kept, expr: x > 0, keep_firing_for: 1m}"


def table_of(*texts: str) -> AlertTable:
    return AlertTable(rules(*texts), Expander({"dc": "one"}, "http://p:9090", "3"))


def series(name: str = "x", instance: str = "a:1", **more: str) -> Labels:
    return labels_from({"__name__": name, "instance": instance, **more})


def outcome(
    time_ms: int,
    rows: Sequence[tuple[int, float | None]],
    plan: int = 0,
    instance: int = 0,
    error: int = 0,
) -> Outcome:
    """One span; a value of None is a series that is not in the result."""
    return Outcome(
        frames=np.array([4], dtype=np.int64),
        instances=np.array([instance], dtype=np.int64),
        plans=np.array([plan], dtype=np.int64),
        times_ms=np.array([time_ms], dtype=np.int64),
        starts=np.array([0], dtype=np.int64),
        counts=np.array([len(rows)], dtype=np.int64),
        errors=np.array([error], dtype=np.int64),
        slots=np.array([slot for slot, _ in rows], dtype=np.int32),
        present=np.array([value is not None for _, value in rows], dtype=np.bool_),
        values=np.array([value or 0.0 for _, value in rows], dtype=np.float64),
    )


def advance(
    table: AlertTable, *args: object, on_grid: bool = False, **more: object
) -> list[Transition]:
    return table.advance(outcome(*args, **more), INSTANCES, on_grid)  # type: ignore[arg-type]


def shown(transitions: Sequence[Transition]) -> list[tuple[str, int, dict[str, str]]]:
    return [(t.kind, t.time_ms, dict(t.labels)) for t in transitions]


def test_a_series_keeps_its_slot_and_others_get_their_own() -> None:
    table = table_of(DOWN, SLOW)
    slots = [
        table.assign(0, "a:1", series("up")),
        table.assign(0, "b:1", series("up", "b:1")),
        table.assign(1, "a:1", series("up")),
    ]
    assert len(set(slots)) == 3
    assert table.assign(0, "a:1", series("up")) == slots[0]


def test_more_slots_than_there_was_room_for() -> None:
    table = table_of(DOWN)
    slots = [table.assign(0, f"i{i}:1", series("up", f"i{i}:1")) for i in range(200)]
    assert len(set(slots)) == 200
    assert shown(advance(table, 5, [(slots[199], 0.0)]))[0][2]["instance"] == "i199:1"


def test_a_transition_names_the_rule_the_series_and_the_alert() -> None:
    table = table_of(DOWN)
    slot = table.assign(0, "a:1", series("up", job="node"))
    (fired,) = advance(table, 7 * S, [(slot, 0.0)])
    assert (fired.kind, fired.rule.name, fired.instance) == ("firing", "Down", "a:1")
    assert fired.series == series("up", job="node")
    assert dict(fired.labels) == {
        "alertname": "Down",
        "instance": "a:1",
        "job": "node",
        "severity": "high",
    }
    assert (fired.frame, fired.time_ms, fired.reported_at_ms) == (4, 7 * S, 7 * S)
    assert (fired.active_at_ms, fired.starts_at_ms) == (7 * S, 7 * S)


def test_active_lists_pending_and_firing_alerts() -> None:
    table = table_of(DOWN, SLOW)
    down = table.assign(0, "a:1", series("up"))
    slow = table.assign(1, "a:1", series("x"))
    quiet = table.assign(1, "a:1", series("x", disk="b"))
    advance(table, 1 * S, [(down, 0.0)])
    advance(table, 2 * S, [(slow, 3.0), (quiet, None)], plan=1)
    found = sorted(table.active(), key=lambda alert: alert.state)
    assert [(a.state, a.rule.name, a.value, a.active_at_ms, a.starts_at_ms) for a in found] == [
        ("firing", "Down", 0.0, 1 * S, 1 * S),
        ("pending", "Slow", 3.0, 2 * S, 0),
    ]


def test_looking_at_alerts_changes_nothing() -> None:
    table = table_of(DOWN, SLOW)
    slot, slow = table.assign(0, "a:1", series("up")), table.assign(1, "a:1", series("x"))
    advance(table, 1 * S, [(slot, 0.0)])
    advance(table, 2 * S, [(slow, 3.0)], plan=1)
    before = list(table.content())
    assert len(list(table.active())) == 2
    assert table.counts() == {"pending": 1, "firing": 1}
    assert list(table.content()) == before
    assert [alert.rule.name for alert in table.report(5 * S)] == ["Down"]
    assert list(table.content()) != before


def test_a_report_after_a_resend_is_newer_than_it() -> None:
    table = table_of(DOWN)
    slot = table.assign(0, "a:1", series("up"))
    advance(table, 1 * S, [(slot, 0.0)])
    assert len(list(table.report(30 * S))) == 1
    (resolved,) = advance(table, 29 * S, [(slot, None)])
    assert (resolved.time_ms, resolved.reported_at_ms) == (29 * S, 30 * S + 1)


def test_a_resend_for_an_earlier_time_does_not_turn_reports_back() -> None:
    table = table_of(DOWN)
    slot = table.assign(0, "a:1", series("up"))
    advance(table, 30 * S, [(slot, 0.0)])
    list(table.report(10 * S))
    (resolved,) = advance(table, 30 * S, [(slot, None)])
    assert resolved.reported_at_ms == 30 * S + 1


def test_the_earliest_running_timer_says_since_when_an_alert_is_active() -> None:
    table = table_of(SLOW)
    slot = table.assign(0, "a:1", series())
    advance(table, 10 * S, [(slot, 1.0)], on_grid=True)
    advance(table, 12 * S, [(slot, None)])
    advance(table, 14 * S, [(slot, 1.0)])
    (active,) = table.active()
    assert active.active_at_ms == 10 * S


def test_a_label_by_value_makes_a_new_alert_at_each_change() -> None:
    table = table_of(BY_VALUE)
    row = table.assign(0, "a:1", series())
    assert shown(advance(table, 1, [(row, 5.0)])) == [
        ("firing", 1, {"alertname": "Level", "instance": "a:1", "level": "5"})
    ]
    assert advance(table, 2, [(row, 5.0)]) == []
    assert [
        (kind, labels["level"]) for kind, _, labels in shown(advance(table, 3, [(row, 6.0)]))
    ] == [
        ("firing", "6"),
        ("resolved", "5"),
    ]
    assert [
        (kind, labels["level"]) for kind, _, labels in shown(advance(table, 4, [(row, None)]))
    ] == [("resolved", "6")]


def test_alerts_by_value_of_two_series_are_apart_and_rows_of_other_rules_pass() -> None:
    table = table_of(BY_VALUE, DOWN)
    first = table.assign(0, "a:1", series(disk="1"))
    second = table.assign(0, "b:1", series(instance="b:1"))
    down = table.assign(1, "a:1", series("up"))
    one, other = outcome(1, [(first, 5.0)]), outcome(1, [(second, 5.0)], instance=1)
    third = outcome(1, [(down, 0.0)], plan=1)
    together = Outcome(
        frames=np.concatenate([one.frames, other.frames, third.frames]),
        instances=np.concatenate([one.instances, other.instances, third.instances]),
        plans=np.concatenate([one.plans, other.plans, third.plans]),
        times_ms=np.concatenate([one.times_ms, other.times_ms, third.times_ms]),
        starts=np.array([0, 1, 2], dtype=np.int64),
        counts=np.array([1, 1, 1], dtype=np.int64),
        errors=np.zeros(3, dtype=np.int64),
        slots=np.concatenate([one.slots, other.slots, third.slots]),
        present=np.ones(3, dtype=np.bool_),
        values=np.concatenate([one.values, other.values, third.values]),
    )
    fired = table.advance(together, INSTANCES, on_grid=False)
    assert [(t.rule.name, t.instance) for t in fired] == [
        ("Level", "a:1"),
        ("Level", "b:1"),
        ("Down", "a:1"),
    ]


def test_two_series_with_the_same_alert_labels_fail_the_evaluation() -> None:
    table = table_of(MERGING)
    rows = [table.assign(0, "a:1", series(disk="1")), table.assign(0, "a:1", series(disk="2"))]
    assert rows[0] != rows[1]
    (fired,) = advance(table, 1, [(rows[0], 1.0), (rows[1], None)])
    assert dict(fired.labels) == {"alertname": "Merged", "instance": "a:1", "disk": "any"}
    assert advance(table, 2, [(rows[0], 1.0), (rows[1], 2.0)]) == []
    assert dict(table.failures) == {"rules.yml;g;Merged;1": 1}
    # it is the same alert whichever of them holds
    assert advance(table, 3, [(rows[0], None), (rows[1], 2.0)]) == []
    (active,) = table.active()
    assert (active.value, active.series) == (2.0, series(disk="2"))
    assert [t.kind for t in advance(table, 5, [(rows[0], None), (rows[1], None)])] == ["resolved"]


def test_one_of_two_series_with_the_same_labels_may_go() -> None:
    table = table_of(MERGING)
    first = table.assign(0, "a:1", series(disk="1"))
    second = table.assign(0, "a:1", series(disk="2"))
    advance(table, 1, [(first, 1.0), (second, None)])
    table.retire(0, "a:1", series(disk="1"), first)
    assert table.expire(2) == []
    assert advance(table, 3, [(second, 2.0)]) == []
    table.retire(0, "a:1", series(disk="2"), second)
    assert [t.kind for t in table.expire(4)] == ["resolved"]


def test_a_failed_evaluation_of_an_indirect_rule_changes_nothing() -> None:
    table = table_of(BY_VALUE)
    row = table.assign(0, "a:1", series())
    advance(table, 1, [(row, 5.0)])
    assert advance(table, 2, [], error=1) == []
    assert len(list(table.active())) == 1


def test_an_alert_whose_series_are_gone_ends_when_time_passes() -> None:
    table = table_of(DOWN)
    slot = table.assign(0, "a:1", series("up"))
    advance(table, 1 * S, [(slot, 0.0)])
    table.retire(0, "a:1", series("up"), slot)
    (resolved,) = table.expire(20 * S)
    assert (resolved.kind, resolved.time_ms, resolved.frame) == ("resolved", 20 * S, -1)
    assert table.expire(21 * S) == []


def test_a_series_that_comes_back_before_that_keeps_its_alert() -> None:
    table = table_of(DOWN)
    slot = table.assign(0, "a:1", series("up"))
    advance(table, 1 * S, [(slot, 0.0)])
    table.retire(0, "a:1", series("up"), slot)
    assert table.assign(0, "a:1", series("up")) == slot
    assert table.expire(20 * S) == []
    assert len(list(table.active())) == 1


def test_keep_firing_for_holds_for_series_that_are_gone() -> None:
    table = table_of(KEPT)
    slot = table.assign(0, "a:1", series())
    advance(table, 0, [(slot, 1.0)])
    table.retire(0, "a:1", series(), slot)
    assert table.expire(10 * S) == []
    assert table.expire(69 * S) == []
    assert [t.kind for t in table.expire(70 * S)] == ["resolved"]


def test_alerts_by_value_end_with_the_last_series() -> None:
    table = table_of(BY_VALUE)
    rows = [table.assign(0, "a:1", series(disk=disk)) for disk in "12"]
    advance(table, 1, [(rows[0], 5.0), (rows[1], 6.0)])
    table.retire(0, "a:1", series(disk="1"), rows[0])
    assert table.expire(2) == []
    table.retire(0, "a:1", series(disk="2"), rows[1])
    assert [t.kind for t in table.expire(3)] == ["resolved", "resolved"]


def test_slots_are_used_again_a_quarter_of_an_hour_after_the_end() -> None:
    table = table_of(DOWN)
    slot = table.assign(0, "a:1", series("up"))
    advance(table, 0, [(slot, 0.0)])
    table.retire(0, "a:1", series("up"), slot)
    table.expire(1 * S)
    table.expire(1 * S + 15 * MIN)
    assert len(table.cut().named) == 1
    table.expire(1 * S + 15 * MIN + 1)
    assert table.cut().named == []
    assert table.assign(0, "b:1", series("up", "b:1")) == slot
    assert advance(table, 20 * MIN, [(slot, None)], instance=1) == []


def test_a_bound_series_keeps_its_slot_however_long_it_is_quiet() -> None:
    table = table_of(DOWN)
    slot = table.assign(0, "a:1", series("up"))
    advance(table, 0, [(slot, 0.0)])
    advance(table, 1, [(slot, None)])
    table.expire(60 * MIN)
    assert table.assign(0, "a:1", series("up")) == slot


def test_a_pending_alert_by_value_leaves_nothing_behind() -> None:
    table = table_of("{alert: Level, expr: x > 0, for: 1m, labels: {level: '{{ $value }}'}}")
    row = table.assign(0, "a:1", series())
    for time_s in range(300):
        advance(table, time_s * S, [(row, float(time_s))])
        table.expire(time_s * S)
    assert len(table._owners) == 1


def test_a_snapshot_goes_on_where_it_was() -> None:
    table = table_of(DOWN, SLOW, BY_VALUE)
    down = table.assign(0, "a:1", series("up"))
    slow = table.assign(1, "b:1", series(instance="b:1"))
    level = table.assign(2, "a:1", series())
    advance(table, 1 * S, [(down, 0.0)])
    advance(table, 2 * S, [(slow, 3.0)], plan=1, instance=1)
    advance(table, 2 * S, [(level, 3.0)], plan=2)
    saved = table.cut()

    # other rules, in another order
    after = table_of(BY_VALUE, SLOW, "{alert: New, expr: y > 0}")
    after.restore(saved)
    level = after.assign(0, "a:1", series())
    slow = after.assign(1, "b:1", series(instance="b:1"))
    assert advance(after, 3 * S, [(level, 3.0)]) == []
    (fired,) = advance(after, 62 * S, [(slow, 4.0)], plan=1, instance=1)
    assert (fired.kind, fired.active_at_ms, fired.starts_at_ms) == ("firing", 2 * S, 62 * S)
    assert {alert.rule.name for alert in after.active()} == {"Level", "Slow"}


def test_an_ended_alert_is_in_the_snapshot_until_it_is_forgotten() -> None:
    table = table_of(DOWN)
    slot = table.assign(0, "a:1", series("up"))
    advance(table, 1 * S, [(slot, 0.0)])
    advance(table, 2 * S, [(slot, None)])
    after = table_of(DOWN)
    after.restore(table.cut())
    assert list(after.active()) == []
    (fired,) = advance(after, 2 * S, [(after.assign(0, "a:1", series("up")), 0.0)])
    assert fired.reported_at_ms == 2 * S + 1


def test_a_restored_alert_that_no_series_claims_ends_after_the_look_back() -> None:
    table = table_of(DOWN)
    slot = table.assign(0, "a:1", series("up"))
    advance(table, 1 * S, [(slot, 0.0)])
    after = table_of(DOWN)
    after.restore(table.cut())
    assert after.expire(5 * MIN + 1 * S) == []
    assert [t.kind for t in after.expire(5 * MIN + 1 * S + 1)] == ["resolved"]


def test_a_failing_label_template_still_makes_an_alert_and_is_counted() -> None:
    table = table_of("{alert: Odd, expr: x > 0, labels: {level: '{{ gt $value 1 }}'}}")
    row = table.assign(0, "a:1", series())
    (fired,) = advance(table, 1, [(row, 5.0)])
    assert dict(fired.labels)["level"].startswith("<error expanding template: ")
    assert table._expander.failures["rules.yml;g;Odd;1"] == 1


@pytest.mark.parametrize("text", [DOWN, BY_VALUE])
def test_retiring_what_is_not_known_does_nothing(text: str) -> None:
    table = table_of(text)
    table.retire(0, "a:1", series(), 7)
    assert isinstance(next(table.active(), None), ActiveAlert | None)
