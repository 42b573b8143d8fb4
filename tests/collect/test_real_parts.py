"""With the real things: Kafka takes what is sent, and node_exporter is read to the last value."""

import asyncio
import math
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from pipeline.brokers import connection_of
from pipeline.codec import decode_dictionary, decode_telemetry
from pipeline.collect.collector import Collector, load_config
from pipeline.collect.fetch import FetchError, fetch
from pipeline.collect.producer import KafkaProducer, SendError
from pipeline.ingest.prometheus_text import TextParser
from pipeline.local.ports import free_ports
from pipeline.model import FrameBatch, SeriesDictionary, Tick
from pipeline.settings import CollectSettings, Settings
from tests.collect.recording import RecordingProducer
from tests.conftest import ProgramFinder

pytestmark = pytest.mark.parts


async def read_all(settings: Settings, topic: str, count: int) -> list[bytes]:
    """The first `count` records of a topic's partitions, as they come."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(settings.brokers), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        name = settings.topic(topic)
        partitions = await asyncio.to_thread(lambda: consumer.partitions_for_topic(name))
        while not partitions:
            await consumer._client.force_metadata_update()
            consumer._client.add_topic(name)
            partitions = consumer.partitions_for_topic(name)
        consumer.assign([TopicPartition(name, partition) for partition in partitions])
        records: list[bytes] = []
        async with asyncio.timeout(20):
            while len(records) < count:
                record = await consumer.getone()
                records.append(record.value)
        return records
    finally:
        await consumer.stop()


async def test_what_is_collected_can_be_read_from_kafka(kafka_settings: Settings) -> None:
    settings = msgspec.structs.replace(
        kafka_settings,
        collect=CollectSettings(host_interval=0.2, node_exporter="127.0.0.1:9", name="me"),
    )
    producer = KafkaProducer(connection_of(settings))
    async with aiohttp.ClientSession() as session:
        collector = Collector(settings, load_config(settings), producer, session)
        task = asyncio.create_task(collector.run())
        try:
            dictionary = decode_dictionary((await read_all(settings, "series", 1))[0])
            records = [
                decode_telemetry(record) for record in await read_all(settings, "telemetry", 8)
            ]
        finally:
            task.cancel()
            await asyncio.wait([task])
            await producer.close()

    assert isinstance(dictionary, SeriesDictionary)
    assert dictionary.target.feed == "host"
    batches = [record for record in records if isinstance(record, FrameBatch)]
    assert batches[0].dictionaries.tolist()[0] == dictionary.id
    assert len(batches[0].frame(0).values) == len(dictionary.series)
    ticks = [record for record in records if isinstance(record, Tick)]
    assert {tick.collector for tick in ticks} <= {"me"}


async def test_a_topic_that_isn_t_there_is_worth_another_try(kafka_settings: Settings) -> None:
    producer = KafkaProducer(connection_of(kafka_settings))
    try:
        with pytest.raises(SendError, match="nowhere") as error:
            await producer.send("nowhere", 0, None, b"x")
    finally:
        await producer.close()

    assert not error.value.permanent


async def test_a_broker_that_is_away_is_worth_another_try() -> None:
    (port,) = free_ports(1)
    producer = KafkaProducer(connection_of(Settings(brokers=(f"127.0.0.1:{port}",))))
    try:
        with pytest.raises(SendError) as error:
            await producer.send("telemetry", 0, None, b"x")
    finally:
        await producer.close()

    assert not error.value.permanent


async def test_a_record_that_is_too_large_is_not(kafka_settings: Settings) -> None:
    producer = KafkaProducer(connection_of(kafka_settings))
    try:
        with pytest.raises(SendError) as error:
            await producer.send(kafka_settings.topic("telemetry"), 0, None, bytes(17 << 20))
    finally:
        await producer.close()

    assert error.value.permanent


async def test_node_exporter_is_read_as_prometheus_client_reads_it(
    program: ProgramFinder, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    command = [program("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}/metrics"
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession() as session:
            body = await until_it_answers(session, url)
            producer = RecordingProducer()
            collect = CollectSettings(host_interval=0.1, node_exporter=f"127.0.0.1:{port}")
            settings = Settings(data=str(tmp_path), collect=collect)
            collector = Collector(settings, load_config(settings), producer, session)
            task = asyncio.create_task(collector.run())
            try:
                collected = await producer.until("up", 1, "/metrics")
            finally:
                task.cancel()
                await asyncio.wait([task])
    finally:
        process.terminate()
        await process.wait()

    expected = {
        tuple(sorted({"__name__": sample.name, **sample.labels}.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    readings = TextParser().parse(body)
    got = {
        series.labels: value
        for series, value in zip(readings.series, readings.values.tolist(), strict=True)
    }
    without_empty = {
        tuple(pair for pair in labels if pair[1]): value for labels, value in expected.items()
    }
    assert len(got) > 100
    assert got.keys() == without_empty.keys()
    for labels, value in without_empty.items():
        assert got[labels] == value or (math.isnan(value) and math.isnan(got[labels]))
    names = {dict(labels)["__name__"] for labels in collected}
    assert {"node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_load1"} <= names
    assert all(dict(labels)["job"] == "node" for labels in collected)


async def until_it_answers(session: aiohttp.ClientSession, url: str) -> bytes:
    async with asyncio.timeout(20):
        while True:
            try:
                return await fetch(session, url, 5, 1 << 24)
            except FetchError:
                await asyncio.sleep(0.05)
