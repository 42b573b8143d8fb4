"""Processes of a stack may start before Kafka does; what they wait with is `until_topics`."""

from __future__ import annotations

import asyncio
import logging

import pytest
from kafka.admin import KafkaAdminClient

from pipeline.brokers import connection_of, until_topics
from pipeline.local.kafka import LocalKafka
from pipeline.settings import Settings


async def test_while_nobody_answers_it_waits_and_says_why_once(
    unused_tcp_port: int, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    nowhere = connection_of(Settings(brokers=(f"127.0.0.1:{unused_tcp_port}",)))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(until_topics(nowhere, ["telemetry"]), 1.0)
    said = [record.getMessage() for record in caplog.records if "waiting" in record.getMessage()]
    assert len(said) == 1
    assert f"127.0.0.1:{unused_tcp_port}: expected a broker" in said[0]


@pytest.mark.parts
async def test_it_waits_until_the_last_topic_is_there(
    kafka_settings: Settings, broker: LocalKafka, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    there, late = kafka_settings.topic("telemetry"), kafka_settings.topic("late")
    waiting = asyncio.create_task(until_topics(connection_of(kafka_settings), [there, late]))
    while f"{late}: no such topic yet" not in caplog.text:  # noqa: ASYNC110 - no event for a log
        await asyncio.sleep(0.02)
    assert there not in caplog.text
    admin = KafkaAdminClient(bootstrap_servers=[broker.address])
    await asyncio.to_thread(admin.create_topics, {late: {"num_partitions": 1}})
    admin.close()
    await asyncio.wait_for(waiting, 30)
