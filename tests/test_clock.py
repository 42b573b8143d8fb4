from __future__ import annotations

import asyncio
import time

import pytest

from pipeline import clock as clock_module
from pipeline.clock import Clock
from pipeline.settings import ClockSettings

ORIGIN = 1_700_000_000.0


@pytest.fixture
def wall(monkeypatch):
    """A wall clock that stands at 10 s after the origin, and the naps taken."""
    naps = []

    async def nap(seconds):
        naps.append(seconds)

    monkeypatch.setattr(time, "time", lambda: ORIGIN + 10.0)
    monkeypatch.setattr(clock_module.asyncio, "sleep", nap)
    return naps


@pytest.mark.usefixtures("wall")
def test_event_time_is_the_wall_clock_at_speed_1():
    clock = Clock(ClockSettings())
    assert clock.now() == ORIGIN + 10
    assert clock.now_ms() == 1_700_000_010_000


@pytest.mark.usefixtures("wall")
def test_event_time_runs_faster_from_the_origin_on():
    clock = Clock(ClockSettings(speed=60.0, origin=ORIGIN))
    assert clock.now() == ORIGIN + 600
    assert clock.wall(30.0) == 0.5


async def test_sleeping_takes_less_of_the_wall_clock(wall):
    clock = Clock(ClockSettings(speed=60.0, origin=ORIGIN))
    await clock.sleep(30.0)
    await clock.sleep_until(ORIGIN + 660)
    assert wall == [0.5, 1.0]


async def test_a_time_that_has_passed_is_not_waited_for(wall):
    clock = Clock(ClockSettings(speed=60.0, origin=ORIGIN))
    await clock.sleep_until(ORIGIN)
    await clock.sleep(-1.0)
    assert wall == [0.0, 0.0]


async def test_sleeping_lets_others_run():
    clock = Clock(ClockSettings(speed=1000.0, origin=ORIGIN))
    ran = asyncio.Event()
    other = asyncio.create_task(_set(ran))
    await clock.sleep(1.0)
    assert ran.is_set()
    await other


async def _set(event):
    event.set()
