"""The group's committed offsets and the ends of its partitions, asked of Kafka itself.

Faust's own consumer can die without a sound, and then knows neither: this asks over connections of
its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from pipeline.brokers import Connection
from pipeline.stream.liveness import Place, Standing

_TIMEOUT_MS = 5000


class GroupOffsets:
    """How far `group` is; `start` before the first `standings`."""

    def __init__(self, connection: Connection, topic_prefix: str, group: str) -> None:
        self._connection = connection
        self._prefix = topic_prefix
        self._group = group
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None

    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(**self._connection, request_timeout_ms=_TIMEOUT_MS)
        self._admin = AIOKafkaAdminClient(**self._connection, request_timeout_ms=_TIMEOUT_MS)
        await self._consumer.start()
        await self._admin.start()

    async def stop(self) -> None:
        if self._consumer is not None:
            await self._consumer.stop()
        if self._admin is not None:
            await self._admin.close()

    async def standings(self, places: Iterable[Place]) -> dict[Place, Standing]:
        """Where the group is in each of `places` now.

        Raises
        ------
        KafkaError
            The cluster can't be asked.
        """
        assert self._consumer is not None, "start() comes first"
        assert self._admin is not None, "start() comes first"
        of = {
            TopicPartition(self._prefix + topic, number): (topic, number)
            for topic, number in places
        }
        if not of:
            return {}
        ends = await self._consumer.end_offsets(list(of))
        committed = await self._admin.list_consumer_group_offsets(self._group)
        return {
            place: Standing(max(0, committed[at].offset) if at in committed else 0, ends[at])
            for at, place in of.items()
        }
