"""How soon a killed worker is back, and whether it then knows what one that lived would know.

    python benchmarks/recovery.py                                 100 k series at 1 s
    python benchmarks/recovery.py --series 1000000 --interval 15
    python benchmarks/recovery.py --json

Targets of 500 series send frames through the collector's own batcher. After `--history` seconds the
worker gets SIGKILL and is started again at once, while the load goes on. `seconds` is the time from
the kill until every partition has a mark that is less than `FRESH_S` old: a verdict on what is now.

`state_equal`: the same records go, from the first on, through a worker in this process that was
never killed. For the frames that came after the kill both say which score each series has (the
detectors' state, to the last bit of a float32) and which alerts fire since when (windows, alerts).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import machine
import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from hosts import SERIES, Hosts
from stack import HOST_RULES, Process, Stack, running_stack, shared_folder

from pipeline.brokers import connection_of
from pipeline.clock import Clock
from pipeline.codec import (
    CodecError,
    decode_alert,
    decode_dictionary,
    decode_signal,
    decode_telemetry,
)
from pipeline.collect.batcher import Batcher
from pipeline.collect.frames import Built
from pipeline.collect.producer import KafkaProducer
from pipeline.model import Alert, Evaluated, FloatArray, ScoreBatch, Tick
from pipeline.rules.files import load_rules
from pipeline.settings import Settings
from pipeline.stream.main import new_partitions

FRESH_S, GO_ON_S, LIMIT_S = 2.0, 20.0, 600.0
BREACHES, OVER, LIMIT = 40, 5000.0, 1000.0

_RULES = f"""\
groups:
  - name: bench
    rules:
      - alert: QueueTooLong
        expr: avg_over_time(application_queue_depth[30s]) > {LIMIT}
        for: 5s
        labels: {{severity: critical}}
"""

Scores = dict[tuple[int, int], bytes]
"""By target and time, the columns and scores that were published."""
Firing = set[tuple[int, int, int]]
"""Fingerprint, start and time of each report of a firing alert."""


class Load:
    """Frames of all targets, spread evenly over the interval."""

    def __init__(self, settings: Settings, targets: int, interval: float) -> None:
        self.hosts = Hosts(targets)
        self._targets, self._interval = targets, interval
        self._clock = Clock(settings.clock)
        self._producer = KafkaProducer(connection_of(settings))
        self._batcher = Batcher(self._producer, settings, self._clock, "bench")
        self._queues = [
            i for i, c in enumerate(self.hosts.columns) if c.name == "application_queue_depth"
        ]

    async def run(self, stop: asyncio.Event) -> int:
        """Send until `stop`; the frames sent. Some queues break their limit on the way."""
        sending = asyncio.create_task(self._batcher.run())
        rng = np.random.default_rng(3)
        broken = {
            (int(t), self._queues[int(q)]): 20.0 + 4 * i
            for i, (t, q) in enumerate(
                zip(
                    rng.integers(0, self._targets, BREACHES),
                    rng.integers(0, len(self._queues), BREACHES),
                    strict=True,
                )
            )
        }
        start = time.monotonic()
        sent = 0
        values = self.hosts.next_second()
        while not stop.is_set():
            elapsed = time.monotonic() - start
            due = int(elapsed * self._targets / self._interval)
            while sent < due:
                target = sent % self._targets
                if target == 0:
                    values = self.hosts.next_second()
                self._put(target, values, broken, elapsed, first=sent < self._targets)
                sent += 1
            await asyncio.sleep(0.005)
        await self._batcher.flush()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await self._producer.close()
        return sent

    def _put(
        self,
        target: int,
        values: FloatArray,
        broken: dict[tuple[int, int], float],
        elapsed: float,
        *,
        first: bool,
    ) -> None:
        row = values[target].copy()
        for (t, queue), at in broken.items():
            if t == target and at <= elapsed < at + 40:
                row[queue] = OVER
        dictionary = self.hosts.dictionaries[target]
        frame = self.hosts.frame(target, self._clock.now_ms(), row)
        new = (dictionary,) if first else ()
        self._batcher.put(dictionary.target, Built((frame,), new, 0))


async def records_of(
    settings: Settings, topic: str, partitions: int
) -> AsyncIterator[tuple[int, int, bytes]]:
    """Partition, offset and value of all records, from the beginning to the end of now."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(settings.brokers), max_partition_fetch_bytes=8 * 1024 * 1024
    )
    await consumer.start()
    try:
        for place in [TopicPartition(settings.topic(topic), n) for n in range(partitions)]:
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            end = (await consumer.end_offsets([place]))[place]
            while await consumer.position(place) < end:
                for records in (await consumer.getmany(place, timeout_ms=500)).values():
                    for record in records:
                        yield place.partition, record.offset, record.value
    finally:
        await consumer.stop()


async def until_fresh(settings: Settings) -> float:
    """Return when every partition has a mark that is fresh; the age of the oldest."""
    consumer = AIOKafkaConsumer(bootstrap_servers=list(settings.brokers))
    await consumer.start()
    times_ms = dict.fromkeys(range(settings.kafka.partitions), 0)
    try:
        consumer.assign([TopicPartition(settings.topic("signals"), n) for n in times_ms])
        await consumer.seek_to_end()
        deadline = time.monotonic() + LIMIT_S
        while (age := time.time() - min(times_ms.values()) / 1000) > FRESH_S:
            if time.monotonic() > deadline:
                raise SystemExit(f"no fresh marks within {LIMIT_S:.0f} s: {times_ms}")
            for records in (await consumer.getmany(timeout_ms=50)).values():
                for record in records:
                    signal = decode_signal(record.value)
                    if isinstance(signal, Evaluated):
                        newest = max(times_ms[signal.partition], signal.time_ms)
                        times_ms[signal.partition] = newest
        return age
    finally:
        await consumer.stop()


def note_scores(scores: Scores, record: bytes) -> None:
    try:
        signal = decode_signal(record)
    except CodecError:
        return
    if isinstance(signal, ScoreBatch):
        for i in range(len(signal)):
            frame = signal.frame(i)
            text = frame.columns.tobytes() + frame.scores.tobytes()
            scores[frame.target_id, frame.time_ms] = text


def note_firing(firing: Firing, alert: Alert) -> None:
    if alert.state == "firing":
        firing.add((alert.fingerprint, alert.starts_at_ms, alert.time_ms))


async def what_was_said(settings: Settings) -> tuple[Scores, Firing]:
    """Of the worker that was killed."""
    scores: Scores = {}
    firing: Firing = set()
    async for _, _, value in records_of(settings, "signals", settings.kafka.partitions):
        note_scores(scores, value)
    async for _, _, value in records_of(settings, "alerts", 1):
        note_firing(firing, decode_alert(value))
    return scores, firing


async def what_should_be_said(settings: Settings) -> tuple[Scores, Firing]:
    """Of a worker that reads everything and is never killed."""
    known = {}
    async for _, _, value in records_of(settings, "series", 1):
        dictionary = decode_dictionary(value)
        known[dictionary.id] = dictionary
    groups, problems = load_rules(settings.rules.files, settings.rules.prometheus)
    if problems:
        raise SystemExit("\n".join(str(problem) for problem in problems))
    new = new_partitions(settings, groups)
    partitions = [new(number) for number in range(settings.kafka.partitions)]
    scores: Scores = {}
    firing: Firing = set()
    async for number, _, value in records_of(settings, "telemetry", settings.kafka.partitions):
        partition, record = partitions[number], decode_telemetry(value)
        if isinstance(record, Tick):
            step = partition.tick(record)
        else:
            for dictionary_id in partition.unknown(record):
                partition.learn(known[dictionary_id])
            step = partition.frames(record, unknown={})
        for sent in step.records(number, settings.kafka.partitions):
            if sent.topic == "signals":
                note_scores(scores, sent.value)
            elif sent.topic == "alerts":
                note_firing(firing, decode_alert(sent.value))
    return scores, firing


async def run(stack: Stack, targets: int, interval: float, history: float) -> dict[str, object]:
    settings = settings_of(stack)
    worker: Process = stack.start(
        "worker",
        WATCHKEEPER_RULES_FILES=",".join(settings.rules.files),
        WATCHKEEPER_DETECT_PUBLISH_ABOVE=str(settings.detect.publish_above),
        WATCHKEEPER_WORKER_SNAPSHOT_INTERVAL="30",
    )
    worker.wait_ready()
    load = Load(settings, targets, interval)
    stop = asyncio.Event()
    loading = asyncio.create_task(load.run(stop))
    await asyncio.sleep(2)
    if loading.done():
        loading.result()  # why nothing is sent
    await until_fresh(settings)
    await asyncio.sleep(history)
    behind = await until_fresh(settings)
    killed_ms, began = int(time.time() * 1000), time.monotonic()
    worker.kill_and_restart()
    await until_fresh(settings)
    seconds = time.monotonic() - began
    await asyncio.sleep(GO_ON_S)
    stop.set()
    frames = await loading
    await until_read(worker)
    said, fired = await what_was_said(settings)
    expected, should_fire = await what_should_be_said(settings)
    after = [place for place in expected if place[1] > killed_ms]
    differing = [place for place in after if said.get(place) != expected[place]]
    episodes = {report[:2] for report in fired}
    expected_episodes = {report[:2] for report in should_fire}
    return {
        "seconds": round(seconds, 2),
        "state_equal": bool(after) and not differing and episodes == expected_episodes,
        "mark_age_before_s": round(behind, 2),
        "frames": frames,
        "frames_compared": len(after),
        "frames_that_differ": len(differing),
        "episodes": len(expected_episodes),
        "episodes_that_differ": len(episodes ^ expected_episodes),
        "series": targets * SERIES,
        "interval_s": interval,
        "history_s": history,
    }


async def until_read(worker: Process) -> None:
    """Return when the worker has read what was sent."""
    while worker.metric("watchkeeper_kafka_lag_records") > 0:  # noqa: ASYNC110  # a poll
        await asyncio.sleep(0.5)
    await asyncio.sleep(3)  # the effects of the last records


def settings_of(stack: Stack) -> Settings:
    """The stack's, with rules, and with every score published."""
    rules_file = Path(stack.folder) / "bench.yml"
    rules_file.write_text(_RULES, encoding="utf-8")
    files = (str(shared_folder() / HOST_RULES), str(rules_file))
    replace = msgspec.structs.replace
    return replace(
        stack.settings,
        rules=replace(stack.settings.rules, files=files),
        detect=replace(stack.settings.detect, publish_above=0.0),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two frames")
    parser.add_argument("--history", type=float, default=90.0, help="seconds before the kill")
    chosen = parser.parse_args()
    with running_stack() as stack:
        targets = max(1, chosen.series // SERIES)
        result = asyncio.run(run(stack, targets, chosen.interval, chosen.history))
    result["machine"] = machine.describe()
    if chosen.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:22} {value}")


if __name__ == "__main__":
    main()
