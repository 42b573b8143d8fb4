"""How Kafka is reached. A real broker with TLS and logins: `tests/stream/test_secured.py`."""

from __future__ import annotations

import ast
import ssl
from pathlib import Path

import pytest
import trustme
from aiokafka.errors import KafkaConnectionError

from pipeline.brokers import BrokerRefusalError, connection_of, explained
from pipeline.secret import Secret
from pipeline.settings import KafkaSettings, Settings, SettingsError

WRONG = "expected kafka.security_protocol"
NEEDED = "expected one with kafka.security_protocol"
UNREADABLE = "expected a readable secret: No such file or directory"


def problems(**kafka: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        connection_of(Settings(kafka=KafkaSettings(**kafka)))
    return caught.value.problems


def test_a_plain_broker_needs_nothing_but_its_address():
    assert connection_of(Settings(brokers=("a:1", "b:2"))) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
        "ssl_context": None,
        "sasl_mechanism": None,
        "sasl_plain_username": None,
        "sasl_plain_password": None,
    }


def test_a_login_has_its_password_from_the_environment_or_a_file(tmp_path: Path):
    login = KafkaSettings(
        security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", sasl_username="wk",
        sasl_password=Secret("one"),
    )  # fmt: skip
    connection = connection_of(Settings(kafka=login))
    assert connection["sasl_plain_password"] == "one"
    assert connection["ssl_context"] is None
    file = tmp_path / "password"
    file.write_text("two\n")
    login = KafkaSettings(
        security_protocol="SASL_PLAINTEXT", sasl_mechanism="SCRAM-SHA-256", sasl_username="wk",
        sasl_password_file=str(file),
    )  # fmt: skip
    connection = connection_of(Settings(kafka=login))
    assert (connection["sasl_mechanism"], connection["sasl_plain_username"]) == (
        "SCRAM-SHA-256",
        "wk",
    )
    assert connection["sasl_plain_password"] == "two"


def test_tls_verifies_the_broker(tmp_path: Path):
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    kafka = KafkaSettings(security_protocol="SSL", ssl_ca_file=str(tmp_path / "ca.pem"))
    context = connection_of(Settings(kafka=kafka))["ssl_context"]
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("kafka", "expected"),
    [
        (
            {"ssl_ca_file": "ca"},
            [f"kafka.ssl_ca_file: {WRONG} SSL or SASL_SSL with it, got PLAINTEXT"],
        ),
        (
            {"sasl_username": "wk", "sasl_password": Secret("t0ken")},
            [
                f"kafka.sasl_username: {WRONG} SASL_PLAINTEXT or SASL_SSL with it, got PLAINTEXT",
                f"kafka.sasl_password: {WRONG} SASL_PLAINTEXT or SASL_SSL with it, got PLAINTEXT",
            ],
        ),
        (
            {"security_protocol": "SSL", "ssl_key_file": "key", "sasl_mechanism": "PLAIN"},
            [
                "kafka.ssl_certificate_file, kafka.ssl_key_file: expected both, got one",
                f"kafka.sasl_mechanism: {WRONG} SASL_PLAINTEXT or SASL_SSL with it, got SSL",
            ],
        ),
        (
            {"security_protocol": "SASL_SSL"},
            [
                f"kafka.sasl_mechanism: {NEEDED} SASL_SSL, got none",
                f"kafka.sasl_username: {NEEDED} SASL_SSL, got none",
                "kafka.sasl_password, kafka.sasl_password_file: expected one of them, got none",
            ],
        ),
        (
            {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "PLAIN",
                "sasl_username": "wk",
                "sasl_password": Secret("t0ken"),
                "sasl_password_file": "f",
            },
            ["kafka.sasl_password, kafka.sasl_password_file: expected one of them, got both"],
        ),
        (
            {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "PLAIN",
                "sasl_username": "wk",
                "sasl_password_file": "/nowhere/p",
            },
            [f"kafka.sasl_password_file: /nowhere/p: {UNREADABLE}"],
        ),
        (
            {"security_protocol": "SSL", "ssl_ca_file": "/nowhere/ca"},
            ["kafka.ssl: /nowhere/ca: can't be read: No such file or directory"],
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said_with_the_names_of_the_settings(kafka, expected):
    found = problems(**kafka)
    assert found == expected
    assert "t0ken" not in "".join(found)


def test_every_client_of_kafka_is_made_from_the_one_description():
    """A client made otherwise would go round TLS and login."""
    elsewhere = [
        f"{path.name}:{node.lineno}"
        for path in Path(__file__).parents[1].glob("pipeline/**/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword) and node.arg == "bootstrap_servers"
    ]
    assert [place for place in elsewhere if not place.startswith("brokers.py:")] == []


async def test_an_error_that_is_no_refusal_passes():
    with pytest.raises(ZeroDivisionError):
        async with explained(connection_of(Settings())):
            raise ZeroDivisionError


async def test_nobody_at_the_address_is_said(unused_tcp_port: int):
    connection = connection_of(Settings(brokers=(f"127.0.0.1:{unused_tcp_port}",)))
    with pytest.raises(BrokerRefusalError) as caught:
        async with explained(connection):
            raise KafkaConnectionError("somewhere")
    assert str(caught.value).startswith(
        f"127.0.0.1:{unused_tcp_port}: expected a broker that speaks PLAINTEXT, got: "
    )
    assert "Connect call failed" in str(caught.value)
