"""Alerts from Kafka. Where to go on is stored together with what was read.

With a database that holds no such place, the topic is read to its end first and only the last word
on each alert is taken in: the alerts that fire now, and no history.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.alerts.incident import report_of
from pipeline.brokers import connection_of, explained
from pipeline.codec import CodecError, decode_alert
from pipeline.dispatch.dispatcher import Dispatcher
from pipeline.dispatch.metrics import RECORDS_REJECTED
from pipeline.selfmetrics import fields
from pipeline.settings import Settings

log = logging.getLogger(__name__)

COMMIT_INTERVAL = 1.0
"""Offsets are told to Kafka this often, for those who look at the lag; the store's own count."""


class AlertReader:
    """One connection to the topic `alerts`."""

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

    async def start(self) -> None:
        async with explained(self._connection):
            await self._consumer.start()
            await self._producer.start()
        await self._find_place()

    async def stop(self) -> None:
        await self._commit()
        await self._consumer.stop()
        await self._producer.stop()

    async def read(self) -> None:
        """Take in what arrives, in order; what arrived meanwhile is taken in together."""
        now = asyncio.get_running_loop().time
        next_commit = now()
        while True:
            records = await self._next()
            if records:
                await self._take(records, records[-1].offset + 1)
            if now() >= next_commit:
                await self._commit()
                next_commit = now() + COMMIT_INTERVAL

    async def _find_place(self) -> None:
        """Go to the first record that is not stored."""
        partition = self._partition
        end = (await self._consumer.end_offsets([partition]))[partition]
        place = self._dispatcher.offset(partition.topic)
        if place is not None and place <= end:
            self._consumer.seek(partition, place)
            self._stored = self._committed = place
            return
        self._consumer.seek(partition, 0)
        last: dict[bytes, ConsumerRecord[bytes, bytes]] = {}
        while await self._consumer.position(partition) < end:
            last |= {record.key: record for record in await self._next()}
        await self._take(last.values(), await self._consumer.position(partition))
        log.info("read from the start %s", fields(alerts=len(last), end=end))

    async def _next(self) -> list[ConsumerRecord[bytes, bytes]]:
        wait_ms = int(COMMIT_INTERVAL * 1000)
        batches = await self._consumer.getmany(timeout_ms=wait_ms, max_records=1000)
        records: list[ConsumerRecord[bytes, bytes]] = batches.get(self._partition, [])
        return records

    async def _take(
        self, records: Iterable[ConsumerRecord[bytes, bytes]], next_offset: int
    ) -> None:
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
        await self._dispatcher.accept(reports, {self._partition.topic: next_offset})
        self._stored = next_offset

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
