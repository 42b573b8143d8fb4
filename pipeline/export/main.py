"""`watchkeeper export`: `/metrics` with anomaly scores and alert states."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Counter

from pipeline.api.http import ListenError, new_app, serve
from pipeline.brokers import connection_of, explained, until_topics
from pipeline.clock import Clock
from pipeline.codec import CodecError, decode_alert, decode_dictionary, decode_signal
from pipeline.ending import stop_on_signal
from pipeline.export.store import Store
from pipeline.model import ScoreBatch
from pipeline.selfmetrics import configure_logging, fields
from pipeline.settings import Settings

log = logging.getLogger(__name__)

EXIT_MISSING = 4
RETRY_S = 1.0

_RECORDS = Counter("watchkeeper_export_records_total", "Records read", ["topic"])
_REJECTED = Counter(
    "watchkeeper_export_rejected_records_total",
    "Records that could not be decoded",
    ["topic", "reason"],
)
_DROPPED = Counter(
    "watchkeeper_export_dropped_series_total",
    "Series of scores left out of an answer",
    ["reason"],
)


def run(settings: Settings) -> int:
    """Serve `/metrics` until SIGINT or SIGTERM; returns the exit code."""
    configure_logging("export")
    try:
        asyncio.run(_run(settings))
    except ListenError as error:
        print(error, file=sys.stderr)
        return EXIT_MISSING
    return 0


async def _run(settings: Settings) -> None:
    stop = stop_on_signal()
    async with Exporter(settings) as exporter:
        log.info("ready %s", fields(listen=f"{exporter.host}:{exporter.port}"))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([stopped, exporter.consuming], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if exporter.consuming.done():
            exporter.consuming.result()


class Exporter:
    """The running exporter: a consumer that fills the store, a server that shows it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = Clock(settings.clock)
        self._store = Store(int(settings.export.score_lifetime * 1000), settings.export.max_series)

    async def __aenter__(self) -> Self:
        app, settings = new_app(text=self._metrics), self._settings
        self._server = await serve(app, settings.export.listen, settings.web.config_file)
        self.host, self.port = self._server.host, self._server.port
        self.consuming = asyncio.create_task(self._consume(), name="export-consumer")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self.consuming.cancel()
        await asyncio.gather(self.consuming, return_exceptions=True)
        await self._server.close()

    def _metrics(self) -> str:
        exposition = self._store.render(self._clock.now_ms())
        _DROPPED.labels("over_limit").inc(exposition.over_limit)
        _DROPPED.labels("unknown_series").inc(exposition.unknown_series)
        return exposition.text

    async def _consume(self) -> None:
        """Follow the topics; when the broker can't be reached, try again from the beginning."""
        while True:
            try:
                await self._follow()
            except KafkaError as error:
                log.warning("kafka is out of reach %s", fields(error=repr(error), retry_s=RETRY_S))
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        """Dictionaries and alerts (compacted) from the beginning, signals from now on."""
        topic = self._settings.topic
        whole = [TopicPartition(topic("series"), 0), TopicPartition(topic("alerts"), 0)]
        partitions = range(self._settings.kafka.partitions)
        newest = [TopicPartition(topic("signals"), partition) for partition in partitions]
        connection = connection_of(self._settings)
        await until_topics(connection, [topic("series"), topic("alerts"), topic("signals")])
        consumer = AIOKafkaConsumer(**connection, enable_auto_commit=False)
        try:
            async with explained(connection):
                await consumer.start()
            consumer.assign(whole + newest)
            await consumer.seek_to_beginning(*whole)
            await consumer.seek_to_end(*newest)
            while True:
                for source, records in (await consumer.getmany(timeout_ms=1000)).items():
                    name = source.topic.removeprefix(self._settings.kafka.topic_prefix)
                    _RECORDS.labels(name).inc(len(records))
                    for record in records:
                        self._take(name, record.key, record.value)
        finally:
            await consumer.stop()

    def _take(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        try:
            if topic == "series":
                self._take_dictionary(key, value)
            elif topic == "alerts":
                if value is not None:
                    self._store.add_alert(decode_alert(value))
            else:
                signal_record = decode_signal(value or b"")
                if isinstance(signal_record, ScoreBatch):
                    for i in range(len(signal_record)):
                        self._store.add_scores(signal_record.frame(i))
        except CodecError as error:
            _REJECTED.labels(topic, error.reason).inc()

    def _take_dictionary(self, key: bytes | None, value: bytes | None) -> None:
        if value is not None:
            self._store.add_dictionary(decode_dictionary(value))
        elif key is not None:
            self._store.remove_dictionary(key)
