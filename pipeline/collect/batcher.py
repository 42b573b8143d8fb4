"""Frames to records: put together by partition, in order, bounded while Kafka is away.

Each partition is a lane with one record under way at a time, so its order is the order of `put`. A
frame waits at most `batch_ms` for others, and for the record before. Before a record come the
dictionaries it needs; behind everything up to its time comes the tick of each second.

A lane waits in memory. When Kafka hasn't taken its record for a second, or memory is full, it goes
to disk (`spool.py`): first the record under way, then what waits, then whatever is put. What is on
disk is sent before what is in memory. A lane is back in memory when the disk has no more than a
record for it; until then new frames go behind those on disk, so that a killed collector loses few.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from enum import Enum, auto
from pathlib import Path

from pipeline.clock import Clock
from pipeline.codec import dictionary_key, encode_dictionary, encode_frames, encode_tick
from pipeline.collect import metrics
from pipeline.collect.dictionaries import UnsentDictionaries
from pipeline.collect.frames import Built
from pipeline.collect.lane import RETRY_FIRST, RETRY_MOST, Lane
from pipeline.collect.producer import Producer, SendError
from pipeline.collect.spool import Batch, Needed, Position, Spool
from pipeline.model import Target, Tick, partition_of
from pipeline.selfmetrics import fields
from pipeline.settings import Settings

log = logging.getLogger(__name__)

TICK_INTERVAL = 1.0
MIN_TICK_WALL = 0.05
"""A simulation that runs fast doesn't tick more often than this on the wall clock."""
MAX_HOLD_MS = 2000
"""A tick waits this long, in event time, for a scrape under way, but no longer: a target that
hangs must not stop the clock for the others of its partition."""
DISK_PAUSE = 1.0
"""Seconds after a write to disk failed in which none is tried: each would cost an encoding."""
PATIENCE = 1.0
"""When Kafka hasn't taken a record for so many seconds, its lane goes to disk."""


class _Outcome(Enum):
    TAKEN = auto()
    REFUSED = auto()
    """Kafka will never take it."""
    AWAY = auto()


class Batcher:
    """Sends frames, dictionaries and ticks; `run` it as a task."""

    def __init__(self, producer: Producer, settings: Settings, clock: Clock, name: str) -> None:
        """Open the disk buffer too.

        Raises
        ------
        SpoolError
            It can't be used.
        """
        collect = settings.collect
        self._producer = producer
        self._telemetry, self._series = settings.topic("telemetry"), settings.topic("series")
        self._batch_bytes = collect.batch_bytes
        self._batch_wait = collect.batch_ms / 1000
        self._buffer_bytes = collect.buffer_bytes
        self._clock = clock
        self._name = name
        self._lanes = [Lane(partition) for partition in range(settings.kafka.partitions)]
        self._unsent = UnsentDictionaries()
        self._away = False
        """Whether the last record wasn't taken."""
        self._disk_failed_at: float | None = None
        """On the monotonic clock, if the last write did."""
        folder = Path(collect.buffer_folder or Path(settings.data) / "buffer")
        self._spool = Spool(folder, len(self._lanes), collect.disk_buffer_bytes)
        for lane in self._lanes:
            left = self._spool.pending(lane.partition)
            lane.to_disk = left > self._batch_bytes
            if left:
                lane.wake()
        metrics.BUFFER_LIMIT.labels("memory").set(self._buffer_bytes)
        metrics.BUFFER_LIMIT.labels("disk").set(collect.disk_buffer_bytes)
        self._observe()

    def put(self, target: Target, built: Built) -> None:
        """Send these frames, in order, soon."""
        lane = self._lane(target)
        for dictionary in built.dictionaries:
            self._unsent.add(dictionary)
        if not built.frames:
            return
        lane.wake()
        if lane.to_disk:
            batch = [(target, frame) for frame in built.frames]
            if self._write_frames(lane, batch, self._unsent.needed_by):
                return
        for frame in built.frames:
            self._unsent.enqueued(frame)
            lane.put(target, frame)
        if lane.bytes >= self._batch_bytes:
            lane.full.set()
        while self._memory_bytes() > self._buffer_bytes:
            fullest = max(self._lanes, key=lambda lane: lane.bytes)
            if not self._spill(fullest):
                self._drop_oldest(fullest)
        metrics.BUFFERED.labels("memory").set(self._memory_bytes())

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
        """Send until cancelled; then what Kafka doesn't have goes to disk."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in self._lanes:
                    tasks.create_task(self._drain(lane))
                tasks.create_task(self._tick())
        finally:
            self._disk_failed_at = None  # the last chance
            for lane in self._lanes:
                if lane.under_way or lane.bytes:
                    self._spill(lane)
            self._spool.close()

    async def flush(self) -> None:
        """Return when nothing waits any more."""
        for lane in self._lanes:
            await lane.idle.wait()

    def _lane(self, target: Target) -> Lane:
        return self._lanes[partition_of(target.instance, len(self._lanes))]

    async def _tick(self) -> None:
        pause = max(TICK_INTERVAL, MIN_TICK_WALL * self._clock.speed)
        while True:
            await self._clock.sleep(pause)
            now_ms = self._clock.now_ms()
            for lane in self._lanes:
                time_ms = max(min([now_ms, *lane.holds]), now_ms - MAX_HOLD_MS)
                tick = Tick(self._name, time_ms)
                if not (lane.to_disk and self._write_tick(lane, tick)):
                    lane.put_tick(tick)
                lane.wake()
            self._observe()

    async def _drain(self, lane: Lane) -> None:
        """Send what is on disk, then what is in memory, and again."""
        while True:
            if lane.taken is not None or self._spool.pending(lane.partition):
                await self._send_from_disk(lane)
            elif not lane.empty:
                lane.to_disk = False
                await self._send_from_memory(lane)
            else:
                lane.to_disk = False
                lane.filled.clear()
                lane.idle.set()
                await lane.filled.wait()

    async def _send_from_disk(self, lane: Lane) -> None:
        """Send what comes next there, if Kafka takes it now."""
        if lane.taken is None:
            lane.taken = self._spool.take(lane.partition, self._batch_bytes)
            self._count_lost()
        taken = lane.taken
        if taken is None:
            return
        if taken.tick is not None:
            done = await self._send_tick(lane, taken.tick)
        else:
            done = await self._send_frames(lane, taken.frames, taken.dictionaries)
        if done:
            lane.taken = None
            self._spool.sent(lane.partition, taken.end)
            left = self._spool.pending(lane.partition)
            lane.to_disk = lane.empty and left > self._batch_bytes

    async def _send_from_memory(self, lane: Lane) -> None:
        """Send what fits one record, or the tick that is next."""
        if lane.bytes < self._batch_bytes and lane.tick is None:
            lane.full.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(lane.full.wait(), self._batch_wait)
            if self._spool.pending(lane.partition):  # all that waited is there now
                return
        batch = lane.next_frames(self._batch_bytes)
        if batch:
            await self._send_batch(lane, batch)
        elif (tick := lane.tick) is not None and await self._send_tick(lane, tick):
            lane.done_with(tick)

    async def _send_batch(self, lane: Lane, batch: Batch) -> None:
        """Send frames that were in memory, or have them on disk."""
        needed = [self._unsent.needed_by(frame) for _, frame in batch]
        for _, frame in batch:
            self._unsent.left(frame)
        lane.dictionaries = {each.id: each for each in needed if each is not None}
        lane.under_way, lane.kept = batch, None
        records = {id_: encode_dictionary(each) for id_, each in lane.dictionaries.items()}
        done = False
        while not done and lane.kept is None:
            done = await self._send_frames(lane, batch, records)
        if done and lane.kept is not None:  # Kafka has them after all
            self._spool.sent(lane.partition, lane.kept)
        lane.under_way = ()

    async def _send_tick(self, lane: Lane, tick: Tick) -> bool:
        """Whether that is done; if not, after a pause."""
        outcome = await self._offer(lane, self._telemetry, lane.partition, None, encode_tick(tick))
        if outcome is _Outcome.AWAY:
            await self._pause(lane)
        return outcome is not _Outcome.AWAY

    async def _send_frames(
        self, lane: Lane, batch: Batch, dictionaries: Mapping[int, bytes]
    ) -> bool:
        """Whether that is done: Kafka has them, or never will and they are counted as dropped.

        If not, after a pause.
        """
        outcomes = await self._send_dictionaries(lane, dictionaries)
        refused = {id_ for id_, outcome in outcomes.items() if outcome is _Outcome.REFUSED}
        frames = [frame for _, frame in batch if frame.dictionary_id not in refused]
        outcome = _Outcome.AWAY if _Outcome.AWAY in outcomes.values() else _Outcome.TAKEN
        if frames and outcome is _Outcome.TAKEN:
            record = encode_frames(frames)
            outcome = await self._offer(lane, self._telemetry, lane.partition, None, record)
            if outcome is _Outcome.TAKEN:
                metrics.FRAMES.inc(len(frames))
                metrics.BATCH_FRAMES.observe(len(frames))
                metrics.BATCH_BYTES.observe(len(record))
        if outcome is _Outcome.AWAY:
            await self._pause(lane)
            return False
        for target, frame in batch:
            if outcome is _Outcome.REFUSED or frame.dictionary_id in refused:
                _count_dropped(target)
        return True

    async def _send_dictionaries(
        self, lane: Lane, dictionaries: Mapping[int, bytes]
    ) -> dict[int, _Outcome]:
        """Send them together, and return when each is acknowledged or not taken."""
        outcomes = await asyncio.gather(
            *(
                self._offer(lane, self._series, 0, dictionary_key(id_), record)
                for id_, record in dictionaries.items()
            )
        )
        for id_, outcome in zip(dictionaries, outcomes, strict=True):
            if outcome is _Outcome.TAKEN:
                self._unsent.sent(id_)
        return dict(zip(dictionaries, outcomes, strict=True))

    async def _offer(
        self, lane: Lane, topic: str, partition: int, key: bytes | None, value: bytes
    ) -> _Outcome:
        """Offer a record to Kafka once. When that takes long, the lane goes to disk meanwhile."""
        patience = asyncio.get_running_loop().call_later(PATIENCE, self._spill, lane)
        try:
            await self._producer.send(topic, partition, key, value)
        except SendError as error:
            metrics.SEND_FAILURES.inc()
            if error.permanent:
                log.error("record dropped: %s", fields(bytes=len(value), error=error))
                return _Outcome.REFUSED
            if not self._away:
                self._away = True
                log.warning("Kafka takes nothing, frames wait: %s", fields(error=error))
            self._spill(lane)
            return _Outcome.AWAY
        finally:
            patience.cancel()
        lane.retry_pause = RETRY_FIRST
        if self._away:
            self._away = False
            waiting = self._memory_bytes() + self._spool.used_bytes
            log.info("Kafka takes records again: %s", fields(buffered_bytes=waiting))
        return _Outcome.TAKEN

    async def _pause(self, lane: Lane) -> None:
        # Jitter against collectors that all come back at once; nothing secret.
        await asyncio.sleep(lane.retry_pause * random.uniform(0.8, 1.2))  # noqa: S311
        lane.retry_pause = min(2 * lane.retry_pause, RETRY_MOST)

    def _spill(self, lane: Lane) -> bool:
        """Put a lane on disk, in order; false if the disk doesn't take it."""
        if lane.under_way and lane.kept is None:
            known = lane.dictionaries
            lane.kept = self._write_frames(
                lane, lane.under_way, lambda frame: known.get(frame.dictionary_id)
            )
            if lane.kept is None:
                return False
        while not lane.empty:
            batch = lane.next_frames(self._batch_bytes)
            if not batch:
                tick = lane.tick
                assert tick is not None
                if not self._write_tick(lane, tick):
                    return False
                lane.done_with(tick)
            elif self._write_frames(lane, batch, self._unsent.needed_by):
                for _, frame in batch:
                    self._unsent.left(frame)
            else:
                lane.put_back(batch)
                return False
        lane.to_disk = True
        return True

    def _write_frames(self, lane: Lane, batch: Batch, needed: Needed) -> Position | None:
        """Put frames on disk; where they end, None if the disk doesn't take them."""
        if not self._disk_works(lane):
            return None
        try:
            position = self._spool.append_frames(lane.partition, batch, needed)
        except OSError as error:
            self._disk_failed(lane, error)
            return None
        self._disk_failed_at = None
        self._count_lost()
        return position

    def _write_tick(self, lane: Lane, tick: Tick) -> bool:
        if not self._disk_works(lane):
            return False
        try:
            self._spool.append_tick(lane.partition, tick)
        except OSError as error:
            self._disk_failed(lane, error)
            return False
        self._count_lost()
        return True

    def _disk_works(self, lane: Lane) -> bool:
        """Whether the disk is worth a try; if not, the lane waits in memory."""
        failed_at = self._disk_failed_at
        if failed_at is None or time.monotonic() >= failed_at + DISK_PAUSE:
            return True
        lane.to_disk = False
        return False

    def _disk_failed(self, lane: Lane, error: OSError) -> None:
        lane.to_disk = False
        metrics.BUFFER_FAILURES.labels("write").inc()
        if self._disk_failed_at is None:
            log.error("the disk buffer can't be written, frames wait in memory: %s", error)
        self._disk_failed_at = time.monotonic()

    def _drop_oldest(self, lane: Lane) -> None:
        dropped = lane.drop_oldest()
        assert dropped is not None  # it had bytes
        self._unsent.left(dropped[1])
        _count_dropped(dropped[0])

    def _count_lost(self) -> None:
        """Count what the disk buffer had to let go."""
        for target, count in self._spool.lost.items():
            _count_dropped(target, count)
        self._spool.lost = Counter()
        if self._spool.damaged:
            metrics.BUFFER_FAILURES.labels("damaged").inc(self._spool.damaged)
            self._spool.damaged = 0

    def _memory_bytes(self) -> int:
        return sum(lane.bytes for lane in self._lanes)

    def _observe(self) -> None:
        self._count_lost()
        metrics.BUFFERED.labels("memory").set(self._memory_bytes())
        metrics.BUFFERED.labels("disk").set(self._spool.used_bytes)
        times = [self._spool.oldest_ms(), *(lane.oldest_ms for lane in self._lanes)]
        now_ms = self._clock.now_ms()
        oldest_ms = min((time_ms for time_ms in times if time_ms is not None), default=now_ms)
        metrics.BUFFER_OLDEST.set(max(0, now_ms - oldest_ms) / 1000)


def _count_dropped(target: Target, count: int = 1) -> None:
    metrics.DROPPED.labels(target.job, target.instance, target.feed).inc(count)
