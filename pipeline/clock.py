"""Event time for the shells: the wall clock, or a faster one for a simulation.

Cores never read a clock; they are given a time. A shell makes one `Clock` from the settings and
passes on what it says.
"""

from __future__ import annotations

import asyncio
import time

from pipeline.settings import ClockSettings


class Clock:
    """Event time = origin + (wall - origin) * speed."""

    def __init__(self, settings: ClockSettings) -> None:
        self.speed = settings.speed
        self._origin = settings.origin

    def now(self) -> float:
        """Event time in Unix seconds."""
        wall = time.time()
        if self.speed == 1.0:
            return wall
        return self._origin + (wall - self._origin) * self.speed

    def now_ms(self) -> int:
        return int(self.now() * 1000)

    def wall(self, duration: float) -> float:
        """How long `duration` seconds of event time take on the wall clock."""
        return duration / self.speed

    async def sleep(self, duration: float) -> None:
        """Return after `duration` seconds of event time."""
        await asyncio.sleep(max(0.0, self.wall(duration)))

    async def sleep_until(self, when: float) -> None:
        """Return when event time has reached `when`; at once when it has passed."""
        await self.sleep(when - self.now())
