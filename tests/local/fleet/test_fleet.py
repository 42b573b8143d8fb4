import asyncio
import contextlib
import itertools
import time

import pytest

from pipeline.clock import Clock
from pipeline.local.fleet.fleet import Fleet, UnknownFaultError
from pipeline.local.fleet.model import FleetModel
from pipeline.local.fleet.sessions import ENDPOINTS
from pipeline.settings import ClockSettings


class SetClock(Clock):
    """A clock that stands where it was put; sleeping moves it."""

    def __init__(self, now):
        super().__init__(ClockSettings())
        self.time = now

    def now(self):
        return self.time

    async def sleep(self, duration):
        await asyncio.sleep(0)
        self.time += max(0.0, duration)


@pytest.fixture
def clock():
    return SetClock(1_767_604_530.25)


@pytest.fixture
def fleet(clock):
    return Fleet(FleetModel(5, 1), clock)


def test_fault_ends_by_itself(fleet, clock):
    fleet.break_("latency", None, 60.0)
    clock.time += 59.9
    assert [fault.name for fault in fleet.faults()] == ["latency"]
    assert fleet.state().network.p99 > 0.2
    clock.time += 0.2
    assert fleet.faults() == []
    assert fleet.state().network.p99 < 0.07


def test_only_the_faults_that_were_named_end(fleet):
    fleet.break_("latency", "api-000", None)
    fleet.break_("latency", "mobile-000", None)
    fleet.break_("tps-drop", None, None)
    assert [fault.node for fault in fleet.mend("latency", "api-000")] == [3]
    assert [fault.name for fault in fleet.faults()] == ["latency", "tps-drop"]
    assert len(fleet.mend()) == 2
    assert fleet.faults() == []
    assert fleet.mend() == []


def test_node_down_strikes_one_node_when_none_is_named(fleet):
    assert fleet.break_("node-down", None, None).node == 0
    assert fleet.break_("latency", None, None).node is None


def test_counters_go_on_over_a_fault_and_its_early_end(fleet, clock):
    seen = []
    for action in (
        lambda: None,
        lambda: fleet.break_("tps-drop", None, 600.0),
        lambda: None,
        lambda: fleet.mend("tps-drop"),
        lambda: None,
    ):
        seen.append(fleet.state().network.transactions)
        action()
        assert fleet.state().network.transactions == pytest.approx(seen[-1], abs=2)
        clock.time += 10.0
    rates = [(b - a) / 10 for a, b in itertools.pairwise(seen)]
    assert rates[0] > 2.3e6
    assert rates[1] < 1.3e6
    assert rates[2] < 1.3e6
    assert rates[3] > 2.3e6


@pytest.mark.parametrize(
    ("name", "node", "message"),
    [
        ("meteor", None, r"fault: expected one of node-down, .*, got 'meteor'"),
        ("latency", "validator-9", r"node: expected one of validator-000, .*, got 'validator-9'"),
    ],
)
def test_unknown_fault_and_node_are_refused_with_the_known_ones(fleet, name, node, message):
    with pytest.raises(UnknownFaultError, match=message):
        fleet.break_(name, node, None)
    with pytest.raises(UnknownFaultError, match=message):
        fleet.mend(name, node)
    assert fleet.faults() == []


async def _shown(fleet, running_ahead_s):
    """The numbers of five seconds; after the second one the clock jumps."""
    running = asyncio.create_task(fleet.run())
    numbers = []
    for i in range(5):
        numbers.append((await fleet.next_second()).number)
        if i == 1:
            fleet.clock.time += running_ahead_s
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return [number - 1_767_604_530 for number in numbers]


async def test_second_that_is_a_little_late_is_still_shown(fleet):
    assert await _shown(fleet, 1.5) == [1, 2, 3, 4, 5]
    assert fleet.skipped == 0


async def test_seconds_long_past_are_left_out_and_counted(fleet):
    numbers = await _shown(fleet, 60.0)
    assert numbers[:2] == [1, 2]
    assert numbers[-1] > 60
    assert fleet.skipped == numbers[-1] - len(numbers)
    assert sorted(set(numbers)) == numbers


def test_message_is_rendered_once_for_all_who_say_the_same(clock):
    second = Fleet(FleetModel(3, 1), clock)._second
    shared = ENDPOINTS["/api/v11/live/stream"].messages[0]
    own = ENDPOINTS["/ws/metrics"].messages[0]
    assert second.bytes_of(shared, 0) is second.bytes_of(shared, 2)
    assert second.bytes_of(own, 0) is second.bytes_of(own, 0)
    assert second.bytes_of(own, 0) != second.bytes_of(own, 2)


def test_speed_is_that_of_the_clock():
    fleet = Fleet(FleetModel(1, 1), Clock(ClockSettings(speed=3600.0, origin=time.time() - 1.0)))
    assert fleet.state().time_ms / 1000 > time.time() + 3000
