"""Fixtures that every test may use: the shared material, and one real Kafka for the whole run."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.local.kafka import LocalKafka
from pipeline.local.kafka_jars import cache_folder, java, kafka_jars
from pipeline.local.ports import free_ports
from pipeline.local.problems import MissingError
from pipeline.local.topics import ensure_topics
from pipeline.settings import KafkaSettings, Settings

_stacks = itertools.count()


def left_out(what: str) -> None:
    """Skip this test for want of a part; in CI, where every part must be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} (in CI every part must be there)")
    pytest.skip(f"left out: {what}")


class FreePorts:
    def __call__(self, count: int) -> list[int]:
        return free_ports(count)


@pytest.fixture(scope="session")
def ports() -> FreePorts:
    """`ports(3)` is three ports of 127.0.0.1 that nothing listened on a moment ago."""
    return FreePorts()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared material: `$WATCHKEEPER_SHARED`, else `../shared` beside the checkout."""
    named = os.environ.get("WATCHKEEPER_SHARED")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        left_out(f"{folder} is not there; WATCHKEEPER_SHARED can name another folder")
    return folder


@pytest.fixture(scope="session")
def program() -> ProgramFinder:
    """`program("promtool")` is its path."""
    return ProgramFinder()


class ProgramFinder:
    def __call__(self, name: str) -> str:
        found = shutil.which(name)
        if found is None:
            left_out(f"{name} is not installed")
        assert found is not None
        return found


@pytest.fixture(scope="session")
def jars() -> None:
    """Kafka's jars are there, so that a `watchkeeper up` can start; fetched at the first use."""
    try:
        java()
        kafka_jars(cache_folder(os.environ), lambda _line: None)
    except MissingError as error:
        left_out(str(error))


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """One real Kafka for the whole run; `broker.address` is what to connect to."""
    port, controller_port = free_ports(2)
    kafka = LocalKafka(
        tmp_path_factory.mktemp("kafka"),
        f"127.0.0.1:{port}",
        controller_port=controller_port,
        heap_mb=384,
        quick=True,
    )
    try:
        kafka.start(lambda _line: None)
    except MissingError as error:
        left_out(str(error))
    yield kafka
    kafka.stop()


@pytest.fixture
def kafka_settings(broker: LocalKafka, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """Settings with topics of their own on the test run's Kafka, and a data folder of their own.

    Other settings of a test: `msgspec.structs.replace(kafka_settings, ...)`. Groups of consumers
    take `kafka.topic_prefix` too, as everywhere.
    """
    name = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name)[:60]
    settings = msgspec.structs.replace(
        Settings(),
        data=str(tmp_path / "data"),
        brokers=(broker.address,),
        kafka=KafkaSettings(topic_prefix=f"t{next(_stacks)}-{name}."),
    )
    ensure_topics(settings)
    return settings
