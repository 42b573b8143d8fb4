"""Every client of Kafka towards a broker that wants TLS and a login."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import trustme
from aiokafka import AIOKafkaConsumer

from pipeline.brokers import BrokerRefusalError, connection_of, explained
from pipeline.local.problems import MissingError
from pipeline.local.topics import TopicError, ensure_topics
from pipeline.secret import Secret
from pipeline.settings import Settings
from pipeline.stream.app import build_app
from pipeline.stream.delivery import KafkaDelivery, Record
from tests.certificates import new_certificates
from tests.secured_kafka import USER, SecuredKafka

pytestmark = pytest.mark.parts

PASSWORD = "kafka-t0ken-4711"


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory, ports: Callable[[int], list[int]]
) -> Iterator[SecuredKafka]:
    folder = tmp_path_factory.mktemp("secured")
    kafka = SecuredKafka(folder / "kafka", ports(4), new_certificates(folder), PASSWORD)
    try:
        kafka.start(lambda _line: None)
    except MissingError as error:
        pytest.skip(str(error))
    kafka.add_scram_user()
    yield kafka
    kafka.stop()


def with_password(mechanism: str) -> dict[str, object]:
    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": mechanism,
        "sasl_username": USER,
        "sasl_password": Secret(PASSWORD),
    }


def with_certificate(secured: SecuredKafka) -> dict[str, object]:
    return {
        "security_protocol": "SSL",
        "ssl_certificate_file": secured.certificates.cert,
        "ssl_key_file": secured.certificates.key,
    }


class Heard:
    """Handlers of a Faust worker that note what came."""

    def __init__(self) -> None:
        self.values: asyncio.Queue[bytes] = asyncio.Queue()

    async def on_telemetry(self, _partition: int, _offset: int, value: bytes) -> None:
        await self.values.put(value)

    async def on_signal(self, _partition: int, _offset: int, value: bytes) -> None: ...

    def on_assigned(self, topic: str, partitions: frozenset[int]) -> None: ...


async def passes_through_all_clients(settings: Settings) -> None:
    """Topics by the admin client, a record by the producer, read by a Faust worker."""
    await asyncio.to_thread(ensure_topics, settings)
    connection = connection_of(settings)
    delivery = KafkaDelivery(connection, settings.kafka.topic_prefix)
    await delivery.start()
    heard = Heard()
    app = build_app(settings, connection, "m", heard)
    await app.start()
    try:
        effects = await delivery([Record("telemetry", 0, b"over TLS")])
        assert effects is not None
        await effects
        async with asyncio.timeout(60):
            assert await heard.values.get() == b"over TLS"
    finally:
        await app.stop()
        await delivery.stop()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_every_client_logs_in(secured: SecuredKafka, tmp_path: Path, mechanism: str):
    login = {"topic_prefix": f"{mechanism}.", **with_password(mechanism)}
    await passes_through_all_clients(secured.settings(tmp_path, **login))


async def test_every_client_shows_its_certificate(secured: SecuredKafka, tmp_path: Path):
    login = {"topic_prefix": "certificate.", **with_certificate(secured)}
    await passes_through_all_clients(secured.settings(tmp_path, **login))


async def refusal(settings: Settings) -> str:
    connection = connection_of(settings)
    consumer = AIOKafkaConsumer(**connection)

    async def start() -> None:
        async with explained(connection):
            await consumer.start()

    try:
        with pytest.raises(BrokerRefusalError) as caught:
            await start()
    finally:
        await consumer.stop()
    return str(caught.value)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_a_wrong_password_is_said_without_it(
    secured: SecuredKafka, tmp_path: Path, mechanism: str, caplog: pytest.LogCaptureFixture
):
    login = {**with_password(mechanism), "sasl_password": Secret("wrong-t0ken")}
    settings = secured.settings(tmp_path, **login)
    text = await refusal(settings)
    expected = f"expected a broker that speaks SASL_SSL and lets '{USER}' in by {mechanism}"
    assert text.startswith(f"{secured.login}: {expected}, got: [Error 58] SaslAuthentication")
    with pytest.raises(TopicError) as caught:
        await asyncio.to_thread(ensure_topics, settings)
    assert str(caught.value).startswith(f"{secured.login}: {expected}, got: [Error 58]")
    assert "wrong-t0ken" not in text + str(caught.value) + caplog.text


async def test_an_unknown_authority_is_said(secured: SecuredKafka, tmp_path: Path):
    settings = secured.settings(tmp_path, **with_certificate(secured))
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    kafka = msgspec.structs.replace(settings.kafka, ssl_ca_file=str(tmp_path / "other.pem"))
    text = await refusal(msgspec.structs.replace(settings, kafka=kafka))
    assert text == (
        f"{secured.tls}: expected a broker that speaks SSL, got: a certificate that is not "
        "trusted: unable to get local issuer certificate"
    )


async def test_tls_towards_a_plain_listener_is_said(secured: SecuredKafka, tmp_path: Path):
    settings = secured.settings(tmp_path, **with_certificate(secured))
    text = await refusal(msgspec.structs.replace(settings, brokers=(secured.address,)))
    assert text.startswith(f"{secured.address}: expected a broker that speaks SSL, got: ")
