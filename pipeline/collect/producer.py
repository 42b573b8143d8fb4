"""Records to Kafka: sent means acknowledged by all in-sync replicas, once, in order."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordTooLargeError,
    UnknownTopicOrPartitionError,
)

from pipeline.brokers import Connection, explained

MAX_RECORD_BYTES = 8 * 1024 * 1024
"""As the topics have it."""
_PERMANENT = (MessageSizeTooLargeError, RecordTooLargeError, InvalidTopicError)


class SendError(Exception):
    """Kafka didn't take a record; `permanent` if it never will."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Producer(Protocol):
    """Where records go. Tests have one that keeps them."""

    async def send(self, topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        """Return once the record is acknowledged.

        Raises
        ------
        SendError
            It isn't, though it may have been written.
        """


class KafkaProducer:
    """An idempotent producer that connects when it is first used."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()

    async def send(self, topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        """As `Producer.send`."""
        try:
            producer = await self._connected()
            await producer.send_and_wait(topic, value, key=key, partition=partition)
        except (AssertionError, UnknownTopicOrPartitionError) as error:
            # aiokafka asserts that the partition exists; the topic may still be on its way.
            raise SendError(f"{topic}[{partition}]: no such partition", permanent=False) from error
        except KafkaError as error:
            permanent = isinstance(error, _PERMANENT)
            raise SendError(f"{topic}[{partition}]: {error!r}", permanent=permanent) from error

    async def close(self) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._connection,
                    acks="all",
                    enable_idempotence=True,
                    max_request_size=MAX_RECORD_BYTES,
                    request_timeout_ms=10_000,
                )
                try:
                    async with explained(self._connection):
                        await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer
