"""While Kafka is away frames wait on disk; order, ticks and dictionaries are as if it weren't."""

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from pipeline.clock import Clock
from pipeline.collect import batcher as batcher_module
from pipeline.collect import lane as lane_module
from pipeline.collect.batcher import Batcher
from pipeline.collect.frames import FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.ingest.readings import Readings
from pipeline.model import FrameBatch, Series, Target, Tick, partition_of
from pipeline.settings import ClockSettings, CollectSettings, KafkaSettings, Settings
from tests.collect.recording import RecordingProducer


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batcher_module, lane_module):
        monkeypatch.setattr(module, "RETRY_FIRST", 0.001)
        monkeypatch.setattr(module, "RETRY_MOST", 0.002)


def settings_of(folder: Path, collect: CollectSettings) -> Settings:
    return Settings(data=str(folder), kafka=KafkaSettings(partitions=2), collect=collect)


class HangingProducer(RecordingProducer):
    """As a broker whose machine is gone: nothing is refused, nothing is acknowledged."""

    hangs = True

    async def send(self, topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        if self.hangs:
            self.refused += 1
            self.changed.set()
            await asyncio.Event().wait()
        await super().send(topic, partition, key, value)


class Process:
    """A collector's batcher and two targets, from start to kill."""

    def __init__(self, producer: RecordingProducer, settings: Settings, speed: float = 1.0) -> None:
        self.clock = Clock(ClockSettings(speed=speed))
        self.producer = producer
        self.batcher = Batcher(producer, settings, self.clock, "me")
        self.task = asyncio.create_task(self.batcher.run())
        self._builders: dict[str, FrameBuilder] = {}

    def put(self, instance: str, time_ms: int) -> None:
        target = Target("job", instance, "/m")
        if instance not in self._builders:
            naming = SeriesNaming((("instance", instance),))
            self._builders[instance] = FrameBuilder(target, naming)
        readings = Readings((Series((("__name__", "a"),)),), np.array([1.0]))
        self.batcher.put(target, self._builders[instance].message(readings, time_ms))

    async def refused(self) -> None:
        """Return after Kafka refused something more."""
        async with asyncio.timeout(10):
            before = self.producer.refused
            while self.producer.refused == before:
                self.producer.changed.clear()
                await self.producer.changed.wait()

    async def flush(self) -> None:
        async with asyncio.timeout(10):
            await self.batcher.flush()

    async def stop(self) -> None:
        await asyncio.sleep(0)  # a task that hasn't begun has no end either
        self.task.cancel()
        await asyncio.wait([self.task])


def times(producer: RecordingProducer, instance: str = "a") -> list[int]:
    """Of a target's frames as they came, without those that came again."""
    target = Target("job", instance, "/m")
    seen = [frame.time_ms for frame, _ in producer.frames() if frame.target_id == target.id]
    return list(dict.fromkeys(seen))


def gauge(name: str, where: str = "disk") -> float:
    value = REGISTRY.get_sample_value(f"watchkeeper_collect_{name}", {"where": where})
    assert value is not None
    return value


async def test_nothing_is_written_while_kafka_takes_records(
    tmp_path: Path, producer: RecordingProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    monkeypatch.setattr(os, "pwrite", lambda *arguments: written.append(arguments))
    process = Process(producer, settings_of(tmp_path, CollectSettings(batch_ms=0)))
    for time_ms in range(20):
        process.put("a", time_ms)
        await asyncio.sleep(0)
    await process.flush()
    await process.stop()

    assert times(producer) == list(range(20))
    assert written == []


async def test_what_kafka_did_not_take_is_sent_first_by_the_next_process(
    tmp_path: Path, producer: RecordingProducer
) -> None:
    settings = settings_of(tmp_path, CollectSettings(batch_ms=0, batch_bytes=100))
    producer.available = False
    process = Process(producer, settings)
    for time_ms in range(10):
        process.put("a", time_ms)
    await process.refused()
    for time_ms in range(10, 20):
        process.put("a", time_ms)
    await process.stop()
    assert producer.sent == []

    process = Process(producer, settings)
    for time_ms in range(20, 30):
        process.put("a", time_ms)
    producer.available = True
    await process.flush()
    await process.stop()

    assert times(producer) == list(range(30))
    assert process.batcher._spool.used_bytes == 0


async def test_a_broker_that_answers_nothing_sends_frames_to_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batcher_module, "PATIENCE", 0.01)
    producer = HangingProducer()
    process = Process(producer, settings_of(tmp_path, CollectSettings(batch_ms=0)))
    process.put("a", 1)
    await process.refused()
    lane = process.batcher._lane(Target("job", "a", "/m"))
    async with asyncio.timeout(10):
        while not lane.to_disk:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.001)
    process.put("a", 2)
    assert lane.empty
    assert lane.kept is not None

    await process.stop()
    producer.hangs = False
    process = Process(producer, settings_of(tmp_path, CollectSettings(batch_ms=0)))
    await process.flush()
    await process.stop()

    assert times(producer) == [1, 2]


async def test_a_record_that_kafka_took_late_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, producer: RecordingProducer
) -> None:
    process = Process(producer, settings_of(tmp_path, CollectSettings(batch_ms=0)))
    send, go_on = producer.send, asyncio.Event()

    async def slow(topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        await go_on.wait()
        await send(topic, partition, key, value)

    monkeypatch.setattr(producer, "send", slow)
    process.put("a", 1)
    lane = process.batcher._lane(Target("job", "a", "/m"))
    while not lane.under_way:  # noqa: ASYNC110 - nobody is told
        await asyncio.sleep(0)
    process.batcher._spill(lane)
    process.put("a", 2)
    go_on.set()
    await process.flush()
    await process.stop()

    assert [frame.time_ms for frame, _ in producer.frames()] == [1, 2]


async def test_frames_go_to_disk_when_memory_is_full(
    tmp_path: Path, producer: RecordingProducer
) -> None:
    collect = CollectSettings(batch_ms=1000, batch_bytes=4000, buffer_bytes=10 * 40)
    process = Process(producer, settings_of(tmp_path, collect))
    for time_ms in range(50):
        process.put("a", time_ms)
    process.batcher._observe()
    assert gauge("buffered_bytes", "memory") == 0
    assert gauge("buffered_bytes") > 50 * 40
    assert gauge("buffer_limit_bytes") == collect.disk_buffer_bytes
    assert gauge("buffer_limit_bytes", "memory") == 400
    oldest = REGISTRY.get_sample_value("watchkeeper_collect_buffer_oldest_seconds")
    assert oldest == pytest.approx(process.clock.now(), abs=60)  # the first frame is of 1970
    await process.flush()
    await process.stop()

    assert times(producer) == list(range(50))


async def test_a_full_disk_buffer_is_a_gap_that_is_counted_by_target(
    tmp_path: Path, producer: RecordingProducer
) -> None:
    collect = CollectSettings(batch_ms=0, disk_buffer_bytes=32 * 300, batch_bytes=200)
    producer.available = False
    process = Process(producer, settings_of(tmp_path, collect))
    process.put("a", 0)
    process.put("lost", 0)
    await process.refused()
    for time_ms in range(1, 300):
        process.put("lost", time_ms)
    producer.available = True
    await process.flush()
    await process.stop()

    kept = times(producer, "lost")
    assert kept == list(range(300 - len(kept), 300))
    assert 20 < len(kept) < 250
    labels = {"job": "job", "instance": "lost", "feed": "/m"}
    dropped = REGISTRY.get_sample_value("watchkeeper_collect_dropped_frames_total", labels)
    assert dropped == 300 - len(kept)
    assert {value for _, samples in producer.frames() for value in samples.values()} == {1.0}


async def test_a_disk_that_fails_is_counted_and_memory_takes_over_in_order(
    tmp_path: Path, producer: RecordingProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failures() -> float:
        name = "watchkeeper_collect_buffer_failures_total"
        return REGISTRY.get_sample_value(name, {"reason": "write"}) or 0

    def broken(*_arguments: object) -> int:
        raise OSError("broken")

    before = failures()
    producer.available = False
    process = Process(producer, settings_of(tmp_path, CollectSettings(batch_ms=0)))
    process.put("a", 0)
    await process.refused()
    process.put("a", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", broken)
        for time_ms in range(2, 5):
            process.put("a", time_ms)
        await process.refused()
    assert failures() > before
    for time_ms in range(5, 8):
        process.put("a", time_ms)
    producer.available = True
    await process.flush()
    await process.stop()

    assert times(producer) == list(range(8))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "b", "d"]), st.integers(1, 30)),
        st.sampled_from([("away", 0), ("back", 0), ("pause", 1), ("pause", 60), ("restart", 0)]),
    ),
    max_size=25,
)


@given(STEPS)
@examples(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_happens_every_frame_comes_in_order_and_no_tick_overtakes_it(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    asyncio.run(live(tmp_path_factory.mktemp("data"), steps))


async def live(folder: Path, steps: list[tuple[str, int]]) -> None:
    collect = CollectSettings(batch_ms=0, batch_bytes=300, buffer_bytes=1000)
    settings = settings_of(folder, collect)
    producer = RecordingProducer()
    process = Process(producer, settings, speed=1000.0)
    put: dict[str, list[int]] = {"a": [], "b": [], "d": []}
    for what, size in steps:
        if what in ("away", "back"):
            producer.available = what == "back"
        elif what == "pause":
            await asyncio.sleep(size / 1000)
        elif what == "restart":
            await process.stop()
            process = Process(producer, settings, speed=1000.0)
        else:
            for _ in range(size):
                time_ms = max(process.clock.now_ms(), *put[what][-1:], 0) + 1
                put[what].append(time_ms)
                process.put(what, time_ms)
    producer.available = True
    await process.flush()
    await process.stop()

    assert {instance: times(producer, instance) for instance in put} == put
    for partition in range(2):
        newest_tick, seen = 0, set[tuple[int, int]]()
        for _, of, record in producer.sent:
            if of == partition and isinstance(record, Tick):
                newest_tick = max(newest_tick, record.time_ms)
            elif of == partition and isinstance(record, FrameBatch):
                new = {(f.target_id, f.time_ms) for f in map(record.frame, range(len(record)))}
                assert all(time_ms >= newest_tick for _, time_ms in new - seen)
                seen |= new


def test_the_partitions_of_these_tests_differ() -> None:
    assert {partition_of(instance, 2) for instance in ("a", "b", "d")} == {0, 1}
