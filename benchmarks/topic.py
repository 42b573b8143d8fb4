"""A topic read to its end: what a benchmark holds its figures against."""

from __future__ import annotations

from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from pipeline.settings import Settings


async def records_of(
    settings: Settings, topic: str, partitions: int
) -> AsyncIterator[ConsumerRecord[bytes, bytes]]:
    """All records from the beginning to the end of now, one partition after the other."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(settings.brokers),
        enable_auto_commit=False,
        max_partition_fetch_bytes=8 * 1024 * 1024,
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
                        yield record
    finally:
        await consumer.stop()
