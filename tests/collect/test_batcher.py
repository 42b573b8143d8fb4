"""Records by partition: order, dictionaries first, ticks behind, bounded memory."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from prometheus_client import REGISTRY

from pipeline.clock import Clock
from pipeline.collect.batcher import MAX_HOLD_MS, Batcher
from pipeline.collect.frames import FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.ingest.readings import Readings
from pipeline.model import FrameBatch, Series, SeriesDictionary, Target, Tick, partition_of
from pipeline.settings import ClockSettings, CollectSettings, KafkaSettings, Settings
from tests.collect.recording import RecordingProducer

CLOCK = Clock(ClockSettings())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data=str(tmp_path),
        kafka=KafkaSettings(partitions=2),
        collect=CollectSettings(batch_ms=1),
    )


class Source:
    """A target that says one number at a time."""

    def __init__(self, instance: str, width: int = 1) -> None:
        self.target = Target("job", instance, "/m")
        self._builder = FrameBuilder(self.target, SeriesNaming((("instance", instance),)))
        self._series = tuple(Series((("__name__", f"a{i}"),)) for i in range(width))

    def put(self, batcher: Batcher, time_ms: int, value: float = 1.0) -> None:
        values = np.full(len(self._series), value)
        built = self._builder.message(Readings(self._series, values), time_ms)
        batcher.put(self.target, built)


def times(producer: RecordingProducer) -> list[int]:
    return [frame.time_ms for frame, _ in producer.frames()]


def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full, also after something was deleted."""

    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)


@asynccontextmanager
async def running(producer: RecordingProducer, settings: Settings) -> AsyncIterator[Batcher]:
    batcher = Batcher(producer, settings, CLOCK, "me")
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_frames_keep_their_order_and_follow_their_dictionary(
    producer: RecordingProducer, settings: Settings
) -> None:
    source = Source("a")
    async with running(producer, settings) as batcher:
        for time_ms in range(10):
            source.put(batcher, time_ms)
        await batcher.flush()

    kinds = [type(record) for _, _, record in producer.sent if not isinstance(record, Tick)]
    assert kinds[0] is SeriesDictionary
    assert set(kinds[1:]) == {FrameBatch}
    assert [frame.time_ms for frame, _ in producer.frames()] == list(range(10))


async def test_frames_of_a_partition_share_a_record_up_to_its_size(
    producer: RecordingProducer, settings: Settings
) -> None:
    collect = CollectSettings(batch_ms=5, batch_bytes=400)
    source = Source("a", width=1)
    async with running(producer, msgspec.structs.replace(settings, collect=collect)) as batcher:
        for time_ms in range(25):
            source.put(batcher, time_ms)
        await batcher.flush()

    sizes = [len(record) for _, _, record in producer.sent if isinstance(record, FrameBatch)]
    assert sizes == [10, 10, 5]  # a frame of one value takes 32 + 8 bytes


async def test_a_frame_goes_to_its_instance_s_partition(
    producer: RecordingProducer, settings: Settings
) -> None:
    async with running(producer, settings) as batcher:
        for name in ("a", "b", "c", "d"):
            Source(name).put(batcher, 1)
        await batcher.flush()

    for topic, partition, record in producer.sent:
        if isinstance(record, SeriesDictionary):
            assert (topic, partition) == ("series", 0)
        elif isinstance(record, FrameBatch):
            targets = {Target("job", name, "/m").id: name for name in ("a", "b", "c", "d")}
            for target in record.targets.tolist():
                assert partition == partition_of(targets[target], 2)


async def test_ticks_go_to_every_partition_behind_what_was_put_before(
    producer: RecordingProducer, settings: Settings
) -> None:
    async with running(producer, settings) as batcher:
        before_ms = CLOCK.now_ms()
        Source("a").put(batcher, before_ms)
        async with asyncio.timeout(10):
            while not (producer.ticks(0) and producer.ticks(1)):
                producer.changed.clear()
                await producer.changed.wait()

    own = partition_of("a", 2)
    records = [record for _, partition, record in producer.sent if partition == own]
    batch = next(i for i, record in enumerate(records) if isinstance(record, FrameBatch))
    tick = next(i for i, record in enumerate(records) if isinstance(record, Tick))
    assert batch < tick
    assert producer.ticks(own)[0] > before_ms


async def test_a_tick_waits_for_a_scrape_under_way_but_not_for_long(
    producer: RecordingProducer, settings: Settings
) -> None:
    short, hanging = Target("job", "a", "/m"), Target("job", "d", "/m")
    assert partition_of("a", 2) != partition_of("d", 2)
    async with running(producer, settings) as batcher:
        began_ms = CLOCK.now_ms()
        with batcher.holding(short, began_ms), batcher.holding(hanging, began_ms - 60_000):
            async with asyncio.timeout(10):
                while not (producer.ticks(0) and producer.ticks(1)):
                    producer.changed.clear()
                    await producer.changed.wait()
        now_ms = CLOCK.now_ms()

    assert producer.ticks(partition_of("a", 2))[0] == began_ms
    held_ms = producer.ticks(partition_of("d", 2))[0]
    assert began_ms - MAX_HOLD_MS <= held_ms <= now_ms - MAX_HOLD_MS


async def test_nothing_is_lost_or_reordered_while_the_broker_is_away_for_a_moment(
    producer: RecordingProducer, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = Source("a")
    producer.available = False
    async with running(producer, settings) as batcher:
        for time_ms in range(5):
            source.put(batcher, time_ms)
        while producer.refused < 2:
            producer.changed.clear()
            await producer.changed.wait()
        assert producer.sent == []
        producer.available = True
        await batcher.flush()

    assert [frame.time_ms for frame, _ in producer.frames()] == list(range(5))
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "Kafka takes nothing, frames wait",
        "Kafka takes records again",
    ]


def dropped(instance: str) -> float:
    labels = {"job": "job", "instance": instance, "feed": "/m"}
    return REGISTRY.get_sample_value("watchkeeper_collect_dropped_frames_total", labels) or 0


async def test_the_oldest_frames_are_dropped_and_counted_when_memory_is_full_and_there_is_no_disk(
    producer: RecordingProducer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_disk(monkeypatch)
    collect = CollectSettings(batch_ms=0, buffer_bytes=10 * 40)
    source = Source("full")
    producer.available = False
    async with running(producer, msgspec.structs.replace(settings, collect=collect)) as batcher:
        for time_ms in range(15):
            source.put(batcher, time_ms)
        producer.available = True
        await batcher.flush()

    assert times(producer) == list(range(5, 15))
    assert dropped("full") == 5


async def test_a_record_that_kafka_will_never_take_is_dropped_and_counted(
    producer: RecordingProducer, settings: Settings
) -> None:
    producer.too_large = 4000
    async with running(producer, settings) as batcher:
        Source("wide", width=30).put(batcher, 1)
        await batcher.flush()
        producer.too_large = 100
        wide = Source("wide", width=30)
        wide.put(batcher, 2)
        await batcher.flush()

    assert [frame.time_ms for frame, _ in producer.frames()] == [1]
    assert dropped("wide") == 1
