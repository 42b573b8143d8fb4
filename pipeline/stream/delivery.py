"""What a step wants sent, and the producer that sends it.

Effects come before commits: what `deliver` returns is done when every record has been acknowledged
by all in-sync replicas, and only then may the input be committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec
from aiokafka import AIOKafkaProducer

from pipeline.brokers import Connection
from pipeline.stream.underway import Effects

_BATCH_BYTES = 1024 * 1024
"""Of one partition while the batch before is on its way; what is beyond it holds the worker up."""


class Record(msgspec.Struct, frozen=True):
    """One record to be sent: topic without prefix, partition, key and value."""

    topic: str
    partition: int
    value: bytes
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class Deliver(Protocol):
    """Send `records`, in order for each partition; the future is done when all are acknowledged."""

    async def __call__(self, records: Sequence[Record]) -> Effects | None: ...


class KafkaDelivery:
    """`Deliver` by an idempotent producer with acks=all and no lingering."""

    def __init__(self, connection: Connection, topic_prefix: str) -> None:
        self._prefix = topic_prefix
        self._connection = connection
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(
            **self._connection,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=8 * 1024 * 1024,
        )
        await self._producer.start()

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def __call__(self, records: Sequence[Record]) -> Effects | None:
        if not records:
            return None
        assert self._producer is not None, "start() comes before the first record"
        waiting = [
            await self._producer.send(
                self._prefix + record.topic,
                record.value,
                key=record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
            for record in records
        ]
        return asyncio.gather(*waiting)
