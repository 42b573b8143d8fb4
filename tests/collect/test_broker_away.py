"""With a real Kafka that goes and comes back, and a collector that is killed meanwhile."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.codec import decode_dictionary, decode_telemetry
from pipeline.collect.fetch import FetchError, fetch
from pipeline.local.kafka import LocalKafka
from pipeline.local.ports import free_ports
from pipeline.local.topics import ensure_topics
from pipeline.model import FrameBatch, Tick, is_absent, partition_of
from pipeline.settings import CollectSettings, KafkaSettings, Settings, environment_of
from tests.collect.conftest import Start

pytestmark = [pytest.mark.parts, pytest.mark.timeout(240)]


@asynccontextmanager
async def collector(settings: Settings, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with (folder / "collect.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pipeline", "collect"),
            cwd=folder,
            env={
                **os.environ,
                **environment_of(settings),
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.05)


async def metric(port: int, name: str) -> float:
    """Of the collector's own metrics, -1 while it doesn't answer."""
    async with aiohttp.ClientSession() as session:
        try:
            page = await fetch(session, f"http://127.0.0.1:{port}/metrics", 5, 1 << 24)
        except FetchError:
            return -1
    lines = (line.rpartition(" ") for line in page.decode().splitlines())
    return sum(float(value) for series, _, value in lines if series.split("{")[0] == name)


async def read(settings: Settings, partition: int) -> list[bytes]:
    """Everything in a partition of `telemetry`."""
    consumer = AIOKafkaConsumer(bootstrap_servers=list(settings.brokers))
    await consumer.start()
    try:
        place = TopicPartition("telemetry", partition)
        end = (await consumer.end_offsets([place]))[place]
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        records: list[bytes] = []
        while await consumer.position(place) < end:
            for found in (await consumer.getmany(timeout_ms=1000)).values():
                records += [record.value for record in found]
        return records
    finally:
        await consumer.stop()


async def dictionaries(settings: Settings) -> dict[int, list[str]]:
    """The columns' names of every dictionary in `series`."""
    consumer = AIOKafkaConsumer("series", bootstrap_servers=list(settings.brokers),
                                auto_offset_reset="earliest")  # fmt: skip
    await consumer.start()
    try:
        found = await consumer.getmany(timeout_ms=5000)
        decoded = [decode_dictionary(r.value) for records in found.values() for r in records]
        return {each.id: [series.name for series in each.series] for each in decoded}
    finally:
        await consumer.stop()


async def test_nothing_that_was_taken_is_lost_though_kafka_is_away_and_the_collector_is_killed(
    tmp_path: Path, start: Start, broker: LocalKafka
) -> None:
    assert broker.running  # so the parts are there
    served = 0

    async def metrics(_request: web.Request) -> web.Response:
        nonlocal served
        served += 1
        # The layout changes too: dictionaries have to wait with their frames.
        return web.Response(text=f'served {served}\nlayout{{version="{served // 10}"}} 1\n')

    server = await start({"/metrics": metrics})
    scrape = tmp_path / "scrape.yml"
    scrape.write_text(
        "scrape_configs: [{job_name: job, scrape_interval: 100ms, "
        f'static_configs: [{{targets: ["127.0.0.1:{server.port}"]}}]}}]\n'
    )
    port, kafka_port, controller_port = free_ports(3)
    settings = Settings(
        data=str(tmp_path / "data"),
        brokers=(f"127.0.0.1:{kafka_port}",),
        kafka=KafkaSettings(controller_port=controller_port),
        collect=CollectSettings(host=False, scrape_config=str(scrape), listen=f"127.0.0.1:{port}"),
    )
    kafka = LocalKafka(
        tmp_path / "kafka",
        settings.brokers[0],
        controller_port=controller_port,
        heap_mb=256,
        quick=True,
    )

    async def frames_are_taken() -> bool:
        return await metric(port, "watchkeeper_frames_total") > 5

    async def buffered() -> bool:
        return await metric(port, "watchkeeper_collect_buffer_oldest_seconds") > 3

    async def caught_up() -> bool:
        return (
            await metric(port, "watchkeeper_collect_buffer_oldest_seconds") < 1
            and await metric(port, "watchkeeper_frames_total") > 5
        )

    await asyncio.to_thread(kafka.start, lambda _line: None)
    try:
        await asyncio.to_thread(ensure_topics, settings)
        async with collector(settings, tmp_path) as process:
            await until(frames_are_taken)
            await asyncio.to_thread(kafka.stop)
            await until(buffered)
            process.send_signal(signal.SIGKILL)
            await process.wait()
        killed_at = served
        async with collector(settings, tmp_path):
            await until(buffered)
            await asyncio.to_thread(kafka.start, lambda _line: None)
            await until(caught_up)
            last = served
        partition = partition_of(f"127.0.0.1:{server.port}", settings.kafka.partitions)
        columns = await dictionaries(settings)
        records = [decode_telemetry(record) for record in await read(settings, partition)]
    finally:
        await asyncio.to_thread(kafka.stop)

    values: dict[int, float] = {}
    failed = 0
    newest_tick = 0
    for record in records:
        if isinstance(record, Tick):
            newest_tick = max(newest_tick, record.time_ms)
            continue
        assert isinstance(record, FrameBatch)
        for frame in map(record.frame, range(len(record))):
            if frame.time_ms in values:
                continue  # it came twice; a worker drops the second
            assert frame.time_ms >= newest_tick
            assert frame.time_ms > max(values, default=0)
            names = columns[frame.dictionary_id]  # KeyError: a frame without its dictionary
            column = names.index("served")
            up = frame.values[names.index("up")] == 1
            failed += not up
            if up and not is_absent(frame.values[column : column + 1])[0]:
                values[frame.time_ms] = float(frame.values[column])
    arrived = list(values.values())
    assert arrived == sorted(arrived)
    missing = set(range(1, last)) - {int(value) for value in arrived}
    assert len(missing) <= failed + 1, (missing, killed_at)  # + the scrape under way at the kill
    assert killed_at < arrived[-1]
