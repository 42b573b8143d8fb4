"""`watchkeeper replay` on a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest
from click.testing import CliRunner, Result
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from pipeline.cli import main
from pipeline.replay.main import run
from pipeline.replay.selection import Request
from pipeline.settings import Settings, environment_of

pytestmark = pytest.mark.parts

Sent = tuple[int, bytes | None, bytes]


@pytest.fixture
def producer(kafka_settings: Settings) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=list(kafka_settings.brokers))
    yield producer
    producer.close()


def reject(
    producer: KafkaProducer, settings: Settings, value: bytes, reason: str, partition: str
) -> None:
    headers = [("reason", reason.encode()), ("partition", partition.encode())]
    topic = settings.topic("telemetry.rejected")
    producer.send(topic, value, headers=headers, partition=0).get(15)


def records(settings: Settings, name: str) -> list[Sent]:
    """Partition, key and value of all records of a topic, partition after partition."""
    consumer = KafkaConsumer(bootstrap_servers=list(settings.brokers))
    try:
        topic = settings.topic(name)
        numbers = sorted(consumer.partitions_for_topic(topic))
        found: list[Sent] = []
        for place in [TopicPartition(topic, number) for number in numbers]:
            consumer.assign([place])
            consumer.seek_to_beginning(place)
            end = consumer.end_offsets([place])[place]
            while consumer.position(place) < end:
                polled = consumer.poll(500).get(place, [])
                found += [(place.partition, record.key, record.value) for record in polled]
        return found
    finally:
        consumer.close()


def replay(settings: Settings, *arguments: str, answer: str = "") -> Result:
    environment = environment_of(settings)
    return CliRunner().invoke(main, ["replay", *arguments], input=answer, env=environment)


def report(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_rejected_records_go_back_to_their_partition_once(kafka_settings, producer):
    reject(producer, kafka_settings, b"one", "dictionary", "2")
    reject(producer, kafka_settings, b"two", "failed", "1")
    first = report(replay(kafka_settings, "telemetry", "--rejected", "--json"))
    assert first == {
        "topic": "telemetry",
        "rejected": True,
        "records": 2,
        "dry_run": False,
        "by_reason": {"dictionary": 1, "failed": 1},
        "put_back_before": 0,
        "without_partition": 0,
    }
    assert records(kafka_settings, "telemetry") == [(1, None, b"two"), (2, None, b"one")]

    reject(producer, kafka_settings, b"three", "failed", "1")
    second = report(replay(kafka_settings, "telemetry", "--rejected", "--json"))
    assert (second["records"], second["put_back_before"]) == (1, 2)
    assert records(kafka_settings, "telemetry") == [
        (1, None, b"two"), (1, None, b"three"), (2, None, b"one"),
    ]  # fmt: skip

    third = report(replay(kafka_settings, "telemetry", "--rejected", "--again", "--json"))
    assert (third["records"], third["put_back_before"]) == (3, 0)


def test_one_reason_leaves_the_others_for_later(kafka_settings, producer):
    for value, reason in ((b"1", "columns"), (b"2", "dictionary"), (b"3", "columns")):
        reject(producer, kafka_settings, value, reason, "0")
    chosen = report(
        replay(kafka_settings, "telemetry", "--rejected", "--reason", "dictionary", "--json")
    )
    assert (chosen["records"], chosen["by_reason"]) == (1, {"dictionary": 1})
    rest = report(replay(kafka_settings, "telemetry", "--rejected", "--json"))
    assert (rest["records"], rest["put_back_before"]) == (2, 1)
    assert records(kafka_settings, "telemetry") == [
        (0, None, value) for value in (b"2", b"1", b"3")
    ]


def test_a_dry_run_and_a_no_send_nothing_and_mark_nothing(kafka_settings, producer):
    reject(producer, kafka_settings, b"one", "failed", "0")
    reject(producer, kafka_settings, b"lost", "failed", "9")
    counted = replay(kafka_settings, "telemetry", "--rejected", "--dry-run")
    assert counted.exit_code == 0
    assert counted.stdout.splitlines() == [
        "1 records would be sent to telemetry",
        "  1 rejected for: failed",
        "  1 name no partition of the topic and stay",
    ]
    refused = replay(kafka_settings, "telemetry", "--rejected", answer="n\n")
    assert refused.exit_code == 1
    assert "Send 1 records to telemetry again?" in refused.output
    assert records(kafka_settings, "telemetry") == []
    agreed = replay(kafka_settings, "telemetry", "--rejected", answer="y\n")
    assert agreed.exit_code == 0
    assert records(kafka_settings, "telemetry") == [(0, None, b"one")]


def test_a_time_range_is_sent_again_in_order_with_its_keys(kafka_settings, producer):
    topic = kafka_settings.topic("telemetry")

    def send(value: bytes) -> int:
        sent = producer.send(topic, value, key=b"k", headers=[("h", b"v")], partition=3).get(15)
        # Kafka stamps with milliseconds: what comes next gets another one.
        while int(time.time() * 1000) <= sent.timestamp:
            pass
        return int(sent.timestamp)

    times = [send(value) for value in (b"before", b"one", b"two", b"after")]
    request = Request("telemetry", since_ms=times[1], until_ms=times[3])
    assert run(kafka_settings, request, dry_run=False, as_json=True, ask=lambda _: True) == 0
    expected = [b"before", b"one", b"two", b"after", b"one", b"two"]
    assert records(kafka_settings, "telemetry") == [(3, b"k", value) for value in expected]


def test_an_empty_range_says_so(kafka_settings, producer):
    producer.send(kafka_settings.topic("telemetry"), b"old", partition=0).get(15)
    result = replay(kafka_settings, "telemetry", "--from", "2125-01-01T00:00:00Z", "--yes")
    assert result.exit_code == 1
    assert "no record of" in result.stderr
    assert "(it has taken 1 in all)" in result.stderr


def test_an_end_is_refused_for_a_topic_that_keeps_the_last_of_each_key(kafka_settings):
    result = replay(kafka_settings, "alerts", "--from", "2h", "--to", "1h", "--yes")
    assert result.exit_code == 1
    assert "alerts keeps the last record of each key" in result.stderr


def test_a_topic_that_is_not_there_is_named(kafka_settings):
    kafka = msgspec.structs.replace(kafka_settings.kafka, topic_prefix="nowhere.")
    elsewhere = msgspec.structs.replace(kafka_settings, kafka=kafka)
    result = replay(elsewhere, "telemetry", "--rejected")
    assert (result.exit_code, result.stderr) == (
        1,
        "replay: there is no topic nowhere.telemetry.rejected at this cluster\n",
    )


def test_a_broker_that_is_away_is_named(tmp_path):
    # As a process: kafka-python leaves a socket open when it can't connect.
    command = [sys.executable, "-m", "pipeline", "replay", "telemetry", "--rejected"]
    environment = {**os.environ, "WATCHKEEPER_BROKERS": "127.0.0.1:1"}
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "replay: 127.0.0.1:1: expected a broker that speaks PLAINTEXT, got: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "'nonsense' is not one of"),
        (("telemetry",), "expected --from"),
        (("telemetry", "--from", "1h", "--reason", "x"), "go with --rejected"),
        (("telemetry", "--from", "1h", "--to", "2h"), "--from to be before --to"),
        (("telemetry", "--from", "soon"), "expected a time such as"),
    ],
)
def test_wrong_usage_is_said(arguments: tuple[str, ...], message: str):
    result = CliRunner().invoke(main, ["replay", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
