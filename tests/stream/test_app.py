"""The Faust application on a real broker."""

import asyncio
import contextlib
from collections import defaultdict

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.brokers import connection_of
from pipeline.settings import Settings
from pipeline.stream.app import build_app
from pipeline.stream.underway import Effects

pytestmark = pytest.mark.parts


class Seen:
    """Handlers that note what they are given."""

    def __init__(self) -> None:
        self.records: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)
        self.effects: dict[bytes, Effects] = {}
        self.assigned: dict[str, frozenset[int]] = {}
        self.changed = asyncio.Condition()
        self.moved = asyncio.Event()

    async def on_telemetry(self, partition: int, _offset: int, value: bytes) -> Effects | None:
        await self._note("telemetry", partition, value)
        return self.effects.get(value)

    async def on_signal(self, partition: int, _offset: int, value: bytes) -> None:
        await self._note("signals", partition, value)

    def on_assigned(self, topic: str, partitions: frozenset[int]) -> None:
        self.assigned[topic] = partitions
        self.moved.set()

    async def _note(self, topic: str, partition: int, value: bytes) -> None:
        async with self.changed:
            self.records[topic, partition].append(value)
            self.changed.notify_all()

    async def until_assigned(self, count: int) -> None:
        while len(self.assigned.get("telemetry", ())) != count:
            self.moved.clear()
            await self.moved.wait()

    async def until(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: sum(map(len, self.records.values())) >= count)


@contextlib.asynccontextmanager
async def running(settings: Settings, member: str, seen: Seen):
    app = build_app(settings, connection_of(settings), member, seen)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def send(settings: Settings, topic: str, partition: int, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=list(settings.brokers))
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(settings.topic(topic), value, partition=partition)
    finally:
        await producer.stop()


async def test_every_partition_of_both_topics_reaches_the_handlers_in_order(kafka_settings):
    seen = Seen()
    for partition in range(4):
        await send(kafka_settings, "telemetry", partition, b"t1", b"t2")
        await send(kafka_settings, "signals", partition, b"s1")
    async with running(kafka_settings, "one", seen):
        await asyncio.wait_for(seen.until(12), 60)
    assert all(seen.records["telemetry", p] == [b"t1", b"t2"] for p in range(4))
    assert all(seen.records["signals", p] == [b"s1"] for p in range(4))
    assert seen.assigned == {"telemetry": frozenset(range(4)), "signals": frozenset(range(4))}


async def test_a_second_worker_takes_half_of_the_partitions(kafka_settings):
    first, second = Seen(), Seen()
    async with running(kafka_settings, "one", first), running(kafka_settings, "two", second):
        await asyncio.wait_for(first.until_assigned(2), 60)
        await asyncio.wait_for(second.until_assigned(2), 60)
        assert first.assigned["telemetry"] | second.assigned["telemetry"] == frozenset(range(4))
        assert first.assigned["telemetry"] == first.assigned["signals"]


async def test_what_had_effects_under_way_comes_again_and_what_came_after_it(kafka_settings):
    await send(kafka_settings, "telemetry", 0, b"t1", b"t2", b"t3")
    first = Seen()
    first.effects[b"t2"] = asyncio.get_running_loop().create_future()
    async with running(kafka_settings, "one", first):
        await asyncio.wait_for(first.until(3), 60)
    again = Seen()
    async with running(kafka_settings, "one", again):
        await asyncio.wait_for(again.until(2), 60)
    assert again.records["telemetry", 0] == [b"t2", b"t3"]
