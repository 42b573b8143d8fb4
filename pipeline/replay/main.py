"""`watchkeeper replay`: count what is to be sent again, ask, send it, say what was done.

Rejected records go back once: the offset of the consumer group `replay` on `<topic>.rejected`, with
the ranges that Kafka keeps beside it, says which have gone back. It is committed after the records
are acknowledged, so a run that was cut off may send its last few a second time; identities make
that harmless.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import click
import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from pipeline.brokers import connection_of, refusals
from pipeline.replay.selection import NOTE_LIMIT, Done, Request, is_chosen, rejection_of
from pipeline.settings import Settings

EXIT_OK, EXIT_FAILED = 0, 1
_STEP_MS = 500
_SILENT_STEPS = 60
"""So many steps without a record, and the partition is given up."""
_TIMEOUT_MS = 15_000
_BOOTSTRAP_MS = 5_000
_MAX_RECORD_BYTES = 8 * 1024 * 1024
_COMPACTED = ("series", "alerts")

Confirm = Callable[[str], bool]


class ReplayError(RuntimeError):
    """What was asked for can't be done; the message says why."""


class Found(msgspec.Struct):
    """What there is to send, and what is left alone."""

    ranges: dict[int, tuple[int, int]]
    """By partition that is read: the first offset, and the one after the last."""
    records: int = 0
    chosen: set[int] = msgspec.field(default_factory=set)
    """Offsets of the rejected records that go back."""
    by_reason: Counter[str] = msgspec.field(default_factory=Counter)
    put_back_before: int = 0
    without_partition: int = 0


def run(settings: Settings, request: Request, *, dry_run: bool, as_json: bool, ask: Confirm) -> int:
    """Send again what `request` says once `ask` has agreed; the exit code."""
    try:
        with Replay(settings, request) as replay:
            found = replay.survey()
            if found.records and not dry_run:
                if not ask(f"Send {found.records} records to {request.topic} again?"):
                    return EXIT_FAILED
                replay.send(found)
    except KafkaError as error:
        reasons = asyncio.run(refusals(connection_of(settings)))
        reason = "; ".join(reasons) or f"Kafka at {', '.join(settings.brokers)}: {error!r}"
        print(f"replay: {reason}", file=sys.stderr)
        return EXIT_FAILED
    except ReplayError as error:
        print(f"replay: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(_json(request, found, dry_run) if as_json else _text(request, found, dry_run))
    return EXIT_OK


class Replay:
    """One replay, with its connections."""

    def __init__(self, settings: Settings, request: Request) -> None:
        self._request = request
        self._topic = settings.topic(request.topic)
        self._source = self._topic + (".rejected" if request.rejected else "")
        connection = connection_of(settings)
        self._consumer = KafkaConsumer(
            **connection,
            group_id=settings.topic("replay"),
            enable_auto_commit=False,
            max_partition_fetch_bytes=_MAX_RECORD_BYTES,
            request_timeout_ms=_TIMEOUT_MS,
            bootstrap_timeout_ms=_BOOTSTRAP_MS,
        )
        self._producer = KafkaProducer(
            **connection,
            acks="all",
            max_request_size=_MAX_RECORD_BYTES,
            request_timeout_ms=_TIMEOUT_MS,
            bootstrap_timeout_ms=_BOOTSTRAP_MS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._producer.close()
        self._consumer.close(autocommit=False)

    def survey(self) -> Found:
        """What there is to send now.

        Raises
        ------
        ReplayError
            There is no such topic, the time range is empty, or what is chosen can't be sent so.
        """
        places = self._places(self._source)
        found = Found(self._ranges(places))
        if self._request.rejected:
            self._choose(found)
        else:
            self._check_plain(found, places)
        return found

    def send(self, found: Found) -> None:
        """Send what was found, in the order of each partition."""
        done = self._done() if self._request.rejected else None
        partitions = len(self._places(self._topic))
        with click.progressbar(length=found.records, label="sent", file=sys.stderr) as bar:
            for number, (first, end) in found.ranges.items():
                for records in self._read(number, first, end):
                    if done is None:
                        self._send([(number, record) for record in records])
                        bar.update(len(records))
                        continue
                    back = [record for record in records if record.offset in found.chosen]
                    self._send([(_partition(record, partitions), record) for record in back])
                    done.add(record.offset for record in back)
                    self._commit(done)
                    bar.update(len(back))

    def _places(self, topic: str) -> list[TopicPartition]:
        numbers = self._consumer.partitions_for_topic(topic)
        if not numbers:
            raise ReplayError(f"there is no topic {topic} at this cluster")
        return [TopicPartition(topic, number) for number in sorted(numbers)]

    def _ranges(self, places: Sequence[TopicPartition]) -> dict[int, tuple[int, int]]:
        """Offsets of the asked time range; what is sent meanwhile lies behind them."""
        first = self._consumer.beginning_offsets(places)
        end = self._consumer.end_offsets(places)
        for since, limits in ((self._request.since_ms, first), (self._request.until_ms, end)):
            if since is None:
                continue
            at = self._consumer.offsets_for_times(dict.fromkeys(places, since))
            for place in places:
                limits[place] = end[place] if at[place] is None else at[place].offset
        return {place.partition: (first[place], max(first[place], end[place])) for place in places}

    def _choose(self, found: Found) -> None:
        """Read the headers of the rejected records."""
        done = self._done()
        partitions = len(self._places(self._topic))
        for record in self._records(found):
            rejection = rejection_of(record.headers, partitions)
            if not is_chosen(self._request, rejection, record.timestamp):
                continue
            if record.offset in done and not self._request.again:
                found.put_back_before += 1
            elif rejection.partition is None:
                found.without_partition += 1
            else:
                found.chosen.add(record.offset)
                found.by_reason[rejection.reason] += 1
        found.records = len(found.chosen)
        marks = Done(done.below, done.note())
        marks.add(found.chosen)
        if len(done.note()) + len(marks.note()) > NOTE_LIMIT:
            raise ReplayError(
                f"the {found.records} chosen records lie too scattered among the others for what "
                "has gone back to be noted: choose more of them, or fewer"
            )

    def _check_plain(self, found: Found, places: Sequence[TopicPartition]) -> None:
        if self._request.topic in _COMPACTED and self._request.until_ms is not None:
            raise ReplayError(
                f"{self._request.topic} keeps the last record of each key: an old one behind a "
                "newer one would replace it, so leave --to away"
            )
        found.records = sum(end - first for first, end in found.ranges.values())
        if not found.records:
            held = self._consumer.end_offsets(places)
            raise ReplayError(
                f"no record of {self._topic} in this time range "
                f"(it has taken {sum(held.values())} in all)"
            )

    def _records(self, found: Found) -> Iterator[ConsumerRecord]:
        for number, (first, end) in found.ranges.items():
            for records in self._read(number, first, end):
                yield from records

    def _read(self, number: int, first: int, end: int) -> Iterator[list[ConsumerRecord]]:
        """The records of a partition of the source, some at a time."""
        if first >= end:
            return
        place = TopicPartition(self._source, number)
        self._consumer.assign([place])
        self._consumer.seek(place, first)
        silent = 0
        while self._consumer.position(place) < end:
            records = self._consumer.poll(_STEP_MS).get(place, [])
            silent = 0 if records else silent + 1
            if silent > _SILENT_STEPS:
                raise ReplayError(
                    f"{self._source} partition {number}: nothing came after offset "
                    f"{self._consumer.position(place)}, expected records up to {end}"
                )
            yield [record for record in records if record.offset < end]

    def _send(self, records: Sequence[tuple[int, ConsumerRecord]]) -> None:
        """Send each to its partition, and wait until all are acknowledged."""
        waiting = [
            self._producer.send(
                self._topic,
                value=record.value,
                key=record.key,
                headers=[] if self._request.rejected else record.headers,
                partition=number,
            )
            for number, record in records
        ]
        for future in waiting:
            future.get(_TIMEOUT_MS / 1000)

    def _done(self) -> Done:
        (place,) = self._places(self._source)
        self._consumer.assign([place])
        committed = self._consumer.committed(place, metadata=True)
        done = Done() if committed is None else Done(committed.offset, committed.metadata)
        done.begin_at(self._consumer.beginning_offsets([place])[place])
        return done

    def _commit(self, done: Done) -> None:
        place = TopicPartition(self._source, 0)
        self._consumer.commit({place: OffsetAndMetadata(done.below, done.note(), -1)})


def _partition(record: ConsumerRecord, partitions: int) -> int:
    partition = rejection_of(record.headers, partitions).partition
    assert partition is not None, "only such records are chosen"
    return partition


def _json(request: Request, found: Found, dry_run: bool) -> str:
    report = {
        "topic": request.topic,
        "rejected": request.rejected,
        "records": found.records,
        "dry_run": dry_run,
    }
    if request.rejected:
        report |= {
            "by_reason": dict(found.by_reason),
            "put_back_before": found.put_back_before,
            "without_partition": found.without_partition,
        }
    return json.dumps(report)


def _text(request: Request, found: Found, dry_run: bool) -> str:
    verb = "would be sent" if dry_run else "sent"
    lines = [f"{found.records} records {verb} to {request.topic}"]
    lines += [
        f"  {count} rejected for: {reason}" for reason, count in found.by_reason.most_common()
    ]
    if found.put_back_before:
        lines.append(f"  {found.put_back_before} were put back before (--again sends them too)")
    if found.without_partition:
        lines.append(f"  {found.without_partition} name no partition of the topic and stay")
    return "\n".join(lines)
