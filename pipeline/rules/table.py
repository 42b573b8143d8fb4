"""All alerts of one evaluator: which slot is whose, and what moved at each evaluation.

Most rules give each series of their result one alert, whatever its value: there, the row of a
series and its alert are the same slot, and the rows of an outcome go straight into the arrays of
`pipeline.rules.state`. Two kinds of rule take a slower way, in which rows are put over to alerts
first: rules with `$value` in a label, where each change of the label's text makes another alert,
and rules whose labels make two series look the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from pipeline.model import Labels
from pipeline.promql.evaluate import Outcome
from pipeline.promql.plan import LOOKBACK_MS
from pipeline.rules import state
from pipeline.rules.alert import ActiveAlert, AlertsCut, Kind, NamedSlot, Transition
from pipeline.rules.rendering import Expander
from pipeline.rules.rule import AlertingRule
from pipeline.rules.state import Cells, Durations, Evaluations, Events, SlotArray
from pipeline.rules.templates import uses_value

RESOLVED_RETENTION_MS = 15 * 60_000
"""How long an alert is known after its end (prometheus/rules: resolvedRetention)."""

_KINDS: dict[int, Kind] = {
    state.BECAME_PENDING: "pending",
    state.BECAME_FIRING: "firing",
    state.RESOLVED: "resolved",
    state.DROPPED: "dropped",
}


class _Owner(NamedTuple):
    """Whose alert a slot is."""

    rule: int
    instance: str
    series: Labels
    labels: Labels


_NO_SLOTS: SlotArray = np.zeros(0, dtype=np.int32)

_Place = tuple[int, str]
"""A rule (index) in an instance."""


class AlertTable:
    """Implements `pipeline.promql.evaluate.Slots`: plan i of the evaluator is that of rules[i].

    A new alert is taken to have been evaluated, as nothing, at its rule's last instant on the grid:
    what arrives later than that moves it as little as an alert that was known. So it makes no
    difference whether an alert is new or was known and forgotten.

    `failures` counts, by rule key, evaluations in which two series had the same labels; Prometheus
    fails such an evaluation as a whole, and so does this: every alert stays as it was.
    """

    def __init__(self, rules: Sequence[AlertingRule], expander: Expander) -> None:
        self.rules = tuple(rules)
        self.identities = [rule.identity for rule in rules]
        self.failures: Counter[str] = Counter()
        self._expander = expander
        self._cells: Cells = state.new_cells(64)
        self._durations = Durations(
            np.array([rule.for_ms for rule in rules], dtype=np.int64),
            np.array([rule.keep_firing_for_ms for rule in rules], dtype=np.int64),
        )
        self._on_grid_ms = np.full(len(rules), state.NEVER, dtype=np.int64)
        """When each rule was last evaluated on its grid."""
        self._free = list(range(63, -1, -1))
        self._rows: dict[_Place, dict[Labels, int]] = {}
        self._alerts: dict[_Place, dict[Labels, int]] = {}
        self._owners: dict[int, _Owner] = {}
        self._alert_of_row: dict[int, int] = {}
        self._bindings: Counter[int] = Counter()
        """How many rows lead to an alert."""
        self._unbound: set[int] = set()
        """Alerts that no row leads to for good: restored, by value, or retired."""
        self._retired: set[int] = set()
        """Those of them whose series are gone."""
        self._by_value = frozenset(
            index
            for index, rule in enumerate(rules)
            if any(uses_value(text) for _, text in rule.labels)
        )
        self._indirect = set(self._by_value)
        """Rules whose rows are put over to alerts at each evaluation."""

    def assign(self, plan: int, instance: str, labels: Labels) -> int:
        rows = self._rows.setdefault((plan, instance), {})
        row = rows.get(labels)
        if row is not None:
            return row
        if plan in self._by_value:
            row = rows[labels] = self._new_slot(plan)
            return row
        name = self._expander.labels(self.rules[plan], labels, float("nan"))
        alert = self._alert(plan, instance, labels, name)
        if self._bindings[alert]:
            row = self._new_slot(plan)
            self._indirect.add(plan)
        else:
            row = alert
        rows[labels] = row
        self._alert_of_row[row] = alert
        self._bindings[alert] += 1
        self._unbound.discard(alert)
        self._retired.discard(alert)
        return row

    def retire(self, plan: int, instance: str, labels: Labels, slot: int) -> None:
        rows = self._rows.get((plan, instance), {})
        if rows.get(labels) != slot:
            return  # its instance was removed before
        del rows[labels]
        if not rows:
            del self._rows[plan, instance]
        alert = self._alert_of_row.pop(slot, None)
        if alert is None:
            self._release(slot)
            if not rows:
                self._retired.update(self._alerts.get((plan, instance), {}).values())
            return
        self._bindings[alert] -= 1
        if slot != alert:
            self._release(slot)
        if not self._bindings[alert]:
            del self._bindings[alert]
            self._unbound.add(alert)
            self._retired.add(alert)

    def advance(
        self, outcome: Outcome, instances: Sequence[str], on_grid: bool
    ) -> list[Transition]:
        """Every evaluation of `outcome`, in order; `instances` are the evaluator's.

        `on_grid` says that these are instants of the groups' own grids. Evaluations of one kind
        have to come in the order of their times; the two kinds may run apart.
        """
        spans = Evaluations(
            frames=np.ascontiguousarray(outcome.frames),
            times_ms=np.ascontiguousarray(outcome.times_ms),
            starts=np.ascontiguousarray(outcome.starts),
            counts=np.ascontiguousarray(outcome.counts),
            slots=np.ascontiguousarray(outcome.slots),
            present=np.ascontiguousarray(outcome.present),
            values=np.ascontiguousarray(outcome.values),
        )
        if self._indirect and np.isin(outcome.plans, list(self._indirect)).any():
            spans = self._put_over(outcome, spans, instances)
        transitions = list(self._told(state.advance(self._cells, self._durations, spans, on_grid)))
        if on_grid:
            np.maximum.at(self._on_grid_ms, outcome.plans, outcome.times_ms)
        return transitions

    def expire(self, time_ms: int) -> list[Transition]:
        """End alerts whose series are gone, and forget those that ended 15 minutes ago.

        A restored alert that no series claims within the look-back ends too.
        """
        cells = self._cells
        gone = [slot for slot in self._unbound if self._is_orphan(slot, time_ms)]
        gone.sort(key=self._owners.__getitem__)
        transitions: list[Transition] = []
        if gone:
            span = Evaluations(
                np.array([-1], dtype=np.int64),
                np.array([time_ms], dtype=np.int64),
                np.array([0], dtype=np.int64),
                np.array([len(gone)], dtype=np.int64),
                np.array(gone, dtype=np.int32),
                np.zeros(len(gone), dtype=np.bool_),
                np.zeros(len(gone)),
            )
            events = state.advance(cells, self._durations, span, on_grid=True)
            transitions = list(self._told(events))
        for slot in sorted(self._unbound):
            ended_at = int(cells.ended_at[slot])
            over = ended_at == state.NEVER or time_ms - ended_at > RESOLVED_RETENTION_MS
            if over and cells.state[slot] == state.INACTIVE:
                self._forget(slot)
        return transitions

    def counts(self) -> Counter[str]:
        """How many alerts are pending and firing."""
        firing = int(np.count_nonzero(self._cells.state == state.FIRING))
        active = int(np.count_nonzero(self._cells.state != state.INACTIVE))
        return Counter(pending=active - firing, firing=firing)

    def active(self) -> Iterator[ActiveAlert]:
        """Every alert that is pending or firing."""
        for _, alert in self._active():
            yield alert

    def report(self, reported_at_ms: int) -> Iterator[ActiveAlert]:
        """Every alert that is firing; what is told of it from now on is newer than this."""
        for slot, alert in self._active():
            if alert.state == "firing":
                last = int(self._cells.reported_at[slot])
                self._cells.reported_at[slot] = max(last, reported_at_ms)
                yield alert

    def _active(self) -> Iterator[tuple[int, ActiveAlert]]:
        cells = self._cells
        for slot in sorted(np.flatnonzero(cells.state).tolist(), key=self._owners.__getitem__):
            owner = self._owners[slot]
            firing = cells.state[slot] == state.FIRING
            running = cells.timer[:, slot] != state.INACTIVE
            alert = ActiveAlert(
                state="firing" if firing else "pending",
                rule=self.rules[owner.rule],
                instance=owner.instance,
                series=owner.series,
                labels=owner.labels,
                value=float(cells.value[slot]),
                active_at_ms=int(cells.active_at[running, slot].min()),
                starts_at_ms=int(cells.starts_at[slot]) if firing else 0,
            )
            yield slot, alert

    def cut(self) -> AlertsCut:
        """A copy of the state of all alerts as it is now.

        Alerts are named that are active, have ended not long ago, have no series, or are not those
        of their rows; the others follow from the evaluator's outputs.
        """
        cells = self._cells
        kept = (cells.state != state.INACTIVE) | (cells.ended_at != state.NEVER)
        places = self._alerts.items() if self._indirect else ()
        indirect = [
            slot
            for (rule, _), alerts in places
            if rule in self._indirect
            for slot in alerts.values()
        ]
        named = sorted({*np.flatnonzero(kept).tolist(), *self._unbound, *indirect})
        owners = [
            NamedSlot(slot, *self._owners[slot], retired=slot in self._retired) for slot in named
        ]
        return AlertsCut(
            rules=self.identities,
            cells=state.grown(cells, len(cells.state)),
            on_grid_ms=self._on_grid_ms.copy(),
            named=owners,
        )

    def content(self) -> Iterator[bytes]:
        """Everything that later evaluations depend on, whatever its numbering; for comparing."""
        yield self._on_grid_ms.tobytes()
        for slot, owner in sorted(self._owners.items(), key=lambda pair: pair[1]):
            marks = (slot in self._unbound, slot in self._retired, self._bindings[slot])
            yield msgspec.msgpack.encode((owner, marks))
            for array in self._cells:
                yield array[..., slot].tobytes()

    def restore(
        self, cut: AlertsCut, there: SlotArray = _NO_SLOTS, here: SlotArray = _NO_SLOTS
    ) -> None:
        """Go on where a table was at `cut`; rules that aren't here any more are left out.

        `there` and `here`: slots of the same outputs in both tables. Without them, as when the
        rules have changed, only the named alerts are restored.
        """
        rule_here = {identity: i for i, identity in enumerate(self.identities)}
        slots: list[tuple[int, int]] = []
        for i, identity in enumerate(cut.rules):
            rule = rule_here.get(identity)
            if rule is not None:
                self._on_grid_ms[rule] = cut.on_grid_ms[i]
        for alert in cut.named:
            rule = rule_here.get(cut.rules[alert.rule])
            if rule is None:
                continue
            slot = self._alert(rule, alert.instance, alert.series, alert.labels)
            self._owners[slot] = _Owner(rule, alert.instance, alert.series, alert.labels)
            if alert.retired and slot in self._unbound:
                self._retired.add(slot)
            slots.append((alert.slot, slot))
        is_alert = np.zeros(len(self._cells.state), dtype=np.bool_)
        is_alert[list(self._owners)] = True
        there, here = there[is_alert[here]], here[is_alert[here]]
        # A named alert comes last: the row with its slot need not have been that one before.
        both = np.array(slots, dtype=np.int32).reshape(-1, 2)
        there, here = np.append(there, both[:, 0]), np.append(here, both[:, 1])
        state.transfer(cut.cells, there, self._cells, here)

    def _put_over(
        self, outcome: Outcome, spans: Evaluations, instances: Sequence[str]
    ) -> Evaluations:
        """`spans` with alerts in place of rows where a rule needs it."""
        starts, counts = spans.starts.copy(), spans.counts.copy()
        slots, present, values = [spans.slots], [spans.present], [spans.values]
        end = len(spans.slots)
        for span, plan in enumerate(outcome.plans.tolist()):
            if plan not in self._indirect:
                continue
            place = (plan, instances[outcome.instances[span]])
            rows = slice(int(starts[span]), int(starts[span] + counts[span]))
            held = self._holding(place, spans, rows)
            if outcome.errors[span] or held is None:
                counts[span] = 0
                continue
            alerts = sorted(self._alerts.get(place, {}).items())
            absent = [slot for _, slot in alerts if slot not in held]
            starts[span], counts[span] = end, len(held) + len(absent)
            end += int(counts[span])
            slots.append(np.array([*held, *absent], dtype=np.int32))
            present.append(np.arange(counts[span]) < len(held))
            values.append(np.array([*held.values(), *(0.0 for _ in absent)], dtype=np.float64))
        return Evaluations(
            spans.frames, spans.times_ms, starts, counts,
            np.concatenate(slots), np.concatenate(present), np.concatenate(values),
        )  # fmt: skip

    def _holding(self, place: _Place, spans: Evaluations, rows: slice) -> dict[int, float] | None:
        """The alerts whose condition holds, with values; None if two series make the same one."""
        plan, instance = place
        series_of = {row: series for series, row in self._rows[place].items()}
        held: dict[int, float] = {}
        present = spans.present[rows]
        pairs = zip(
            spans.slots[rows][present].tolist(), spans.values[rows][present].tolist(), strict=True
        )
        for row, value in pairs:
            series = series_of[row]
            alert = self._alert_of_row.get(row)
            if alert is None:
                name = self._expander.labels(self.rules[plan], series, value)
                alert = self._alert(plan, instance, series, name)
            if alert in held:
                self.failures[self.rules[plan].key] += 1
                return None
            held[alert] = value
            self._owners[alert] = self._owners[alert]._replace(series=series)
        return held

    def _told(self, events: Events) -> Iterator[Transition]:
        for i in range(len(events.slot)):
            owner = self._owners[int(events.slot[i])]
            yield Transition(
                kind=_KINDS[int(events.kind[i])],
                rule=self.rules[owner.rule],
                instance=owner.instance,
                series=owner.series,
                labels=owner.labels,
                time_ms=int(events.time_ms[i]),
                reported_at_ms=int(events.reported_at[i]),
                frame=int(events.frame[i]),
                value=float(events.value[i]),
                active_at_ms=int(events.active_at[i]),
                starts_at_ms=int(events.starts_at[i]),
            )

    def _is_orphan(self, slot: int, time_ms: int) -> bool:
        if self._cells.state[slot] == state.INACTIVE:
            return False
        if slot in self._retired:
            return True
        owner = self._owners[slot]
        if self._rows.get((owner.rule, owner.instance)) and owner.rule in self._by_value:
            return False
        return bool(time_ms - self._cells.seen[state.ARRIVAL, slot] > LOOKBACK_MS)

    def _alert(self, rule: int, instance: str, series: Labels, labels: Labels) -> int:
        """The slot of an alert, known or new."""
        alerts = self._alerts.setdefault((rule, instance), {})
        slot = alerts.get(labels)
        if slot is None:
            slot = alerts[labels] = self._new_slot(rule)
            self._owners[slot] = _Owner(rule, instance, series, labels)
            self._unbound.add(slot)
        return slot

    def _forget(self, slot: int) -> None:
        owner = self._owners.pop(slot)
        alerts = self._alerts[owner.rule, owner.instance]
        del alerts[owner.labels]
        if not alerts:
            del self._alerts[owner.rule, owner.instance]
        self._unbound.discard(slot)
        self._retired.discard(slot)
        self._bindings.pop(slot, None)
        self._release(slot)

    def _new_slot(self, rule: int) -> int:
        if not self._free:
            size = len(self._cells.state)
            self._cells = state.grown(self._cells, 2 * size)
            self._free = list(range(2 * size - 1, size - 1, -1))
        slot = self._free.pop()
        self._cells.rule[slot] = rule
        self._cells.seen[:, slot] = self._on_grid_ms[rule]
        return slot

    def _release(self, slot: int) -> None:
        state.clear(self._cells, slot)
        self._free.append(slot)
