"""What a partition has had so far, read by a consumer outside the group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.brokers import Connection

_STEP_MS = 500


class Past(Protocol):
    """The records of one partition."""

    end: int
    """The offset of the record that will come next."""

    async def some_time_before(self, offset: int) -> int:
        """The first offset of those that are replayed when nothing better is known."""
        ...

    def records(self, since: int, until: int) -> AsyncIterator[bytes]:
        """The values of the records in [since, until) that are still kept, oldest first."""
        ...


class OpenPast(Protocol):
    """The past of a partition of `topic` (without prefix)."""

    def __call__(self, topic: str, partition: int) -> AbstractAsyncContextManager[Past]: ...


class KafkaPast:
    """`OpenPast` on the brokers; `wall_seconds` is how much is replayed without a snapshot."""

    def __init__(self, connection: Connection, topic_prefix: str, wall_seconds: float) -> None:
        self._connection = connection
        self._prefix = topic_prefix
        self._wall_seconds = wall_seconds

    @asynccontextmanager
    async def __call__(self, topic: str, partition: int) -> AsyncIterator[Past]:
        place = TopicPartition(self._prefix + topic, partition)
        consumer = AIOKafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_STEP_MS,
            max_partition_fetch_bytes=8 * 1024 * 1024,
        )
        await consumer.start()
        try:
            consumer.assign([place])
            end = (await consumer.end_offsets([place]))[place]
            yield _KafkaPartition(consumer, place, end, self._wall_seconds)
        finally:
            await consumer.stop()


class _KafkaPartition:
    def __init__(
        self, consumer: AIOKafkaConsumer, place: TopicPartition, end: int, wall_seconds: float
    ) -> None:
        self.end = end
        self._consumer = consumer
        self._place = place
        self._wall_seconds = wall_seconds

    async def some_time_before(self, offset: int) -> int:
        """That of the first record less than the set time, by the broker's clock, before it."""
        self._consumer.seek(self._place, offset)
        resumed = await self._consumer.getone(self._place)
        since_ms = resumed.timestamp - int(self._wall_seconds * 1000)
        found = (await self._consumer.offsets_for_times({self._place: since_ms}))[self._place]
        return offset if found is None else min(offset, int(found.offset))

    async def records(self, since: int, until: int) -> AsyncIterator[bytes]:
        if since >= until:
            return
        self._consumer.seek(self._place, since)
        while await self._consumer.position(self._place) < until:
            batches = await self._consumer.getmany(self._place, timeout_ms=_STEP_MS)
            for record in batches.get(self._place, ()):
                if record.offset >= until:
                    return
                yield record.value
