"""Dictionaries, replay and delivery against a real broker."""

import asyncio
import contextlib

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from fleet import dictionary

from pipeline.brokers import connection_of
from pipeline.codec import dictionary_key, encode_dictionary
from pipeline.settings import Settings
from pipeline.stream.delivery import KafkaDelivery, Record
from pipeline.stream.dictionaries import Dictionaries
from pipeline.stream.past import KafkaPast

pytestmark = pytest.mark.parts


@contextlib.asynccontextmanager
async def started(service):
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


def delivery(settings: Settings) -> KafkaDelivery:
    return KafkaDelivery(connection_of(settings), settings.kafka.topic_prefix)


def named(instance: str) -> Record:
    known = dictionary(instance)
    return Record("series", 0, encode_dictionary(known), dictionary_key(known.id))


async def test_a_dictionary_is_found_whether_it_came_before_or_after_the_start(kafka_settings):
    connection = connection_of(kafka_settings)
    async with started(delivery(kafka_settings)) as deliver:
        await (await deliver([named("a"), Record("series", 0, b"rubbish", b"key")]))
        async with started(Dictionaries(connection, kafka_settings.topic("series"))) as known:
            assert await known.find(dictionary("a").id) == dictionary("a")
            assert await known.find(dictionary("b").id) is None
            await (await deliver([named("b")]))
            assert await known.find(dictionary("b").id) == dictionary("b")


async def test_the_past_of_a_partition_is_read_oldest_first(kafka_settings):
    connection, prefix = connection_of(kafka_settings), kafka_settings.kafka.topic_prefix
    async with started(delivery(kafka_settings)) as deliver:
        await (await deliver([Record("telemetry", 2, b"%d" % i) for i in range(5)]))
    async with KafkaPast(connection, prefix, 600.0)("telemetry", 2) as past:
        assert past.end == 5
        assert await past.some_time_before(3) == 0
        assert [value async for value in past.records(0, 3)] == [b"0", b"1", b"2"]
        assert [value async for value in past.records(4, 5)] == [b"4"]
        assert [value async for value in past.records(3, 3)] == []


async def test_records_are_delivered_in_order_with_key_and_headers(kafka_settings):
    async with started(delivery(kafka_settings)) as deliver:
        assert await deliver([]) is None
        effects = await deliver(
            [
                Record("telemetry.rejected", 0, b"x", headers=(("reason", b"kind"),)),
                Record("telemetry.rejected", 0, b"y", key=b"k"),
            ]
        )
        await effects
    consumer = AIOKafkaConsumer(bootstrap_servers=list(kafka_settings.brokers))
    async with started(consumer):
        place = TopicPartition(kafka_settings.topic("telemetry.rejected"), 0)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        first, second = [await asyncio.wait_for(consumer.getone(), 20) for _ in range(2)]
    assert (first.value, list(first.headers)) == (b"x", [("reason", b"kind")])
    assert (second.value, second.key) == (b"y", b"k")
