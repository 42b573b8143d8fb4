"""Frames to records: put together by partition, in order, bounded while Kafka is away.

Each partition is a lane with one record under way at a time, so its order is the order of `put`. A
frame waits at most `batch_ms` for others, and for the record before. Before a record come the
dictionaries it needs; behind everything up to its time comes the tick of each second.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pipeline.clock import Clock
from pipeline.codec import dictionary_key, encode_dictionary, encode_frames, encode_tick
from pipeline.collect import metrics
from pipeline.collect.dictionaries import UnsentDictionaries
from pipeline.collect.frames import Built
from pipeline.collect.producer import Producer, SendError
from pipeline.model import Frame, Target, Tick, partition_of
from pipeline.selfmetrics import fields
from pipeline.settings import Settings

log = logging.getLogger(__name__)

TICK_INTERVAL = 1.0
MIN_TICK_WALL = 0.05
"""A simulation that runs fast doesn't tick more often than this on the wall clock."""
MAX_HOLD_MS = 2000
"""A tick waits this long, in event time, for a scrape under way, but no longer: a target that
hangs must not stop the clock for the others of its partition."""
_RETRY_FIRST, _RETRY_MOST = 0.2, 2.0
_FRAME_HEADER = 32


class _Lane:
    """What waits for one partition, in order."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Target, Frame] | Tick] = deque()
        self.ticks = 0
        """How many of those are ticks."""
        self.bytes = 0
        self.filled = asyncio.Event()
        self.full = asyncio.Event()
        self.holds: list[int] = []
        """Times of frames that are still to come."""
        self.idle = asyncio.Event()
        self.idle.set()


class Batcher:
    """Sends frames, dictionaries and ticks; `run` it as a task."""

    def __init__(self, producer: Producer, settings: Settings, clock: Clock, name: str) -> None:
        self._producer = producer
        self._telemetry, self._series = settings.topic("telemetry"), settings.topic("series")
        self._batch_bytes = settings.collect.batch_bytes
        self._batch_wait = settings.collect.batch_ms / 1000
        self._buffer_bytes = settings.collect.buffer_bytes
        self._clock = clock
        self._name = name
        self._lanes = [_Lane() for _ in range(settings.kafka.partitions)]
        self._unsent = UnsentDictionaries()
        self._bytes = 0
        self._away = False
        """Whether the last record wasn't taken."""

    def put(self, target: Target, built: Built) -> None:
        """Send these frames, in order, soon."""
        lane = self._lane(target)
        for dictionary in built.dictionaries:
            self._unsent.add(dictionary)
        for frame in built.frames:
            self._unsent.enqueued(frame)
            lane.waiting.append((target, frame))
            self._count(lane, _size(frame))
        if built.frames:
            lane.idle.clear()
            lane.filled.set()
            if lane.bytes >= self._batch_bytes:
                lane.full.set()
        while self._bytes > self._buffer_bytes:
            self._drop_oldest()

    @contextmanager
    def holding(self, target: Target, time_ms: int) -> Iterator[None]:
        """Within this, a frame of `target` with this time is still to come: ticks wait for it."""
        holds = self._lane(target).holds
        holds.append(time_ms)
        try:
            yield
        finally:
            holds.remove(time_ms)

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for partition in range(len(self._lanes)):
                tasks.create_task(self._drain(partition))
            tasks.create_task(self._tick())

    async def flush(self) -> None:
        """Return when nothing waits any more."""
        for lane in self._lanes:
            await lane.idle.wait()

    def _lane(self, target: Target) -> _Lane:
        return self._lanes[partition_of(target.instance, len(self._lanes))]

    async def _tick(self) -> None:
        pause = max(TICK_INTERVAL, MIN_TICK_WALL * self._clock.speed)
        while True:
            await self._clock.sleep(pause)
            now_ms = self._clock.now_ms()
            for lane in self._lanes:
                time_ms = max(min([now_ms, *lane.holds]), now_ms - MAX_HOLD_MS)
                if lane.waiting and isinstance(lane.waiting[-1], Tick):
                    lane.waiting.pop()
                    lane.ticks -= 1
                lane.waiting.append(Tick(self._name, time_ms))
                lane.ticks += 1
                lane.idle.clear()
                lane.filled.set()

    async def _drain(self, partition: int) -> None:
        lane = self._lanes[partition]
        while True:
            await lane.filled.wait()
            ticks = bool(lane.waiting) and isinstance(lane.waiting[0], Tick)
            if lane.bytes < self._batch_bytes and not ticks:
                lane.full.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(lane.full.wait(), self._batch_wait)
            await self._send_some(partition, lane)
            if not lane.waiting:
                lane.filled.clear()
                lane.idle.set()

    async def _send_some(self, partition: int, lane: _Lane) -> None:
        """Send what fits one record, or the last tick if that is next.

        A tick before another one is left out: the later one says the same. So a lane that has
        fallen behind catches up with full records.
        """
        batch: list[tuple[Target, Frame]] = []
        size = 0
        while lane.waiting and size < self._batch_bytes:
            taken = lane.waiting[0]
            if not isinstance(taken, Tick):
                batch.append(taken)
                size += _size(taken[1])
            elif lane.ticks == 1:
                break
            else:
                lane.ticks -= 1
            lane.waiting.popleft()
        if batch:
            await self._send_frames(partition, lane, batch)
        elif lane.waiting:
            tick = lane.waiting.popleft()
            assert isinstance(tick, Tick)
            lane.ticks -= 1
            await self._deliver(self._telemetry, partition, None, encode_tick(tick))

    async def _send_frames(
        self, partition: int, lane: _Lane, batch: list[tuple[Target, Frame]]
    ) -> None:
        size = sum(_size(frame) for _, frame in batch)
        self._count(lane, -size)
        for _, frame in batch:
            dictionary = self._unsent.needed_by(frame)
            if dictionary is not None:
                value = encode_dictionary(dictionary)
                await self._deliver(self._series, 0, dictionary_key(dictionary.id), value)
                self._unsent.sent(dictionary)
        record = encode_frames([frame for _, frame in batch])
        if await self._deliver(self._telemetry, partition, None, record):
            metrics.FRAMES.inc(len(batch))
            metrics.BATCH_FRAMES.observe(len(batch))
            metrics.BATCH_BYTES.observe(len(record))
        else:
            for target, _ in batch:
                _count_dropped(target)

    async def _deliver(self, topic: str, partition: int, key: bytes | None, value: bytes) -> bool:
        """Whether Kafka has the record; false only if it never will."""
        pause = _RETRY_FIRST
        while True:
            try:
                await self._producer.send(topic, partition, key, value)
            except SendError as error:
                metrics.SEND_FAILURES.inc()
                if error.permanent:
                    log.error("record dropped: %s", fields(bytes=len(value), error=error))
                    return False
                if not self._away:
                    self._away = True
                    log.warning("Kafka takes nothing, frames wait: %s", fields(error=error))
                # Jitter against collectors that all come back at once; nothing secret.
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311
                pause = min(2 * pause, _RETRY_MOST)
            else:
                if self._away:
                    self._away = False
                    log.info("Kafka takes records again: %s", fields(buffered_bytes=self._bytes))
                return True

    def _drop_oldest(self) -> None:
        """Drop the oldest frame of the lane in which most waits."""
        lane = max(self._lanes, key=lambda lane: lane.bytes)
        for position, item in enumerate(lane.waiting):
            if not isinstance(item, Tick):
                del lane.waiting[position]
                break
        else:
            return
        target, frame = item
        self._count(lane, -_size(frame))
        self._unsent.dropped(frame)
        _count_dropped(target)

    def _count(self, lane: _Lane, size: int) -> None:
        lane.bytes += size
        self._bytes += size
        metrics.BUFFERED.set(self._bytes)


def _size(frame: Frame) -> int:
    return _FRAME_HEADER + frame.values.nbytes


def _count_dropped(target: Target) -> None:
    metrics.DROPPED.labels(target.job, target.instance, target.feed).inc()
