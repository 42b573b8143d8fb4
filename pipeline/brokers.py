"""How to reach Kafka: addresses, TLS and login, in the form that its clients want.

aiokafka and kafka-python call everything the same; the worker's Faust application gets it by
`pipeline/stream/credentials.py`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TypedDict

from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError, KafkaError

from pipeline.secret import SecretError, read_secret
from pipeline.selfmetrics import fields
from pipeline.settings import KafkaSettings, Settings, SettingsError
from pipeline.tls import ClientTls, TlsError, client_context

_KNOCK_MS = 5000
_CLOSE_S = 0.2
_LOOK_S = 0.1

_log = logging.getLogger(__name__)


class Connection(TypedDict):
    """Keywords of every client of Kafka."""

    bootstrap_servers: list[str]
    security_protocol: str
    ssl_context: ssl.SSLContext | None
    sasl_mechanism: str | None
    sasl_plain_username: str | None
    sasl_plain_password: str | None


class BrokerRefusalError(KafkaConnectionError):  # type: ignore[misc]  # aiokafka has no types
    """No broker takes us; a line for each says where, what was expected and what came."""

    def __str__(self) -> str:
        return "; ".join(self.args)


def connection_of(settings: Settings) -> Connection:
    """How `settings` say that Kafka is reached; files are read now.

    Raises
    ------
    SettingsError
        Settings that don't go together, or a file that can't be used.
    """
    kafka = settings.kafka
    problems = _combinations(kafka)
    context: ssl.SSLContext | None = None
    password: str | None = None
    if not problems and _encrypted(kafka):
        tls = ClientTls(kafka.ssl_ca_file, kafka.ssl_certificate_file, kafka.ssl_key_file)
        try:
            context = client_context(tls)
        except TlsError as error:
            problems.append(f"kafka.ssl: {error}")
    if not problems and _with_login(kafka):
        try:
            password = read_secret(kafka.sasl_password, kafka.sasl_password_file)
        except SecretError as error:
            problems.append(f"kafka.sasl_password_file: {error}")
    if problems:
        raise SettingsError(problems)
    return Connection(
        bootstrap_servers=list(settings.brokers),
        security_protocol=kafka.security_protocol,
        ssl_context=context,
        sasl_mechanism=kafka.sasl_mechanism or None,
        sasl_plain_username=kafka.sasl_username or None,
        sasl_plain_password=password,
    )


def _encrypted(kafka: KafkaSettings) -> bool:
    return kafka.security_protocol in ("SSL", "SASL_SSL")


def _with_login(kafka: KafkaSettings) -> bool:
    return kafka.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")


def _combinations(kafka: KafkaSettings) -> list[str]:
    """What is set and isn't used, and what is needed and isn't set."""
    protocol = kafka.security_protocol
    tls = {
        "ssl_ca_file": kafka.ssl_ca_file,
        "ssl_certificate_file": kafka.ssl_certificate_file,
        "ssl_key_file": kafka.ssl_key_file,
    }
    login = {"sasl_mechanism": kafka.sasl_mechanism, "sasl_username": kafka.sasl_username}
    passwords = {
        "sasl_password": kafka.sasl_password,
        "sasl_password_file": kafka.sasl_password_file,
    }
    problems: list[str] = []
    if not _encrypted(kafka):
        problems += [
            f"kafka.{name}: expected kafka.security_protocol SSL or SASL_SSL with it, "
            f"got {protocol}"
            for name, value in tls.items()
            if value
        ]
    elif bool(kafka.ssl_certificate_file) != bool(kafka.ssl_key_file):
        problems.append("kafka.ssl_certificate_file, kafka.ssl_key_file: expected both, got one")
    if not _with_login(kafka):
        problems += [
            f"kafka.{name}: expected kafka.security_protocol SASL_PLAINTEXT or SASL_SSL with it, "
            f"got {protocol}"
            for name, value in {**login, **passwords}.items()
            if value
        ]
        return problems
    problems += [
        f"kafka.{name}: expected one with kafka.security_protocol {protocol}, got none"
        for name, value in login.items()
        if not value
    ]
    if sum(map(bool, passwords.values())) != 1:
        got = "both" if kafka.sasl_password else "none"
        problems.append(f"kafka.{', kafka.'.join(passwords)}: expected one of them, got {got}")
    return problems


@asynccontextmanager
async def explained(connection: Connection) -> AsyncIterator[None]:
    """Around the start of a client: a failure to connect says why.

    Raises
    ------
    BrokerRefusalError
        In place of a KafkaConnectionError, which names addresses only.
    """
    try:
        yield
    except KafkaConnectionError as error:
        if reasons := await refusals(connection):
            raise BrokerRefusalError(*reasons) from error
        raise


async def refusals(connection: Connection) -> list[str]:
    """Why no broker takes us, a line for each; empty when one does."""
    addresses = connection["bootstrap_servers"]
    answers = await asyncio.gather(*(_knock(address, connection) for address in addresses))
    return answers if all(answers) else []


async def until_topics(connection: Connection, topics: Collection[str]) -> None:
    """Return when Kafka takes us and has `topics`: processes of a stack start before it does."""
    said: list[str] = []
    while reasons := await refusals(connection) or await _without(connection, topics):
        if reasons != said:
            _log.info("waiting for Kafka %s", fields(reason="; ".join(reasons)))
            said = reasons
        await asyncio.sleep(_LOOK_S)


async def _without(connection: Connection, topics: Collection[str]) -> list[str]:
    """The topics that Kafka doesn't have, a line for each."""
    client = AIOKafkaConsumer(**connection)
    try:
        await client.start()
        there = await client.topics()
    except KafkaError as error:  # it has gone again
        return [str(error)]
    finally:
        await client.stop()
    return [f"{topic}: no such topic yet" for topic in topics if topic not in there]


async def _knock(address: str, connection: Connection) -> str:
    """Why the broker at `address` doesn't take us; empty if it does."""
    host, _, port = address.rpartition(":")
    protocol = connection["security_protocol"]
    expected = f"expected a broker that speaks {protocol}"
    if connection["sasl_mechanism"]:
        expected += (
            f" and lets {connection['sasl_plain_username']!r} in by {connection['sasl_mechanism']}"
        )
    client = AIOKafkaConnection(
        host.strip("[]"),
        int(port),
        request_timeout_ms=_KNOCK_MS,
        ssl_context=connection["ssl_context"],
        security_protocol=protocol,
        sasl_mechanism=connection["sasl_mechanism"],
        sasl_plain_username=connection["sasl_plain_username"],
        sasl_plain_password=connection["sasl_plain_password"],
    )
    try:
        await client.connect()
    except (OSError, KafkaError) as error:  # a TimeoutError is an OSError
        return f"{address}: {expected}, got: {_came(error)}"
    finally:
        # Its future is never done if there was no connection.
        await asyncio.wait([client.close()], timeout=_CLOSE_S)
    return ""


def _came(error: OSError | KafkaError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"a certificate that is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS as we speak it: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return f"no answer within {_KNOCK_MS // 1000} s"
    return str(error) or type(error).__name__
