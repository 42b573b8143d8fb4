"""Taking snapshots when they are due: a copy between two records, all else in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiokafka.errors import KafkaError
from prometheus_client import Counter, Gauge, Histogram

from pipeline.selfmetrics import fields
from pipeline.stream.fleetwide import Fleetwide
from pipeline.stream.partition import Partition
from pipeline.stream.snapshot import Snapshot

log = logging.getLogger(__name__)

PAUSE_SECONDS = Histogram(
    "watchkeeper_snapshot_pause_seconds",
    "How long a partition's records waited while its state was copied",
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
)
WRITTEN_AT = Gauge(
    "watchkeeper_snapshot_timestamp_seconds",
    "When the newest snapshot of a partition was written",
    ["topic", "partition"],
)
AGE_SECONDS = Gauge(
    "watchkeeper_snapshot_age_seconds",
    "Wall time since the newest snapshot of a partition was written",
    ["topic", "partition"],
)
WRITTEN_BYTES = Gauge(
    "watchkeeper_snapshot_bytes", "Size of a partition's newest snapshot", ["topic", "partition"]
)
FAILED = Counter("watchkeeper_snapshots_failed_total", "Snapshots that could not be written")

Place = tuple[str, int]
"""Topic (without prefix) and partition."""

Save = Callable[[Snapshot], int]
"""Writes a snapshot durably, blocking; its size in bytes. OSError if it can't."""


class Snapshotting:
    """The snapshots of all partitions of a worker, one every `interval` seconds for each.

    What a snapshot holds must not be ahead of what others have been told: it is written only after
    `acknowledged`, the effects of all records that are in it. The last write of a partition ends
    before its next snapshot is taken, for that takes its memory.
    """

    def __init__(
        self, save: Save, interval: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._save = save
        self._interval = interval
        self._now = now
        self._due: dict[Place, float] = {}
        self._writing: dict[Place, asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()

    def is_due(self, topic: str, partition: int) -> bool:
        """Whether to take one now; the first of a partition comes within one interval.

        Partitions that are given together have their turns apart: while one is copied, the others
        wait.
        """
        place = (topic, partition)
        due = self._due.setdefault(place, self._now() + self._interval * _turn(partition))
        return self._now() >= due and place not in self._writing

    def take(
        self,
        topic: str,
        partition: int,
        offset: int,
        state: Partition | Fleetwide,
        acknowledged: Awaitable[object],
    ) -> None:
        """Copy `state`, which has all records before `offset`; write it in the background."""
        place = (topic, partition)
        assert place not in self._writing, "a snapshot is taken when it is due"
        started = time.perf_counter()
        snapshot = Snapshot(topic, partition, offset, state.cut())
        PAUSE_SECONDS.observe(time.perf_counter() - started)
        self._due[place] = self._now() + self._interval
        self._writing[place] = asyncio.create_task(
            self._write(snapshot, acknowledged), name=f"snapshot-{topic}-{partition}"
        )

    def forget(self, topic: str, partition: int) -> None:
        """Another worker has the partition now; a write under way ends by itself."""
        self._due.pop((topic, partition), None)
        with suppress(KeyError):
            AGE_SECONDS.remove(topic, partition)

    async def finish(self) -> None:
        """Wait until nothing is being written any more."""
        while self._writing:
            await asyncio.wait(list(self._writing.values()))

    async def _write(self, snapshot: Snapshot, acknowledged: Awaitable[object]) -> None:
        place = (snapshot.topic, snapshot.partition)
        try:
            await acknowledged
            async with self._one_at_a_time:
                size = await asyncio.to_thread(self._save, snapshot)
        except KafkaError:
            return  # what is in it has not been told; the worker ends for that
        except OSError as error:
            FAILED.inc()
            log.error(fields(event="snapshot_failed", place=place, error=error))
        else:
            written = time.time()
            WRITTEN_AT.labels(*place).set(written)
            AGE_SECONDS.labels(*place).set_function(lambda: time.time() - written)
            WRITTEN_BYTES.labels(*place).set(size)
        finally:
            del self._writing[place]


def _turn(partition: int) -> float:
    """A part of the interval, far from those of the neighbours: multiples of the golden section."""
    return 1.0 - (partition * 0.6180339887) % 1.0
