"""Whether the worker is there: its marks "evaluated up to t", for each partition.

A mark is believed for a lifetime, by both of its times: when it was heard, and the event time that
it names. So a worker that is gone, one that lags, and one whose clock is wrong all count as absent.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Mark(msgspec.Struct, frozen=True):
    """`time_ms` is the event time up to which a partition was evaluated.

    `since_ms` is when the worker began to be heard without a gap.
    """

    time_ms: int
    heard_ms: int
    since_ms: int


class Handover(msgspec.Struct, frozen=True):
    """The worker was lost in a partition, or is back in it."""

    partition: int
    worker_decides: bool


class Marks:
    """The newest mark of every partition. Changed in place, by one owner."""

    def __init__(self, partitions: int, lifetime_ms: int, now_ms: int) -> None:
        self.partitions = range(partitions)
        self._lifetime_ms = lifetime_ms
        self._marks: dict[int, Mark] = {}
        self.awake_ms = now_ms
        self._lost: set[int] = set()

    def wake(self, now_ms: int) -> None:
        """Who has just started, or has slept, has heard nobody: a lifetime of patience."""
        self.awake_ms = now_ms

    def hear(self, partition: int, time_ms: int, now_ms: int) -> None:
        """Take in a mark; an older one is left out, unless the one held is not believed any more.

        A worker that replays the past says old times, and one whose clock was wrong said future
        ones: neither may hide who is right now.
        """
        if partition not in self.partitions:
            return
        held = self._marks.get(partition)
        if held is None or not self._believed(held, now_ms):
            self._marks[partition] = Mark(time_ms, now_ms, now_ms)
        elif time_ms > held.time_ms:
            self._marks[partition] = Mark(time_ms, now_ms, held.since_ms)

    def heard(self, partitions: Iterable[int], now_ms: int) -> bool:
        """Whether the worker is there in all of `partitions`, by its own word."""
        return all(
            partition in self._marks and self._believed(self._marks[partition], now_ms)
            for partition in partitions
        )

    def fresh(self, partitions: Iterable[int], now_ms: int) -> bool:
        """Whether the worker decides: it was heard, or there was no time yet to hear it."""
        patient = 0 <= now_ms - self.awake_ms < self._lifetime_ms
        return patient or self.heard(partitions, now_ms)

    def since_ms(self, partitions: Iterable[int]) -> int:
        """Since when the worker has been heard in all of `partitions`; 0: in none."""
        return max((self._marks[p].since_ms for p in partitions if p in self._marks), default=0)

    def lapse_ms(self, partitions: Iterable[int]) -> int:
        """When the worker stops to decide in `partitions` if no further mark comes."""
        marks = [self._marks.get(partition) for partition in partitions]
        ends = [0 if mark is None else min(mark.time_ms, mark.heard_ms) for mark in marks]
        return max(self.awake_ms, min(ends)) + self._lifetime_ms

    def next_lapse_ms(self) -> int | None:
        """The first time at which `handovers` may have a loss to tell; None: nobody to lose."""
        there = [partition for partition in self._marks if partition not in self._lost]
        return min((self.lapse_ms([partition]) for partition in there), default=None)

    def handovers(self, now_ms: int) -> list[Handover]:
        """Who was lost and who came back since the last call; who never was there is not lost."""
        changed = []
        for partition in self._marks:
            decides = self.fresh([partition], now_ms)
            if decides is (partition in self._lost):
                changed.append(Handover(partition, decides))
                self._lost ^= {partition}
        return changed

    def age_ms(self, partition: int, now_ms: int) -> int | None:
        """How far the worker's word on a partition lies back; None: it was never heard."""
        mark = self._marks.get(partition)
        return None if mark is None else now_ms - min(mark.time_ms, mark.heard_ms)

    def _believed(self, mark: Mark, now_ms: int) -> bool:
        off_ms = max(abs(now_ms - mark.time_ms), abs(now_ms - mark.heard_ms))
        return off_ms < self._lifetime_ms
