"""The account of a chaos run: every scrape that was served, and every breach that was planted.

A scrape is followed by its `chaos_turn`: served by the target -> frame in `telemetry` -> frame that
the worker forwards to `signals` because a global rule selects that series. So a frame that the
worker took from Kafka and lost would be seen, whatever the offsets say and whatever the counters of
killed processes said.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from chaos_load import QUEUE, TURN, Breach, instance_of

from pipeline.codec import CodecError, decode_dictionary, decode_signal, decode_telemetry
from pipeline.model import FrameBatch, SeriesDictionary
from pipeline.settings import Settings

Turn = tuple[str, int]
"""Instance and turn."""
_NEAR_S = 3.0


class Told(msgspec.Struct, frozen=True):
    """What the receiver took: one alert of one post."""

    key: str
    state: str
    instance: str
    queue: str
    at: float
    source: str = ""
    """`backstop` where Prometheus disagrees with a live worker: it saw what the collector's failed
    scrapes didn't show."""


class Traces(msgspec.Struct):
    """What Kafka's topics tell of the scrapes."""

    telemetry: set[Turn] = msgspec.field(default_factory=set)
    passed_over: set[Turn] = msgspec.field(default_factory=set)
    """Late or duplicate by the rule: not newer than the last frame of its target."""
    signals: set[Turn] = msgspec.field(default_factory=set)
    rejected: int = 0
    down: dict[str, list[float]] = msgspec.field(default_factory=dict)
    """By instance, when a scrape failed (`up` 0)."""
    over: dict[tuple[str, str], float] = msgspec.field(default_factory=dict)
    """By instance and queue, the first time at which a frame showed it over the limit."""
    frames: int = 0


class _Columns:
    """Where a dictionary has the series that the account looks at."""

    def __init__(self, dictionary: SeriesDictionary) -> None:
        names = [series.name for series in dictionary.series]
        self.instance = dictionary.target.instance
        self.turn = names.index(TURN) if TURN in names else -1
        self.up = names.index("up") if "up" in names else -1
        self.queues = {
            i: dict(series.labels)["queue"]
            for i, series in enumerate(dictionary.series)
            if series.name == QUEUE
        }


async def read_traces(settings: Settings, limit: float) -> Traces:
    """Read `series`, `telemetry`, `signals` and what was rejected, to their ends."""
    known: dict[int, _Columns] = {}
    traces = Traces()
    async for _, value in _records(settings, "series", 1):
        if value is not None:
            dictionary = decode_dictionary(value)
            known[dictionary.id] = _Columns(dictionary)
    newest: dict[int, int] = {}
    async for _, value in _records(settings, "telemetry", settings.kafka.partitions):
        record = decode_telemetry(value or b"")
        if isinstance(record, FrameBatch):
            _note_frames(traces, record, known, newest, limit)
    async for _, value in _records(settings, "signals", settings.kafka.partitions):
        try:
            signal = decode_signal(value or b"")
        except CodecError:
            continue
        if isinstance(signal, FrameBatch):
            traces.signals |= {turn for turn, _ in _turns(signal, known)}
    for topic in ("telemetry", "signals", "series", "alerts"):
        async for _ in _records(settings, f"{topic}.rejected", 1):
            traces.rejected += 1
    return traces


def _note_frames(
    traces: Traces,
    batch: FrameBatch,
    known: dict[int, _Columns],
    newest: dict[int, int],
    limit: float,
) -> None:
    traces.frames += len(batch)
    fresh = []
    for target, time_ms in zip(batch.targets.tolist(), batch.times_ms.tolist(), strict=True):
        fresh.append(time_ms > newest.get(target, -1))
        newest[target] = max(time_ms, newest.get(target, -1))
    for turn, i in _turns(batch, known):
        traces.telemetry.add(turn)
        if not fresh[i]:
            traces.passed_over.add(turn)
    for i, dictionary_id in enumerate(batch.dictionaries.tolist()):
        columns = known.get(dictionary_id)
        if columns is None:
            continue
        values = batch.frame(i).values
        seconds = int(batch.times_ms[i]) / 1000
        if columns.up >= 0 and values[columns.up] == 0:
            traces.down.setdefault(columns.instance, []).append(seconds)
        for column, queue in columns.queues.items():
            if values[column] > limit:
                traces.over.setdefault((columns.instance, queue), seconds)


def _turns(batch: FrameBatch, known: dict[int, _Columns]) -> Iterator[tuple[Turn, int]]:
    for i, dictionary_id in enumerate(batch.dictionaries.tolist()):
        columns = known.get(dictionary_id)
        if columns is None or columns.turn < 0:
            continue
        value = batch.values[batch.offsets[i] + columns.turn]
        if not np.isnan(value):
            yield (columns.instance, int(value)), i


async def _records(
    settings: Settings, name: str, partitions: int
) -> AsyncIterator[tuple[int, bytes | None]]:
    topic = settings.topic(name)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(settings.brokers),
        enable_auto_commit=False,
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    await consumer.start()
    try:
        for place in [TopicPartition(topic, number) for number in range(partitions)]:
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            end = (await consumer.end_offsets([place]))[place]
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(place, timeout_ms=500)).values():
                    for record in records:
                        yield place.partition, record.value
    finally:
        await consumer.stop()


def frames_account(
    served_file: Path, traces: Traces, killed: list[float], last: float
) -> dict[str, int]:
    """What became of the scrapes that the collector was served up to `last`.

    A scrape may be missing in `telemetry` because the collector was killed while it held it (within
    `_NEAR_S` after it was served), or because it came too late for the scrape's time-out, which the
    frame of a failed scrape tells (`up` 0). Any other is unaccounted, and so is a frame of
    `telemetry` that the worker neither forwarded nor had to pass over.
    """
    served = [
        (instance_of(target), turn, at)
        for target, turn, at, prometheus in json.loads(served_file.read_text(encoding="utf-8"))
        if not prometheus and at <= last
    ]
    outcome: Counter[str] = Counter()
    missing: list[tuple[str, int, float]] = []
    for instance, turn, at in served:
        if (instance, turn) in traces.telemetry:
            outcome["in_kafka"] += 1
        elif any(at - 0.5 <= kill <= at + _NEAR_S for kill in killed):
            outcome["in_a_killed_collector"] += 1
        elif any(abs(down - at) <= _NEAR_S for down in traces.down.get(instance, ())):
            outcome["scrape_failed"] += 1
        else:
            missing.append((instance, turn, at))
    unprocessed = traces.telemetry - traces.signals - traces.passed_over
    return {
        "served": len(served),
        **outcome,
        "late_or_duplicate": len(traces.passed_over),
        "rejected": traces.rejected,
        "missing_in_telemetry": len(missing),
        "unprocessed": len(unprocessed),
        "unaccounted": len(missing) + len(unprocessed),
    }


def alerts_account(
    schedule: list[Breach], until: float, traces: Traces, told: list[Told]
) -> dict[str, object]:
    """What became of the breaches that began up to `until`: they are over, and told by now.

    A breach that no frame showed (no scrape was possible while it lasted) is `unseen`.
    """
    plan = [breach for breach in schedule if breach.start <= until]
    firsts: dict[tuple[str, str, str], Told] = {}
    keys: dict[tuple[str, str, str], set[str]] = {}
    for post in told:
        place = (post.instance, post.queue, post.state)
        firsts.setdefault(place, post)
        keys.setdefault(place, set()).add(post.key)
    planted = {(instance_of(breach.target), str(breach.queue)): breach for breach in plan}
    seen = {place for place in planted if place in traces.over}
    lost = [
        (*place, state)
        for place in sorted(seen)
        for state in ("firing", "resolved")
        if (*place, state) not in firsts
    ]
    doubled = [place for place, its in sorted(keys.items()) if len(its) > 1]
    disagreed = {post.key for post in told if post.source}
    known = {(instance_of(breach.target), str(breach.queue)) for breach in schedule}
    false = sorted({place[:2] for place in keys} - known)
    delays = [
        firsts[(*place, "firing")].at - breach.start
        for place, breach in planted.items()
        if (*place, "firing") in firsts
    ]
    return {
        "planted": len(plan),
        "unseen": len(planted) - len(seen),
        "lost": len(lost),
        "doubled": sum(len(keys[place]) - 1 for place in doubled),
        "doubled_by_disagreement": sum(
            len(its) - 1
            for place, its in keys.items()
            if len(its) > 1 and keys.get((*place[:2], "firing"), set()) & disagreed
        ),
        "false": len(false),
        "repeated_posts": len(told) - sum(len(its) for its in keys.values()),
        "delay_p50_s": round(float(np.quantile(delays, 0.5)), 2) if delays else None,
        "delay_max_s": round(max(delays), 2) if delays else None,
        "lost_alerts": lost[:20],
        "doubled_alerts": doubled[:20],
    }
