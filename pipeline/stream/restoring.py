"""A partition goes on where its last owner was: the newest usable snapshot, then what came after.

Without a snapshot the `worker.replay` seconds of records before the first new one are read again.
That rebuilds windows and detectors nearly; alerts that were pending begin to wait anew.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from pipeline.model import Alert, SeriesDictionary
from pipeline.selfmetrics import fields
from pipeline.stream.fleetwide import Fleetwide
from pipeline.stream.partition import Partition
from pipeline.stream.past import OpenPast, Past
from pipeline.stream.snapshot import Snapshot
from pipeline.stream.snapshots import PUT_ASIDE

log = logging.getLogger(__name__)

StateT = TypeVar("StateT", Partition, Fleetwide)


class FindDictionary(Protocol):
    """The dictionary of an id, from the topic `series`; None if it isn't there."""

    async def __call__(self, dictionary_id: int) -> SeriesDictionary | None: ...


class LoadSnapshots(Protocol):
    """The readable snapshots of a partition, the newest first; `end` is where its topic ends.

    It blocks.
    """

    def __call__(self, topic: str, partition: int, end: int) -> list[Snapshot]: ...


class Restored(msgspec.Struct, Generic[StateT], frozen=True):
    """A partition's state, what it has seen, and what is to be told again."""

    state: StateT
    offset: int
    """All records before this one are in the state."""
    alerts: list[Alert]
    """Changes since the snapshot, for nobody knows whether they were heard; without one, all that
    fires. (With one that comes when it is due, as if nothing had happened.)"""


class Restoring:
    """Restores partitions of both topics."""

    def __init__(self, past: OpenPast, find: FindDictionary, load: LoadSnapshots) -> None:
        self._past = past
        self._find = find
        self._load = load

    async def __call__(
        self,
        topic: str,
        number: int,
        offset: int,
        new: Callable[[], StateT],
        step: Callable[[StateT, bytes], Awaitable[list[Alert]]],
    ) -> Restored[StateT]:
        """The state of a partition in which the record at `offset` is to be handled next.

        `step` takes in a record; what it sends beside alerts was sent before and is not repeated.
        """
        started = time.perf_counter()
        async with self._past(topic, number) as past:
            restored = await self._from_snapshot(topic, number, past, new)
            if restored is not None:
                since, alerts = restored.offset, restored.alerts
                state = restored.state
            else:
                state, alerts = new(), []
                since = await past.some_time_before(offset)
            replayed = 0
            async for value in past.records(since, offset):
                told = await step(state, value)
                if restored is not None:
                    alerts += told
                replayed += 1
        if restored is None:
            alerts = state.firing()
        log.info(
            fields(
                event="restored",
                topic=topic,
                partition=number,
                snapshot=None if restored is None else restored.offset,
                records=replayed,
                seconds=f"{time.perf_counter() - started:.3f}",
            )
        )
        return Restored(state, max(since, offset), alerts)

    async def _from_snapshot(
        self, topic: str, number: int, past: Past, new: Callable[[], StateT]
    ) -> Restored[StateT] | None:
        """The state as of the newest snapshot that can be used."""
        for snapshot in await asyncio.to_thread(self._load, topic, number, past.end):
            found = [await self._find(known) for known in snapshot.cut.dictionaries]
            dictionaries = [known for known in found if known is not None]
            if len(dictionaries) < len(found):
                missing = len(found) - len(dictionaries)
                PUT_ASIDE.labels("dictionary").inc()
                log.warning(
                    fields(event="snapshot_unusable", offset=snapshot.offset, not_in_series=missing)
                )
                continue
            state = new()
            # Ignored: a topic's snapshots hold its kind of state, which mypy can't know.
            # In a thread, for it takes seconds, and the group wants heartbeats.
            await asyncio.to_thread(state.restore, snapshot.cut, dictionaries)  # type: ignore[arg-type]
            gc.freeze()
            return Restored(state, snapshot.offset, [])
        return None
