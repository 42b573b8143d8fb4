from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from pipeline.api.http import port_is_free
from pipeline.local.kafka import CLUSTER_ID, LocalKafka, check_folder, check_protocol
from pipeline.local.kafka_probe import answers
from pipeline.local.problems import MissingError
from pipeline.settings import KafkaSettings, Settings


def broker_in(folder: Path, port: int, controller_port: int) -> LocalKafka:
    return LocalKafka(
        folder, f"127.0.0.1:{port}", controller_port=controller_port, heap_mb=256, quick=True
    )


def silent(_line: str) -> None:
    pass


def test_a_taken_port_is_named_with_its_setting_and_nothing_is_started(tmp_path: Path):
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        first, second = one.getsockname()[1], two.getsockname()[1]
        with pytest.raises(MissingError) as caught:
            broker_in(tmp_path / "kafka", first, second).start(silent)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"127.0.0.1:{first} (setting brokers): the port is taken"
    assert lines[1].startswith(f"127.0.0.1:{second} (setting kafka.controller_port)")
    assert "stop what listens there" in lines[2]
    assert not (tmp_path / "kafka").exists()


def test_a_folder_of_another_cluster_is_refused_with_both_names(tmp_path: Path):
    (tmp_path / "meta.properties").write_text("#\nversion=1\ncluster.id=other\nnode.id=3\n")
    with pytest.raises(MissingError, match=rf"{CLUSTER_ID}, found node 3 of cluster other"):
        check_folder(tmp_path)


def test_a_folder_that_is_not_formatted_is_refused(tmp_path: Path):
    (tmp_path / "something").write_text("")
    with pytest.raises(MissingError, match=r"meta\.properties is missing"):
        check_folder(tmp_path)


def test_a_new_folder_and_one_of_ours_are_taken(tmp_path: Path):
    check_folder(tmp_path / "new")
    (tmp_path / "meta.properties").write_text(f"cluster.id={CLUSTER_ID}\nnode.id=1\n")
    check_folder(tmp_path)


def test_what_is_no_broker_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not answers(f"127.0.0.1:{server.getsockname()[1]}", timeout=0.1)
    assert not answers("127.0.0.1:1")


class Command:
    """`watchkeeper kafka` as a user starts it."""

    def __init__(self, data: Path, port: int, controller_port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "kafka"],
            env={
                **os.environ,
                "WATCHKEEPER_DATA": str(data),
                "WATCHKEEPER_BROKERS": f"127.0.0.1:{port}",
                "WATCHKEEPER_KAFKA_CONTROLLER_PORT": str(controller_port),
                "WATCHKEEPER_KAFKA_HEAP_MB": "256",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def first_line(self) -> str:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            return output.readline()


def freed(address: str) -> bool:
    """Whether `address` is free within 20 s."""
    deadline = time.monotonic() + 20
    while not port_is_free(address) and time.monotonic() < deadline:
        time.sleep(0.1)
    return port_is_free(address)


async def put(address: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address, max_request_size=9_000_000) as producer:
        await producer.send_and_wait("alerts", value, key=b"compacted: needs one")


async def first(address: str) -> bytes | None:
    async with AIOKafkaConsumer(
        bootstrap_servers=address, auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([TopicPartition("alerts", 0)])
        return (await consumer.getone()).value


@pytest.mark.parts
async def test_the_broker_keeps_records_through_a_kill_and_ends_with_its_command(
    tmp_path: Path, broker: LocalKafka, ports: Callable[[int], list[int]]
):
    """`broker` is not used here, but fetches the jars, or leaves this out."""
    assert broker.running
    port, controller_port = ports(2)
    address = f"127.0.0.1:{port}"
    unfinished = tmp_path / "kafka" / "log.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "bootstrap.checkpoint").write_text("a format that was interrupted")

    command = Command(tmp_path, port, controller_port)
    try:
        assert f"answers at {address}" in command.first_line()
        await put(address, b"v" * 8_000_000)
    finally:
        command.process.kill()
        command.process.wait(10)
    assert await asyncio.to_thread(freed, address), "the broker outlived its command"

    command = Command(tmp_path, port, controller_port)
    try:
        assert f"answers at {address}" in command.first_line()
        assert await first(address) == b"v" * 8_000_000
    finally:
        command.process.send_signal(signal.SIGTERM)
        code = command.process.wait(30)
    assert code == 0
    assert port_is_free(address)


def test_a_protocol_that_the_local_broker_does_not_speak_is_refused():
    with pytest.raises(MissingError, match=r"^kafka\.security_protocol: expected PLAINTEXT, got"):
        check_protocol(Settings(kafka=KafkaSettings(security_protocol="SSL")))
    check_protocol(Settings())
