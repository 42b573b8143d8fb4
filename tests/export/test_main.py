"""The exporter on a real Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import aiohttp
import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer

from pipeline.api.http import port_is_free
from pipeline.codec import (
    alert_key,
    dictionary_key,
    encode_alert,
    encode_dictionary,
    encode_mark,
    encode_scores,
)
from pipeline.export import main as exporter_main
from pipeline.export.main import Exporter
from pipeline.model import (
    Alert,
    Evaluated,
    ScoreBatch,
    Series,
    SeriesDictionary,
    Target,
    labels_from,
)
from pipeline.settings import ExportSettings, Settings

pytestmark = pytest.mark.parts

DICTIONARY = SeriesDictionary(
    Target("ledger", "127.0.0.1:19200", "/q/metrics"),
    (Series(labels_from({"__name__": "ledger_network_tps", "job": "ledger"}), "gauge"),),
)
SCORE_LINE = 'anomaly_score{for="ledger_network_tps",job="ledger"}'


def listening(settings):
    return msgspec.structs.replace(settings, export=ExportSettings(listen="127.0.0.1:0"))


@pytest.fixture
async def send(kafka_settings):
    producer = AIOKafkaProducer(bootstrap_servers=list(kafka_settings.brokers), acks="all")
    await producer.start()

    async def send_record(topic, value, key=None, partition=0):
        name = kafka_settings.topic(topic)
        await producer.send_and_wait(name, value, key=key, partition=partition)

    yield send_record
    await producer.stop()


@pytest.fixture
async def exporter(kafka_settings, send):
    """The exporter of a stack whose topics have a dictionary and a pending alert already."""
    await send("series", encode_dictionary(DICTIONARY), dictionary_key(DICTIONARY.id))
    async with Exporter(listening(kafka_settings)) as running:
        yield running


def alert(now_ms, state):
    return Alert(
        labels=labels_from({"alertname": "HighLatency", "severity": "medium"}),
        annotations=(),
        state=state,
        time_ms=now_ms,
        active_at_ms=now_ms,
        starts_at_ms=now_ms,
        ends_at_ms=now_ms + 240_000,
        value=1.0,
        sample_time_ms=now_ms,
        group="critical.yml;platform",
    )


async def until(exporter, wanted, again=None):
    """The exposition once `wanted(text)` holds; `again` is awaited before each look."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(30):
        while True:
            if again is not None:
                await again()
            async with session.get(f"http://127.0.0.1:{exporter.port}/metrics") as response:
                assert response.content_type == "text/plain"
                text = await response.text()
            if wanted(text):
                return text
            await asyncio.sleep(0.05)


async def test_scores_and_alerts_from_kafka_are_exposed(exporter, send):
    now_ms = exporter_main.Clock(Settings().clock).now_ms()
    firing = alert(now_ms, "firing")
    await send("alerts", encode_alert(firing), alert_key(firing))
    scores = ScoreBatch(
        np.array([DICTIONARY.target.id], np.uint64),
        np.array([DICTIONARY.id], np.uint64),
        np.array([now_ms]),
        np.array([0, 1]),
        np.array([0], np.uint32),
        np.array([1.5], np.float32),
    )

    async def send_scores():
        # Signals are read from when the exporter has reached the broker: send until they are.
        await send("signals", encode_mark(Evaluated("w", 2, now_ms)), partition=2)
        await send("signals", encode_scores(scores), partition=2)

    text = await until(exporter, lambda text: SCORE_LINE in text, send_scores)
    assert f"{SCORE_LINE} 1.5\n" in text
    text = await until(exporter, lambda text: "watchkeeper_alerts{" in text)
    assert (
        'watchkeeper_alerts{alertname="HighLatency",alertstate="firing",severity="medium"} 1\n'
        in text
    )
    ended = alert(now_ms + 1, "inactive")
    await send("alerts", encode_alert(ended), alert_key(ended))
    await until(exporter, lambda text: "watchkeeper_alerts{" not in text)


async def test_alerts_that_were_active_before_the_start_are_exposed(kafka_settings, send):
    pending = alert(exporter_main.Clock(Settings().clock).now_ms(), "pending")
    await send("alerts", encode_alert(pending), alert_key(pending))
    async with Exporter(listening(kafka_settings)) as exporter:
        await until(exporter, lambda text: 'alertstate="pending"' in text)


async def test_a_record_that_is_none_of_ours_is_counted_by_reason(exporter, send):
    await send("series", b"rubbish!", b"key")
    await send("series", None, b"key")
    await send("alerts", None, b"key")
    rejected = 'watchkeeper_export_rejected_records_total{reason="not_a_record",topic="series"} 1.0'
    await until(exporter, lambda text: rejected in text)


async def test_the_page_answers_while_kafka_is_out_of_reach(monkeypatch):
    monkeypatch.setattr(exporter_main, "RETRY_S", 0.01)
    nowhere = msgspec.structs.replace(listening(Settings()), brokers=("127.0.0.1:1",))
    async with Exporter(nowhere) as exporter:
        text = await until(exporter, lambda text: "anomaly_score" in text)
        assert SCORE_LINE not in text


def test_a_taken_port_ends_with_exit_code_4(capsys, monkeypatch):
    monkeypatch.setattr(exporter_main, "configure_logging", lambda _process: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert not port_is_free(listen)
        settings = msgspec.structs.replace(Settings(), export=ExportSettings(listen=listen))
        assert exporter_main.run(settings) == 4
    assert f"{listen}: the port is taken" in capsys.readouterr().err


async def test_an_unforeseen_failure_of_the_consumer_ends_the_process(monkeypatch):
    async def fail(_exporter):
        raise ZeroDivisionError

    monkeypatch.setattr(Exporter, "_consume", fail)
    with contextlib.suppress(ZeroDivisionError):
        await exporter_main._run(listening(Settings()))
        pytest.fail("it went on")
