"""What waits for one partition in memory, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

from pipeline.collect.spool import Batch, Position, Taken
from pipeline.model import Frame, SeriesDictionary, Target, Tick

_FRAME_HEADER = 32
RETRY_FIRST, RETRY_MOST = 0.2, 2.0


class Lane:
    """Frames and ticks, and what of them is under way to Kafka."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.bytes = 0
        """Of the frames that wait."""
        self.under_way: Batch = ()
        """Frames that no longer wait but aren't acknowledged."""
        self.dictionaries: Mapping[int, SeriesDictionary] = {}
        """That those need and Kafka doesn't have."""
        self.kept: Position | None = None
        """Where those frames are on disk, if they are."""
        self.taken: Taken | None = None
        """What came from disk and isn't acknowledged."""
        self.to_disk = False
        """Whether what comes goes to disk."""
        self.holds: list[int] = []
        """Times of frames that are still to come."""
        self.filled = asyncio.Event()
        self.full = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.retry_pause = RETRY_FIRST
        self._waiting: deque[tuple[Target, Frame] | Tick] = deque()
        self._ticks = 0

    def wake(self) -> None:
        """There is something to send."""
        self.idle.clear()
        self.filled.set()

    def put(self, target: Target, frame: Frame) -> None:
        self._waiting.append((target, frame))
        self.bytes += size_of(frame)

    def put_tick(self, tick: Tick) -> None:
        """Add a tick, in place of one that is last: it says the same, and more."""
        if self._waiting and isinstance(self._waiting[-1], Tick):
            self._waiting.pop()
            self._ticks -= 1
        self._waiting.append(tick)
        self._ticks += 1

    @property
    def empty(self) -> bool:
        return not self._waiting

    @property
    def tick(self) -> Tick | None:
        """The tick that is next, if one is."""
        first = self._waiting[0] if self._waiting else None
        return first if isinstance(first, Tick) else None

    @property
    def oldest_ms(self) -> int | None:
        """Time of the oldest frame that isn't acknowledged."""
        if self.under_way:
            return self.under_way[0][1].time_ms
        frames = (item for item in self._waiting if not isinstance(item, Tick))
        return next((frame.time_ms for _, frame in frames), None)

    def next_frames(self, max_bytes: int) -> list[tuple[Target, Frame]]:
        """Take the next frames, about `max_bytes` of them; none if the last tick comes first.

        A tick before another one is left out: the later one says the same. So a lane that has
        fallen behind catches up with full records.
        """
        batch: list[tuple[Target, Frame]] = []
        size = 0
        while self._waiting and size < max_bytes:
            item = self._waiting[0]
            if not isinstance(item, Tick):
                batch.append(item)
                size += size_of(item[1])
            elif self._ticks == 1:
                break
            else:
                self._ticks -= 1
            self._waiting.popleft()
        self.bytes -= size
        return batch

    def put_back(self, batch: Batch) -> None:
        """Undo `next_frames`."""
        self._waiting.extendleft(reversed(batch))
        self.bytes += sum(size_of(frame) for _, frame in batch)

    def done_with(self, tick: Tick) -> None:
        """Take `tick` away, unless a later one has its place."""
        if self._waiting and self._waiting[0] is tick:
            self._waiting.popleft()
            self._ticks -= 1

    def drop_oldest(self) -> tuple[Target, Frame] | None:
        """Take the oldest frame away."""
        for position, item in enumerate(self._waiting):
            if not isinstance(item, Tick):
                del self._waiting[position]
                self.bytes -= size_of(item[1])
                return item
        return None


def size_of(frame: Frame) -> int:
    """What a frame takes of a record."""
    return _FRAME_HEADER + frame.values.nbytes
