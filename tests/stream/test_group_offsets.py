from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline.brokers import connection_of
from pipeline.settings import Settings
from pipeline.stream.group_offsets import GroupOffsets
from pipeline.stream.liveness import Standing

pytestmark = pytest.mark.parts


async def test_standings_are_what_the_group_committed_and_where_the_partitions_end(
    kafka_settings: Settings,
):
    connection = connection_of(kafka_settings)
    prefix, group = kafka_settings.kafka.topic_prefix, kafka_settings.topic("worker")
    topic = kafka_settings.topic("telemetry")
    producer = AIOKafkaProducer(**connection)
    consumer = AIOKafkaConsumer(**connection, group_id=group, enable_auto_commit=False)
    offsets = GroupOffsets(connection, prefix, group)
    await producer.start()
    await consumer.start()
    await offsets.start()
    try:
        for _ in range(5):
            await producer.send_and_wait(topic, b"record", partition=2)
        consumer.assign([TopicPartition(topic, 2)])
        await consumer.commit({TopicPartition(topic, 2): 3})
        assert await offsets.standings([("telemetry", 1), ("telemetry", 2)]) == {
            ("telemetry", 1): Standing(0, 0),
            ("telemetry", 2): Standing(3, 5),
        }
        assert await offsets.standings([]) == {}
    finally:
        await offsets.stop()
        await consumer.stop()
        await producer.stop()
