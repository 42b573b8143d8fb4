"""Alerts from Kafka. An offset is committed only after what came before it is stored.

The topic has one partition and the dispatcher reads it alone, so it assigns itself: no group join
delays a restart. While Kafka is down the rest of the dispatcher goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Gauge

from pipeline.alerts.incident import report_of
from pipeline.brokers import connection_of, explained
from pipeline.codec import CodecError, decode_alert
from pipeline.dispatch.dispatcher import Dispatcher
from pipeline.dispatch.metrics import RECORDS_REJECTED
from pipeline.dispatch.store import StoreError
from pipeline.selfmetrics import fields
from pipeline.settings import Settings

log = logging.getLogger(__name__)

CONNECTED = Gauge("watchkeeper_dispatch_kafka_connected", "1 while alerts are read from Kafka.")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 4.0
COMMIT_INTERVAL = 1.0
"""Offsets are committed this often: what is read twice after a kill changes nothing."""


async def consume(settings: Settings, dispatcher: Dispatcher) -> None:
    """Read the topic `alerts` until cancelled, connecting again whenever Kafka goes away."""
    # What it says at each attempt is said here, once for each change.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    pause = FIRST_PAUSE
    while True:
        reader = _Reader(settings, dispatcher)
        try:
            await reader.start()
            log.info("reading alerts %s", fields(brokers=",".join(settings.brokers)))
            CONNECTED.set(1)
            pause = FIRST_PAUSE
            await reader.read()
        except (KafkaError, OSError) as error:
            if pause == FIRST_PAUSE:
                log.warning("no alerts from Kafka until it answers %s", fields(error=error))
        except StoreError:
            log.warning("alerts are read again after the store has failed")
        finally:
            CONNECTED.set(0)
            await reader.stop()
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


class _Reader:
    """One connection to Kafka."""

    def __init__(self, settings: Settings, dispatcher: Dispatcher) -> None:
        self._partition = TopicPartition(settings.topic("alerts"), 0)
        self._dispatcher = dispatcher
        self._connection = connection_of(settings)
        self._consumer = AIOKafkaConsumer(
            **self._connection,
            group_id=settings.topic("dispatch"),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            metadata_max_age_ms=5000,
            retry_backoff_ms=200,
        )
        self._consumer.assign([self._partition])
        self._producer = AIOKafkaProducer(**self._connection)
        self._stored = 0
        self._committed = 0
        self._next_commit = 0.0

    async def start(self) -> None:
        async with explained(self._connection):
            await self._consumer.start()
            await self._producer.start()

    async def stop(self) -> None:
        await self._commit()
        await self._consumer.stop()
        await self._producer.stop()

    async def read(self) -> None:
        """Take in what arrives, in order; what arrived meanwhile is taken in together."""
        now = asyncio.get_running_loop().time
        while True:
            wait_ms = int(COMMIT_INTERVAL * 1000)
            batches = await self._consumer.getmany(timeout_ms=wait_ms, max_records=1000)
            for records in batches.values():
                await self._take(records)
                self._stored = records[-1].offset + 1
            if now() >= self._next_commit:
                await self._commit()
                self._next_commit = now() + COMMIT_INTERVAL

    async def _take(self, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        reports = []
        for record in records:
            if record.value is None:  # the tombstone of a compacted topic
                continue
            try:
                alert = decode_alert(record.value)
            except CodecError as error:
                await self._reject(record, error)
                continue
            reports.append(report_of(alert, alert.fingerprint))
        await self._dispatcher.accept(reports)

    async def _reject(self, record: ConsumerRecord[bytes, bytes], error: CodecError) -> None:
        RECORDS_REJECTED.labels(error.reason).inc()
        log.warning("rejected %s", fields(offset=record.offset, reason=error))
        headers = [("reason", error.reason.encode()), ("error", str(error).encode())]
        await self._producer.send_and_wait(
            self._partition.topic + ".rejected", record.value, key=record.key, headers=headers
        )

    async def _commit(self) -> None:
        if self._stored == self._committed:
            return
        try:
            await self._consumer.commit({self._partition: self._stored})
        except KafkaError as error:
            log.warning("offset not committed %s", fields(offset=self._stored, error=error))
            return
        self._committed = self._stored
