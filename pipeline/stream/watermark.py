"""How far event time has come in a partition, told by the collectors' ticks alone."""

from __future__ import annotations

import msgspec

from pipeline.model import Tick


class WatermarkCut(msgspec.Struct, frozen=True):
    """How far a watermark had come, and the last tick of each collector that was heard."""

    time_ms: int | None
    ticks: dict[str, int]


class Watermark:
    """The lowest tick of the collectors that are heard.

    A collector is heard while its last tick is at most `timeout_ms` behind the newest tick of any
    collector. That is a comparison of event times, so a replay at any speed gives the same
    watermarks. A watermark never goes back.
    """

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._ticks: dict[str, int] = {}
        self.time_ms: int | None = None

    def advance(self, tick: Tick) -> bool:
        """Take in `tick`; true if the watermark has moved."""
        last = self._ticks.get(tick.collector)
        if last is not None and tick.time_ms <= last:
            return False
        self._ticks[tick.collector] = tick.time_ms
        newest = max(self._ticks.values())
        self._ticks = {
            name: time_ms
            for name, time_ms in self._ticks.items()
            if time_ms >= newest - self._timeout_ms
        }
        lowest = min(self._ticks.values())
        if self.time_ms is not None and lowest <= self.time_ms:
            return False
        self.time_ms = lowest
        return True

    def cut(self) -> WatermarkCut:
        return WatermarkCut(self.time_ms, dict(self._ticks))

    def restore(self, cut: WatermarkCut) -> None:
        """Go on where another was at `cut`."""
        self.time_ms, self._ticks = cut.time_ms, dict(cut.ticks)
