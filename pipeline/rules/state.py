"""Alert state in flat arrays, and the one loop that moves it on.

Each alert has two timers, both Prometheus' machine (inactive, pending until `for` has passed,
firing, kept firing for `keep_firing_for`): the *grid* timer sees only evaluations on the group's
own grid and so gives Prometheus' verdicts; the *arrival* timer sees every evaluation, in the order
of their times, and so gives them sooner. The alert fires when either fires and ends when both are
inactive.

A timer moves only at evaluated instants: a pending alert fires at the first evaluation at or after
`active_at + for` that still holds. Between frames that is the next instant of the grid. An
evaluation older than the last one that a timer saw does not reach it, because watermarks let the
grid run a little behind arrival.

References
----------
prometheus/rules/alerting.go: AlertingRule.Eval.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.jit import compiled
from pipeline.model import FloatArray, IntArray

ByteArray = npt.NDArray[np.uint8]
SlotArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]
CellArray = npt.NDArray[np.generic]

INACTIVE, PENDING, FIRING = 0, 1, 2
"""States, of a timer and of an alert; an alert has the higher one of its timers."""

GRID, ARRIVAL = 0, 1
"""Indices of the timers."""

BECAME_PENDING, BECAME_FIRING, RESOLVED, DROPPED = 1, 2, 3, 4
"""Kinds of transition: `RESOLVED` ends a firing alert, `DROPPED` one that was only pending."""

NEVER = np.iinfo(np.int64).min
"""A time that is not set."""


class Cells(NamedTuple):
    """The state of n alerts. Arrays of shape (n,), or (2, n) with a row for each timer."""

    state: ByteArray
    rule: SlotArray
    value: FloatArray
    """Of the last evaluation in whose result it was."""
    starts_at: IntArray
    """When it began to fire, the last time it did."""
    ended_at: IntArray
    """When it stopped firing; `NEVER` while it fires and before it ever did."""
    timer: ByteArray
    active_at: IntArray
    """Since when the timer's condition holds; meaningless while the timer is inactive."""
    keep_since: IntArray
    """Since when `keep_firing_for` alone keeps the timer firing, or `NEVER`."""
    seen: IntArray
    """Time of the last evaluation that reached the timer."""
    reported_at: IntArray
    """Time of the last report; each report of an alert is newer than the one before."""


class Durations(NamedTuple):
    """`for` and `keep_firing_for` of each rule, in ms."""

    hold: IntArray
    keep: IntArray


class Evaluations(NamedTuple):
    """Spans of rows as `pipeline.promql` puts them out, in the order of evaluation."""

    frames: IntArray
    times_ms: IntArray
    starts: IntArray
    counts: IntArray
    slots: SlotArray
    present: BoolArray
    values: FloatArray


class Events(NamedTuple):
    """Transitions, with what the alert was at each."""

    slot: SlotArray
    kind: ByteArray
    time_ms: IntArray
    """Of the evaluation that brought it."""
    reported_at: IntArray
    frame: IntArray
    value: FloatArray
    active_at: IntArray
    starts_at: IntArray


def new_cells(n: int) -> Cells:
    """`n` alerts that have never been active."""

    def never(*shape: int) -> IntArray:
        return np.full(shape, NEVER, dtype=np.int64)

    return Cells(
        state=np.zeros(n, dtype=np.uint8),
        rule=np.zeros(n, dtype=np.int32),
        value=np.zeros(n),
        starts_at=never(n),
        ended_at=never(n),
        timer=np.zeros((2, n), dtype=np.uint8),
        active_at=never(2, n),
        keep_since=never(2, n),
        seen=never(2, n),
        reported_at=never(n),
    )


def grown(cells: Cells, n: int) -> Cells:
    """`cells` with room for `n` alerts in all."""
    room = new_cells(n)
    size = len(cells.state)
    for old, new in _pairs(cells, room):
        new[..., :size] = old
    return room


def transfer(source: Cells, there: SlotArray, cells: Cells, here: SlotArray) -> None:
    """Let slots `here` be what slots `there` of `source` are, but for the number of their rule."""
    rules = cells.rule.copy()
    for old, new in _pairs(source, cells):
        new[..., here] = old[..., there]
    cells.rule[:] = rules


def clear(cells: Cells, slot: int) -> None:
    """Make `slot` one that has never been active."""
    for array, blank in _pairs(cells, new_cells(1)):
        array[..., slot] = blank[..., 0]


def _pairs(one: Cells, other: Cells) -> Iterator[tuple[CellArray, CellArray]]:
    """The same field of both, for each field."""
    fields: tuple[str, ...] = Cells._fields
    for field in fields:
        yield getattr(one, field), getattr(other, field)


def advance(cells: Cells, durations: Durations, spans: Evaluations, on_grid: bool) -> Events:
    """Move every alert on by every row, in order; the transitions in the same order."""
    n = len(spans.slots)
    events = Events(
        slot=np.empty(n, dtype=np.int32),
        kind=np.empty(n, dtype=np.uint8),
        time_ms=np.empty(n, dtype=np.int64),
        reported_at=np.empty(n, dtype=np.int64),
        frame=np.empty(n, dtype=np.int64),
        value=np.empty(n),
        active_at=np.empty(n, dtype=np.int64),
        starts_at=np.empty(n, dtype=np.int64),
    )
    count = _advance_rows(cells, durations, spans, events, on_grid)
    return Events(
        slot=events.slot[:count],
        kind=events.kind[:count],
        time_ms=events.time_ms[:count],
        reported_at=events.reported_at[:count],
        frame=events.frame[:count],
        value=events.value[:count],
        active_at=events.active_at[:count],
        starts_at=events.starts_at[:count],
    )


@compiled
def _advance_timer(
    cells: Cells, k: int, slot: int, present: bool, time_ms: int, hold: int, keep: int
) -> None:
    """One evaluation of Prometheus' machine for timer `k` of `slot`."""
    if time_ms < cells.seen[k, slot]:
        return
    cells.seen[k, slot] = time_ms
    if present:
        cells.keep_since[k, slot] = NEVER
        if cells.timer[k, slot] == INACTIVE:
            cells.timer[k, slot] = PENDING
            cells.active_at[k, slot] = time_ms
        if time_ms - cells.active_at[k, slot] >= hold:
            cells.timer[k, slot] = FIRING
        return
    if cells.timer[k, slot] == FIRING and keep > 0:
        if cells.keep_since[k, slot] == NEVER:
            cells.keep_since[k, slot] = time_ms
        if time_ms - cells.keep_since[k, slot] < keep:
            return
    cells.timer[k, slot] = INACTIVE
    cells.keep_since[k, slot] = NEVER


@compiled
def _merged_state(cells: Cells, slot: int) -> int:
    """An alert that fires goes on firing until both of its timers are inactive."""
    highest = max(cells.timer[GRID, slot], cells.timer[ARRIVAL, slot])
    if cells.state[slot] == FIRING and highest != INACTIVE:
        return FIRING
    return int(highest)


@compiled
def _active_since(cells: Cells, slot: int) -> int:
    """The earliest `active_at` of the timers that are not inactive."""
    since = np.int64(np.iinfo(np.int64).max)
    for k in range(2):
        if cells.timer[k, slot] != INACTIVE:
            since = min(since, cells.active_at[k, slot])
    return int(since)


@compiled
def _advance_rows(
    cells: Cells, durations: Durations, spans: Evaluations, events: Events, on_grid: bool
) -> int:
    n = 0
    for span in range(len(spans.starts)):
        time_ms = spans.times_ms[span]
        first = spans.starts[span]
        for row in range(first, first + spans.counts[span]):
            slot = spans.slots[row]
            present = spans.present[row]
            before = cells.state[slot]
            if before == INACTIVE and not present:
                if on_grid:
                    cells.seen[GRID, slot] = max(cells.seen[GRID, slot], time_ms)
                cells.seen[ARRIVAL, slot] = max(cells.seen[ARRIVAL, slot], time_ms)
                continue
            rule = cells.rule[slot]
            hold, keep = durations.hold[rule], durations.keep[rule]
            active_at = _active_since(cells, slot)
            if on_grid:
                _advance_timer(cells, GRID, slot, present, time_ms, hold, keep)
            _advance_timer(cells, ARRIVAL, slot, present, time_ms, hold, keep)
            if present and cells.seen[ARRIVAL, slot] == time_ms:
                cells.value[slot] = spans.values[row]
            after = _merged_state(cells, slot)
            if after == before:
                continue
            cells.state[slot] = after
            if after == FIRING:
                kind = BECAME_FIRING
                cells.starts_at[slot] = time_ms
                cells.ended_at[slot] = NEVER
            elif after == PENDING:
                kind = BECAME_PENDING
            elif before == FIRING:
                kind = RESOLVED
                cells.ended_at[slot] = time_ms
            else:
                kind = DROPPED
            if after != INACTIVE:
                active_at = _active_since(cells, slot)
            newest = max(cells.reported_at[slot] + 1, cells.seen[ARRIVAL, slot])
            cells.reported_at[slot] = newest
            events.slot[n] = slot
            events.kind[n] = kind
            events.time_ms[n] = time_ms
            events.reported_at[n] = newest
            events.frame[n] = spans.frames[span]
            events.value[n] = cells.value[slot]
            events.active_at[n] = active_at
            events.starts_at[n] = cells.starts_at[slot]
            n += 1
    return n
