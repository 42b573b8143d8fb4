"""The shell around the pure steps: decode, step, deliver; restore a partition at its first record.

This file has the worker's one broad `except`: a record that can't be processed goes to
`<topic>.rejected` with its reason and disturbs no other.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import Protocol

from aiokafka.errors import KafkaError

from pipeline.codec import CodecError, decode_signal, decode_telemetry, encode_frames
from pipeline.model import Alert, Evaluated, FrameBatch, Tick
from pipeline.selfmetrics import fields
from pipeline.stream import metrics
from pipeline.stream.delivery import Deliver, Record
from pipeline.stream.fleetwide import Fleetwide
from pipeline.stream.partition import Partition
from pipeline.stream.restoring import FindDictionary, Restored, StateT
from pipeline.stream.snapshotting import Snapshotting
from pipeline.stream.step import Step
from pipeline.stream.underway import Effects
from pipeline.stream.verdicts import Verdicts

log = logging.getLogger(__name__)

Handle = Callable[[int, bytes], Awaitable[list[Record]]]
"""Partition and value of a record; what is to be sent for it."""


class Restore(Protocol):
    """The state with which a partition goes on; see `pipeline.stream.restoring`."""

    async def __call__(
        self,
        topic: str,
        number: int,
        offset: int,
        new: Callable[[], StateT],
        step: Callable[[StateT, bytes], Awaitable[list[Alert]]],
    ) -> Restored[StateT]: ...


class Worker:
    """The partitions that this process owns, and what happens to each of their records.

    `owners` are the partitions of `signals` that own global rules; of the others nothing is kept.
    """

    def __init__(
        self,
        new_partition: Callable[[int], Partition],
        new_fleetwide: Callable[[int], Fleetwide],
        owners: Collection[int],
        partitions: int,
        deliver: Deliver,
        find: FindDictionary,
        restore: Restore,
        snapshotting: Snapshotting,
    ) -> None:
        self._new_partition = new_partition
        self._new_fleetwide = new_fleetwide
        self._owners = owners
        self._count = partitions
        self._deliver = deliver
        self._find = find
        self._restore = restore
        self._snapshotting = snapshotting
        self.partitions: dict[int, Partition] = {}
        self.fleetwide: dict[int, Fleetwide] = {}
        self._processed: dict[tuple[str, int], int] = {}
        self._outstanding: set[Effects] = set()
        self.fault: Exception | None = None
        """Why no record can be processed any more: whoever runs the worker has to end it."""

    def on_assigned(self, topic: str, partitions: frozenset[int]) -> None:
        """Forget what another worker has now; what is new is restored at its first record."""
        owned: dict[int, Partition] | dict[int, Fleetwide] = (
            self.partitions if topic == "telemetry" else self.fleetwide
        )
        for number in set(owned) - partitions:
            del owned[number]
        for key in [k for k in self._processed if k[0] == topic and k[1] not in partitions]:
            del self._processed[key]
            self._snapshotting.forget(*key)
        metrics.ASSIGNED.labels(topic).set(len(partitions))
        log.info(fields(event="assigned", topic=topic, partitions=sorted(partitions)))

    def lags(self, end: Callable[[str, int], int | None]) -> list[tuple[str, int, int]]:
        """Topic, partition and records still to come; `end` gives a partition's end offset."""
        return [
            (topic, number, max(0, (end(topic, number) or processed) - processed))
            for (topic, number), processed in self._processed.items()
        ]

    def active_alerts(self) -> list[Alert]:
        """Every pending and firing alert of the partitions here, as of their watermarks."""
        return [
            alert for verdicts, time_ms in self._verdicts() for alert in verdicts.active(time_ms)
        ]

    def alert_counts(self) -> Counter[str]:
        """How many of them there are, by state."""
        return sum((verdicts.counts() for verdicts, _ in self._verdicts()), Counter())

    def _verdicts(self) -> Iterator[tuple[Verdicts, int]]:
        """All verdicts here, each with its time; those that have none yet are left out."""
        for local in self.partitions.values():
            if local.watermark_ms is not None:
                yield local.verdicts, local.watermark_ms
        for fleetwide in self.fleetwide.values():
            if fleetwide.time_ms is not None:
                yield fleetwide.verdicts, fleetwide.time_ms

    async def on_telemetry(self, number: int, offset: int, value: bytes) -> Effects | None:
        """One record of `telemetry`; what is returned is done when its effects are acknowledged."""
        return await self._guarded("telemetry", number, offset, value, self._telemetry)

    async def on_signal(self, number: int, offset: int, value: bytes) -> Effects | None:
        """One record of `signals`; scores are for others and pass by."""
        return await self._guarded("signals", number, offset, value, self._signal)

    async def last_snapshots(self) -> None:
        """Save all states as they are, so that the next owner needn't read anything again."""
        await self._snapshotting.finish()
        for place, offset in self._processed.items():
            self._take_snapshot(*place, offset)
        await self._snapshotting.finish()

    async def _guarded(
        self, topic: str, number: int, offset: int, value: bytes, handle: Handle
    ) -> Effects | None:
        try:
            records = await self._restored(topic, number, offset)
            repeated = offset < self._processed.get((topic, number), 0)
            if repeated:
                metrics.REPEATED.labels(topic).inc()
            else:
                records += await self._handled(topic, number, offset, value, handle)
            effects = await self._deliver(records)
        except KafkaError as error:
            self.fault = error
            raise
        if not repeated:
            self._processed[topic, number] = offset + 1
        if effects is not None:
            self._outstanding.add(effects)
            effects.add_done_callback(self._done)
        if self._snapshotting.is_due(topic, number):
            self._take_snapshot(topic, number, self._processed[topic, number])
        return effects

    def _take_snapshot(self, topic: str, number: int, offset: int) -> None:
        """A copy now, written once everything that it includes has been told.

        It may be ahead of the committed offset: what lies between is never stepped again.
        """
        states: Mapping[int, Partition | Fleetwide] = (
            self.partitions if topic == "telemetry" else self.fleetwide
        )
        if number in states:
            told = asyncio.gather(*self._outstanding)
            self._snapshotting.take(topic, number, offset, states[number], told)

    def _done(self, effects: Effects) -> None:
        self._outstanding.discard(effects)
        if not effects.cancelled() and isinstance(error := effects.exception(), Exception):
            self.fault = error

    async def _handled(
        self, topic: str, number: int, offset: int, value: bytes, handle: Handle
    ) -> list[Record]:
        """What `handle` gives; if the record is at fault, its rejection."""
        try:
            return await handle(number, value)
        except CodecError as error:
            return [self._reject(topic, number, value, error.reason, str(error))]
        except KafkaError:
            raise  # not the record's fault
        except Exception as error:
            log.exception(fields(event="failed", topic=topic, partition=number, offset=offset))
            return [self._reject(topic, number, value, "failed", repr(error))]

    async def _telemetry(self, number: int, value: bytes) -> list[Record]:
        record = decode_telemetry(value)
        partition = self.partitions[number]
        started = time.perf_counter()
        step = await self._step(partition, record)
        metrics.STEP_SECONDS.observe(time.perf_counter() - started)
        self._count_frames(partition)
        rejected = [
            self._reject("telemetry", number, encode_frames([item.frame]), item.reason, item.detail)
            for item in step.rejected
        ]
        named = await self._deliver(step.dictionary_records())
        if named is not None:
            await named
        return step.records(number, self._count) + rejected

    async def _step(self, partition: Partition, record: FrameBatch | Tick) -> Step:
        if isinstance(record, Tick):
            return partition.tick(record)
        missing: dict[int, str] = {}
        unknown = partition.unknown(record)
        for dictionary_id in unknown:
            dictionary = await self._find(dictionary_id)
            if dictionary is None:
                missing[dictionary_id] = f"no dictionary {dictionary_id:016x} in the topic series"
            else:
                partition.learn(dictionary)
        step = partition.frames(record, unknown=missing)
        if unknown:
            # What a dictionary makes is a million objects that stay: the garbage collector needn't
            # look through them again and again (pauses of 300 ms at 100,000 series).
            gc.freeze()
        return step

    async def _signal(self, number: int, value: bytes) -> list[Record]:
        fleetwide = self.fleetwide.get(number)
        if fleetwide is None:
            return []  # no global rule is owned here
        return (await self._signal_step(fleetwide, value)).records(number, self._count)

    async def _signal_step(self, fleetwide: Fleetwide, value: bytes) -> Step:
        signal = decode_signal(value)
        if isinstance(signal, Evaluated):
            return fleetwide.mark(signal)
        if isinstance(signal, FrameBatch):
            for dictionary_id in fleetwide.unknown(signal):
                dictionary = await self._find(dictionary_id)
                if dictionary is not None:
                    fleetwide.learn(dictionary)
                else:
                    metrics.REJECTED.labels("signals", "dictionary").inc()
            fleetwide.frames(signal)
        return Step()

    async def _restored(self, topic: str, number: int, offset: int) -> list[Record]:
        """Get a partition's state before its first record; the alerts that are told again."""
        if (topic, number) in self._processed:
            return []
        if topic == "telemetry":
            local = await self._restore(
                topic, number, offset, lambda: self._new_partition(number), self._replay
            )
            self.partitions[number] = local.state
            told, self._processed[topic, number] = local.alerts, local.offset
        elif number in self._owners:
            fleetwide = await self._restore(
                topic, number, offset, lambda: self._new_fleetwide(number), self._replay_signal
            )
            self.fleetwide[number] = fleetwide.state
            told, self._processed[topic, number] = fleetwide.alerts, fleetwide.offset
        else:
            told = []
        return Step(alerts=told).records(number, self._count)

    async def _replay(self, partition: Partition, value: bytes) -> list[Alert]:
        try:
            return (await self._step(partition, decode_telemetry(value))).alerts
        except CodecError:
            return []  # it was rejected when it was first read

    async def _replay_signal(self, fleetwide: Fleetwide, value: bytes) -> list[Alert]:
        try:
            return (await self._signal_step(fleetwide, value)).alerts
        except CodecError:
            return []  # it was rejected when it was first read

    def _reject(self, topic: str, number: int, value: bytes, reason: str, detail: str) -> Record:
        metrics.REJECTED.labels(topic, reason).inc()
        log.warning(
            fields(event="rejected", topic=topic, partition=number, reason=reason, detail=detail)
        )
        headers = (
            ("reason", reason.encode()),
            ("detail", detail.encode()),
            ("partition", str(number).encode()),
        )
        return Record(f"{topic}.rejected", 0, value, headers=headers)

    def _count_frames(self, partition: Partition) -> None:
        counts = partition.take_counts()
        metrics.FRAMES.labels("processed").inc(counts.frames)
        metrics.FRAMES.labels("late").inc(counts.late)
        metrics.FRAMES.labels("duplicate").inc(counts.duplicate)
        metrics.SAMPLES.inc(counts.samples)
        metrics.ANOMALIES.inc(counts.anomalies)
        for error, times in partition.verdicts.take_errors():
            metrics.RULE_FAILURES.inc(times)
            log.warning(fields(event="rule_failed", times=times, error=error))
