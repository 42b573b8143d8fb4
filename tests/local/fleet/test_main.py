"""The command as a process of its own, stopped by a signal."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest
from kafka import KafkaConsumer, TopicPartition

PATIENCE_S = 60.0


@pytest.fixture
def base_port():
    """The first of three free ports in a row."""
    for first in range(23_000, 30_000, 3):
        probes = [socket.socket() for _ in range(3)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind(("127.0.0.1", first + offset))
        except OSError:
            continue
        else:
            return first + 1
        finally:
            for probe in probes:
                probe.close()
    pytest.fail("no three free ports in a row")


async def _watchkeeper(tmp_path, base_port, *arguments, **more):
    environment = {key: value for key, value in os.environ.items() if "WATCHKEEPER" not in key}
    environment |= {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "WATCHKEEPER_SIMULATE_BASE_PORT": str(base_port),
        "WATCHKEEPER_SIMULATE_NODES": "2",
        **more,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline", *arguments, cwd=tmp_path, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _until_it_answers(base_port):
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{base_port - 1}/nodes") as response:
                    return await response.json()
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.1)


async def test_fleet_runs_is_broken_and_mended_from_the_command_line_and_stops(tmp_path, base_port):
    fleet = await _watchkeeper(tmp_path, base_port, "simulate", "--speed", "10")
    try:
        assert len(await _until_it_answers(base_port)) == 2
        for arguments, expected in (
            (("tps-drop", "--for", "1h"), b"started: tps-drop on all nodes, for 3600 s"),
            (("tps-drop", "--end"), b"ended: tps-drop on all nodes\n"),
        ):
            command = await _watchkeeper(tmp_path, base_port, "simulate", "fault", *arguments)
            said, _ = await command.communicate()
            assert command.returncode == 0
            assert said.startswith(expected)
        command = await _watchkeeper(tmp_path, base_port, "simulate", "fault", "latency", "--end")
        _, said = await command.communicate()
        assert (command.returncode, said) == (1, b"latency: no such fault is active\n")
    finally:
        fleet.send_signal(signal.SIGTERM)
        _, log = await asyncio.wait_for(fleet.communicate(), PATIENCE_S)
    assert fleet.returncode == 0
    assert b"WATCHKEEPER_CLOCK_SPEED=10 WATCHKEEPER_CLOCK_ORIGIN=" in log


async def test_taken_port_is_named(tmp_path, base_port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base_port + 1))
        taken.listen()
        fleet = await _watchkeeper(tmp_path, base_port, "simulate")
        _, said = await asyncio.wait_for(fleet.communicate(), PATIENCE_S)
    assert fleet.returncode == 4
    assert f"127.0.0.1:{base_port + 1}: the port is taken".encode() in said


@pytest.mark.parts
async def test_past_is_in_kafka_when_the_fleet_begins_to_listen(
    tmp_path, base_port, kafka_settings
):
    more = {
        "WATCHKEEPER_BROKERS": kafka_settings.brokers[0],
        "WATCHKEEPER_KAFKA_TOPIC_PREFIX": kafka_settings.kafka.topic_prefix,
    }
    fleet = await _watchkeeper(tmp_path, base_port, "simulate", "--history", "1h", **more)
    try:
        await _until_it_answers(base_port)
    finally:
        fleet.send_signal(signal.SIGTERM)
        await asyncio.wait_for(fleet.communicate(), PATIENCE_S)
    assert fleet.returncode == 0
    consumer = KafkaConsumer(bootstrap_servers=list(kafka_settings.brokers))
    partitions = [
        TopicPartition(kafka_settings.topic("telemetry"), i)
        for i in range(kafka_settings.kafka.partitions)
    ]
    series = TopicPartition(kafka_settings.topic("series"), 0)
    ends = consumer.end_offsets([*partitions, series])
    consumer.close()
    assert all(ends[partition] >= 1 for partition in partitions)  # at least the tick
    assert ends[series] >= 2 * 10
