"""Alerts from a real Kafka."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline.codec import alert_key, encode_alert
from pipeline.model import Alert, AlertState, labels_from
from pipeline.settings import Settings
from tests.dispatch.conftest import Process, Receiver, StartProcess, configuration

pytestmark = pytest.mark.parts


_newer = itertools.count()


def alert(name: str, state: AlertState = "firing") -> Alert:
    """A report of now; of two the second is newer."""
    now_ms = int(time.time() * 1000) + next(_newer)
    return Alert(
        labels=labels_from({"alertname": name}),
        annotations=(),
        state=state,
        time_ms=now_ms,
        active_at_ms=now_ms,
        starts_at_ms=now_ms,
        ends_at_ms=now_ms if state == "inactive" else now_ms + 240_000,
        value=1.0,
        sample_time_ms=now_ms,
        group="f;g",
    )


@pytest.fixture
async def producer(kafka_settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    it = AIOKafkaProducer(bootstrap_servers=list(kafka_settings.brokers))
    await it.start()
    yield it
    await it.stop()


class Topic:
    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self._name = settings.topic("alerts")
        self._producer = producer

    async def send(self, *alerts: Alert) -> None:
        for one in alerts:
            await self.send_raw(encode_alert(one), alert_key(one))

    async def send_raw(self, value: bytes | None, key: bytes) -> None:
        await self._producer.send_and_wait(self._name, value, key=key, partition=0)


@pytest.fixture
def topic(kafka_settings: Settings, producer: AIOKafkaProducer) -> Topic:
    return Topic(kafka_settings, producer)


@pytest.fixture
def process(new_process: StartProcess, receiver: Receiver, kafka_settings: Settings) -> Process:
    return new_process(
        configuration(receiver.url, interval="200ms"),
        kafka_settings.brokers[0],
        kafka_settings.kafka.topic_prefix,
    )


async def test_firing_and_its_end_are_told_and_pending_is_not(
    process: Process, topic: Topic, receiver: Receiver, session: aiohttp.ClientSession
) -> None:
    await process.start(session)
    await process.until_reading(session)
    await topic.send(alert("Waiting", "pending"), alert("Down"), alert("Down"))
    await receiver.until(lambda: len(receiver.posts) == 1)
    await topic.send(alert("Down", "inactive"))
    await receiver.until(lambda: len(receiver.posts) == 2)
    assert receiver.told() == [[("Down", "firing")], [("Down", "resolved")]]
    async with session.get(f"{process.url}/metrics") as response:
        metrics = await response.text()
    assert 'watchkeeper_dispatch_kafka_connected{topic="alerts"} 1.0' in metrics
    assert 'watchkeeper_alerts_received_total{source="worker"} 4.0' in metrics
    assert 'watchkeeper_alerts_ignored_total{reason="unknown"} 1.0' in metrics
    assert "watchkeeper_notification_latency_seconds_count 1.0" in metrics


async def test_records_written_while_it_was_down_are_read_and_old_ones_not_told_again(
    process: Process, topic: Topic, receiver: Receiver, session: aiohttp.ClientSession
) -> None:
    await process.start(session)
    await topic.send(alert("First"))
    await receiver.until(lambda: len(receiver.posts) == 1)
    process.stop(signal.SIGKILL)
    await topic.send(alert("Second"), alert("Short"), alert("Short", "inactive"))
    await process.start(session)
    await receiver.until(lambda: len(receiver.states()) == 4)
    assert sorted(receiver.taken()) == [
        ("First", "firing"), ("Second", "firing"), ("Short", "firing"), ("Short", "resolved"),
    ]  # fmt: skip


async def test_unreadable_record_is_set_aside_with_its_reason(
    process: Process,
    topic: Topic,
    receiver: Receiver,
    session: aiohttp.ClientSession,
    kafka_settings: Settings,
) -> None:
    await process.start(session)
    await process.until_reading(session)
    await topic.send_raw(b"{", b"key")
    await topic.send_raw(None, b"deleted")
    await topic.send(alert("Down"))
    await receiver.until(lambda: len(receiver.posts) == 1)
    consumer = AIOKafkaConsumer(
        kafka_settings.topic("alerts.rejected"),
        bootstrap_servers=list(kafka_settings.brokers),
        auto_offset_reset="earliest",
    )
    await consumer.start()
    record = await asyncio.wait_for(consumer.getone(), 20)
    await consumer.stop()
    assert (record.key, record.value) == (b"key", b"{")
    assert dict(record.headers)["reason"] == b"malformed"


async def test_offsets_are_committed_for_everything_that_was_stored(
    process: Process,
    topic: Topic,
    receiver: Receiver,
    session: aiohttp.ClientSession,
    kafka_settings: Settings,
) -> None:
    await process.start(session)
    await topic.send(alert("A"), alert("B"), alert("C"))
    await receiver.until(lambda: len(receiver.posts) == 3)
    assert process.stop(signal.SIGTERM) == 0
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(kafka_settings.brokers), group_id=kafka_settings.topic("dispatch")
    )
    await consumer.start()
    partition = TopicPartition(kafka_settings.topic("alerts"), 0)
    assert await consumer.committed(partition) == 3
    await consumer.stop()


async def test_api_works_while_kafka_is_down(
    new_process: StartProcess, receiver: Receiver, session: aiohttp.ClientSession
) -> None:
    process = new_process(configuration(receiver.url))
    await process.start(session)
    body = msgspec.json.encode([{"labels": {"alertname": "Down"}}])
    headers = {"Content-Type": "application/json"}
    async with session.post(f"{process.url}/api/v2/alerts", data=body, headers=headers) as response:
        assert response.status == 200
    await receiver.until(lambda: receiver.told() == [[("Down", "firing")]])
    async with session.get(f"{process.url}/metrics") as response:
        assert 'watchkeeper_dispatch_kafka_connected{topic="alerts"} 0.0' in await response.text()
