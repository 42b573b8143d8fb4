"""Sustained throughput of the workers: samples/s from committed offsets, with nothing left out.

    python benchmarks/throughput.py                  200 hosts x 500 series x 300 s, 2 workers
    python benchmarks/throughput.py --json --seconds 120 --workers 1

Frames are made and written to Kafka first (seeded, different for each series and time, 1 s apart).
Then the workers start and read them as fast as they can: every sample scored, the public
host-and-hardware rules evaluated at every frame's time. Breaches and level shifts are planted;
each breach must give exactly one firing alert, each shift an anomaly, and nothing else may fire.
The rate is taken between the first and the last second in which committed offsets moved.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, defaultdict

import machine
import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from hosts import SERIES, UNITS, Hosts
from stack import HOST_RULES, Process, Stack, running_stack, shared_folder
from topic import records_of

from pipeline.codec import (
    decode_alert,
    decode_signal,
    dictionary_key,
    encode_dictionary,
    encode_frames,
    encode_tick,
)
from pipeline.model import Frame, ScoreBatch, Tick, partition_of
from pipeline.settings import Settings

START_MS = 1_760_000_000_000
FRAMES_A_RECORD = 64
BREACHES, SHIFTS = 20, 20
SHIFT_AFTER_S = 90


class Planted(msgspec.Struct):
    """What must come out: (target, unit) of breaches, (target, column) of level shifts."""

    breaches: dict[tuple[int, str], int]
    shifts: dict[tuple[int, int], int]


def plant(hosts: Hosts, targets: int, seconds: int, rng: np.random.Generator) -> Planted:
    breaches: dict[tuple[int, str], int] = {}
    shifts: dict[tuple[int, int], int] = {}
    queues = [i for i, c in enumerate(hosts.columns) if c.name == "application_queue_depth"]
    while len(breaches) < BREACHES:
        place = (int(rng.integers(targets)), UNITS[rng.integers(len(UNITS))])
        breaches[place] = int(rng.integers(5, seconds - 5))
    while len(shifts) < SHIFTS:
        where = (int(rng.integers(targets)), int(rng.choice(queues)))
        shifts[where] = int(rng.integers(SHIFT_AFTER_S, seconds - 15))
    return Planted(breaches, shifts)


async def preload(settings: Settings, hosts: Hosts, seconds: int, planted: Planted) -> int:
    """Write dictionaries, frames and ticks; how many samples that is."""
    count = settings.kafka.partitions
    producer = AIOKafkaProducer(
        bootstrap_servers=list(settings.brokers), max_request_size=8 << 20, linger_ms=5
    )
    await producer.start()
    partitions = [partition_of(d.target.instance, count) for d in hosts.dictionaries]
    for dictionary in hosts.dictionaries:
        await producer.send(
            settings.topic("series"), encode_dictionary(dictionary), dictionary_key(dictionary.id)
        )
    failed = {
        unit: hosts.column("node_systemd_unit_state", name=unit, state="failed") for unit in UNITS
    }
    for second in range(seconds):
        values = hosts.next_second()
        for (target, unit), at in planted.breaches.items():
            if at <= second < at + 3:
                values[target, failed[unit]] = 1.0
        for (target, column), at in planted.shifts.items():
            if second >= at:
                values[target, column] += 150.0
        waiting: defaultdict[int, list[Frame]] = defaultdict(list)
        for target, partition in enumerate(partitions):
            time_ms = START_MS + second * 1000 + target
            waiting[partition].append(hosts.frame(target, time_ms, values[target]))
        for partition in range(count):
            frames = waiting[partition]
            for i in range(0, len(frames), FRAMES_A_RECORD):
                record = encode_frames(frames[i : i + FRAMES_A_RECORD])
                await producer.send(settings.topic("telemetry"), record, partition=partition)
            tick = encode_tick(Tick("bench", START_MS + (second + 1) * 1000))
            await producer.send(settings.topic("telemetry"), tick, partition=partition)
    await producer.flush()
    await producer.stop()
    return seconds * len(partitions) * SERIES


async def watch(
    settings: Settings, workers: list[Process], total: int
) -> tuple[float, list[float]]:
    """Records a second by committed offsets, until all are; each worker's CPU seconds a record."""
    places = _telemetry(settings)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(settings.brokers),
        group_id=settings.topic("worker"),
        enable_auto_commit=False,
    )
    await consumer.start()
    consumer.assign(places)
    moved: list[tuple[float, int, list[float]]] = []
    async with asyncio.timeout(600):
        while not moved or moved[-1][1] < total:
            committed = [await consumer.committed(place) for place in places]
            done = sum(offset or 0 for offset in committed)
            if done and (not moved or done > moved[-1][1]):
                moved.append((time.monotonic(), done, [w.cpu_seconds() for w in workers]))
            for worker in workers:
                worker.check_alive()
            await asyncio.sleep(0.05)
    await consumer.stop()
    first, last = moved[0], moved[-1]
    rate = (last[1] - first[1]) / (last[0] - first[0])
    cpu = [b - a for a, b in zip(first[2], last[2], strict=True)]
    return rate, [seconds / (last[1] - first[1]) for seconds in cpu]


async def verify(settings: Settings, hosts: Hosts, planted: Planted) -> dict[str, int]:
    """Hold what came out against what was planted."""
    firing: Counter[tuple[str, str]] = Counter()
    other: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    async for record in records_of(settings, "alerts", 1):
        alert = decode_alert(record.value)
        labels = dict(alert.labels)
        if alert.state != "firing" or (alert.fingerprint, alert.starts_at_ms) in seen:
            continue
        seen.add((alert.fingerprint, alert.starts_at_ms))
        if labels["alertname"] == "HostSystemdServiceCrashed":
            firing[labels["instance"], labels["name"]] += 1
        else:
            other[labels["alertname"]] += 1
    wanted = {
        (hosts.dictionaries[target].target.instance, unit) for target, unit in planted.breaches
    }
    shifts = {
        (hosts.dictionaries[t].target.id, column): START_MS + at * 1000
        for (t, column), at in planted.shifts.items()
    }
    found: set[tuple[int, int]] = set()
    anomalous: set[tuple[int, int]] = set()
    async for record in records_of(settings, "signals", settings.kafka.partitions):
        signal = decode_signal(record.value)
        for scores in (
            map(signal.frame, range(len(signal))) if isinstance(signal, ScoreBatch) else ()
        ):
            for column, score in zip(scores.columns.tolist(), scores.scores.tolist(), strict=True):
                if score > 1.0:
                    place = (scores.target_id, column)
                    anomalous.add(place)
                    if shifts.get(place, 1 << 62) <= scores.time_ms:
                        found.add(place)
    return {
        "breaches_planted": len(wanted),
        "breaches_once": sum(firing[place] == 1 for place in wanted),
        "breaches_other": sum(firing[place] for place in set(firing) - wanted),
        "alerts_other": sum(other.values()),
        "shifts_planted": len(shifts),
        "shifts_found": len(found),
        "series_anomalous_otherwise": len(anomalous - set(shifts)),
    }


def measure(stack: Stack, targets: int, seconds: int, workers: int) -> dict[str, float | int]:
    rng = np.random.default_rng(11)
    hosts = Hosts(targets)
    planted = plant(hosts, targets, seconds, rng)
    samples = asyncio.run(preload(stack.settings, hosts, seconds, planted))
    records = asyncio.run(_records(stack.settings))
    rules = str(shared_folder() / HOST_RULES)
    processes = [
        stack.start("worker", WATCHKEEPER_RULES_FILES=rules, WATCHKEEPER_WORKER_NAME=f"w{i}")
        for i in range(workers)
    ]
    for process in processes:
        process.wait_ready()
    rate, cpu = asyncio.run(watch(stack.settings, processes, records))
    per_record = samples / records
    result: dict[str, float | int] = {
        "samples": samples,
        "samples_per_second": round(rate * per_record),
        "worker_cpu_ns_per_sample": round(sum(cpu) / per_record * 1e9),
        "workers": workers,
    }
    return result | asyncio.run(verify(stack.settings, hosts, planted))


async def _records(settings: Settings) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=list(settings.brokers))
    await consumer.start()
    ends = await consumer.end_offsets(_telemetry(settings))
    await consumer.stop()
    return sum(ends.values())


def _telemetry(settings: Settings) -> list[TopicPartition]:
    topic = settings.topic("telemetry")
    return [TopicPartition(topic, number) for number in range(settings.kafka.partitions)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=300, help="of event time; at least 120")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    with running_stack() as stack:
        result = measure(stack, chosen.targets, chosen.seconds, chosen.workers)
    result_with_machine = {**result, "machine": machine.describe()}
    if chosen.json:
        print(json.dumps(result_with_machine))
        return
    for key, value in result_with_machine.items():
        print(f"{key:28} {value}")


if __name__ == "__main__":
    main()
