"""The alert machine on hand-written sequences; expected times are worked out beside each."""

import numpy as np
import pytest

from pipeline.rules import state
from pipeline.rules.state import Cells, Durations, Evaluations, Events

S = 1000
MIN = 60 * S


def spans(
    *evaluations: tuple[int, int, bool] | tuple[int, int, bool, float], frame: int = 0
) -> Evaluations:
    """One span of one row for each (slot, time in s, present, value)."""
    n = len(evaluations)
    return Evaluations(
        frames=np.full(n, frame, dtype=np.int64),
        times_ms=np.array([e[1] * S for e in evaluations], dtype=np.int64),
        starts=np.arange(n, dtype=np.int64),
        counts=np.ones(n, dtype=np.int64),
        slots=np.array([e[0] for e in evaluations], dtype=np.int32),
        present=np.array([e[2] for e in evaluations]),
        values=np.array([e[3] if len(e) > 3 else 1.0 for e in evaluations], dtype=np.float64),
    )


class Machine:
    """One rule, a few slots."""

    def __init__(self, hold_s: int = 0, keep_s: int = 0) -> None:
        self.cells: Cells = state.new_cells(4)
        self.durations = Durations(
            np.array([hold_s * S], dtype=np.int64), np.array([keep_s * S], dtype=np.int64)
        )

    def grid(self, time_s: int, present: bool, value: float = 1.0) -> list[tuple[str, int]]:
        return self._told(spans((0, time_s, present, value)), on_grid=True)

    def arrival(self, time_s: int, present: bool, value: float = 1.0) -> list[tuple[str, int]]:
        return self._told(spans((0, time_s, present, value)), on_grid=False)

    def _told(self, evaluations: Evaluations, on_grid: bool) -> list[tuple[str, int]]:
        events = state.advance(self.cells, self.durations, evaluations, on_grid)
        names = {1: "pending", 2: "firing", 3: "resolved", 4: "dropped"}
        return [
            (names[int(kind)], int(time_ms) // S)
            for kind, time_ms in zip(events.kind, events.time_ms, strict=True)
        ]


def test_fires_at_once_without_for() -> None:
    machine = Machine()
    assert machine.arrival(10, True) == [("firing", 10)]
    assert machine.arrival(11, True) == []
    assert machine.arrival(12, False) == [("resolved", 12)]
    assert machine.cells.ended_at[0] == 12 * S


def test_is_pending_until_for_has_passed_exactly() -> None:
    machine = Machine(hold_s=60)
    assert machine.arrival(100, True) == [("pending", 100)]
    assert machine.arrival(159, True) == []
    assert machine.arrival(160, True) == [("firing", 160)]
    assert machine.cells.starts_at[0] == 160 * S


def test_a_pending_alert_whose_condition_ends_is_dropped_and_starts_again() -> None:
    machine = Machine(hold_s=60)
    machine.arrival(100, True)
    assert machine.arrival(130, False) == [("dropped", 130)]
    assert machine.cells.ended_at[0] == state.NEVER
    assert machine.arrival(140, True) == [("pending", 140)]
    assert machine.arrival(199, True) == []
    assert machine.arrival(200, True) == [("firing", 200)]


def test_keeps_firing_for_its_time_after_the_condition_ended() -> None:
    machine = Machine(keep_s=60)
    machine.arrival(10, True)
    assert machine.arrival(20, False) == []
    assert machine.arrival(79, False) == []
    assert machine.arrival(80, False) == [("resolved", 80)]


def test_keep_firing_for_starts_again_when_the_condition_comes_back() -> None:
    machine = Machine(keep_s=60)
    machine.arrival(10, True)
    machine.arrival(20, False)
    assert machine.arrival(50, True) == []
    machine.arrival(70, False)
    assert machine.arrival(129, False) == []
    assert machine.arrival(130, False) == [("resolved", 130)]
    assert machine.cells.keep_since[state.ARRIVAL, 0] == state.NEVER


def test_keep_firing_for_does_not_keep_a_pending_alert() -> None:
    machine = Machine(hold_s=60, keep_s=60)
    machine.arrival(10, True)
    assert machine.arrival(20, False) == [("dropped", 20)]


def test_the_grid_alone_gives_the_verdict_of_prometheus() -> None:
    machine = Machine(hold_s=60)
    assert machine.grid(0, True) == [("pending", 0)]
    assert machine.grid(15, True) == []
    assert machine.grid(60, True) == [("firing", 60)]
    assert machine.grid(75, False) == [("resolved", 75)]


def test_a_gap_between_grid_instants_does_not_stop_the_grid_timer() -> None:
    machine = Machine(hold_s=60)
    machine.grid(0, True)
    machine.arrival(5, False)
    machine.arrival(10, True)
    machine.grid(15, True)
    # the arrival timer started again at 10 and would fire at 70
    assert machine.grid(60, True) == [("firing", 60)]
    assert machine.cells.active_at[state.ARRIVAL, 0] == 10 * S
    assert machine.cells.active_at[state.GRID, 0] == 0


def test_a_grid_instant_fires_what_elapsed_between_frames() -> None:
    machine = Machine(hold_s=60)
    machine.arrival(7, True)
    assert machine.grid(15, True) == []
    # the grid timer would fire at 75; the arrival timer is active since 7
    assert machine.grid(70, True) == [("firing", 70)]


def test_an_arrival_alert_ends_only_when_the_grid_agrees() -> None:
    machine = Machine()
    assert machine.arrival(10, True) == [("firing", 10)]
    machine.grid(15, True)
    assert machine.arrival(16, False) == []
    assert machine.grid(30, False) == [("resolved", 30)]


def test_a_blip_between_grid_instants_fires_and_resolves() -> None:
    machine = Machine()
    machine.grid(0, False)
    assert machine.arrival(5, True) == [("firing", 5)]
    assert machine.arrival(6, False) == [("resolved", 6)]
    assert machine.grid(15, False) == []


def test_the_grid_ends_an_alert_that_no_frame_touches_any_more() -> None:
    machine = Machine()
    machine.arrival(10, True)
    assert machine.grid(15, False) == [("resolved", 15)]


def test_a_grid_instant_behind_arrival_does_not_turn_the_arrival_timer_back() -> None:
    machine = Machine(hold_s=60)
    machine.arrival(20, True)
    machine.arrival(21, True)
    machine.grid(15, False)
    assert machine.cells.timer[state.ARRIVAL, 0] == state.PENDING
    assert machine.cells.active_at[state.ARRIVAL, 0] == 20 * S


def test_a_late_grid_instant_does_not_start_a_timer_that_saw_a_newer_absence() -> None:
    machine = Machine(hold_s=60)
    machine.arrival(20, False)
    assert machine.grid(15, True) == [("pending", 15)]
    assert machine.cells.timer[state.ARRIVAL, 0] == state.INACTIVE


def test_a_grid_evaluation_older_than_the_last_on_the_grid_is_ignored() -> None:
    machine = Machine()
    machine.grid(30, False)
    assert machine.grid(15, True) == []


def test_an_evaluation_at_the_same_instant_counts() -> None:
    """Two feeds of an instance may have samples of one instant."""
    machine = Machine()
    machine.arrival(10, True)
    assert machine.arrival(10, False) == [("resolved", 10)]


def test_a_firing_alert_stays_firing_while_one_timer_is_pending_again() -> None:
    machine = Machine(hold_s=60)
    machine.grid(0, True)
    machine.arrival(0, True)
    machine.grid(60, True)
    machine.arrival(61, False)
    machine.arrival(80, True)
    # the grid sees 75, before arrival's 80: its own timer ends, arrival's is pending since 80
    assert machine.grid(75, False) == []
    assert machine.cells.state[0] == state.FIRING
    assert machine.arrival(81, False) == [("resolved", 81)]


def test_reports_are_in_order_though_grid_and_arrival_run_apart() -> None:
    machine = Machine()
    evaluate = state.advance
    reported: list[int] = []
    for time_s, present, on_grid in ((9, True, False), (11, False, False), (10, True, True)):
        events = evaluate(machine.cells, machine.durations, spans((0, time_s, present)), on_grid)
        reported += events.reported_at.tolist()
    # the grid's verdict of 10 comes after arrival's of 11
    assert reported == [9 * S, 11 * S, 11 * S + 1]


def test_events_carry_value_frame_and_times() -> None:
    machine = Machine(hold_s=10)
    machine.arrival(0, True, 5.0)
    events = state.advance(
        machine.cells, machine.durations, spans((0, 10, True, 7.5), frame=3), on_grid=False
    )
    assert (events.value[0], events.frame[0], events.active_at[0]) == (7.5, 3, 0)
    assert (events.starts_at[0], events.slot[0]) == (10 * S, 0)
    events = state.advance(
        machine.cells, machine.durations, spans((0, 20, False, -1.0)), on_grid=False
    )
    assert (events.value[0], events.active_at[0], events.starts_at[0]) == (7.5, 0, 10 * S)


def test_the_value_is_that_of_the_newest_evaluation() -> None:
    machine = Machine()
    machine.arrival(20, True, 2.0)
    machine.grid(15, True, 1.0)
    assert machine.cells.value[0] == 2.0


def test_slots_do_not_touch_each_other() -> None:
    machine = Machine()
    events: Events = state.advance(
        machine.cells,
        machine.durations,
        spans((0, 1, True), (1, 1, False), (2, 1, True), (0, 2, False)),
        on_grid=False,
    )
    assert events.slot.tolist() == [0, 2, 0]
    assert events.kind.tolist() == [state.BECAME_FIRING, state.BECAME_FIRING, state.RESOLVED]
    assert machine.cells.state.tolist() == [0, 0, 2, 0]


def test_a_failed_evaluation_has_no_rows_and_changes_nothing() -> None:
    machine = Machine()
    machine.arrival(1, True)
    failed = spans((0, 2, False))._replace(counts=np.zeros(1, dtype=np.int64))
    assert len(state.advance(machine.cells, machine.durations, failed, on_grid=True).slot) == 0
    assert machine.cells.state[0] == state.FIRING


def test_growing_keeps_what_is_there() -> None:
    machine = Machine()
    machine.arrival(1, True, 3.0)
    cells = state.grown(machine.cells, 9)
    assert cells.timer.shape == (2, 9)
    assert (cells.state[0], cells.value[0], cells.seen[state.ARRIVAL, 0]) == (2, 3.0, 1 * S)
    assert cells.seen[state.ARRIVAL, 8] == state.NEVER


def test_a_cleared_slot_has_never_been_active() -> None:
    machine = Machine()
    machine.arrival(1, True, 3.0)
    state.clear(machine.cells, 0)
    blank = state.new_cells(1)
    for name in Cells._fields:
        assert (
            getattr(machine.cells, name)[..., 0].tolist() == getattr(blank, name)[..., 0].tolist()
        )


@pytest.mark.parametrize("on_grid", [True, False])
def test_nothing_happens_while_nothing_is_present(on_grid: bool) -> None:
    machine = Machine()
    events = state.advance(
        machine.cells, machine.durations, spans((0, 5, False), (0, 6, False)), on_grid
    )
    assert len(events.slot) == 0
    assert machine.cells.seen[state.ARRIVAL, 0] == 6 * S
    assert machine.cells.seen[state.GRID, 0] == (6 * S if on_grid else state.NEVER)
