"""Recent records of a partition read again, so that a worker that is given it knows what it needs.

Windows, detectors and alerts of a partition are rebuilt from the `worker.replay` seconds of its own
records before the one at which it goes on: the same steps over the same bytes. However long nobody
owned the partition, that is what its last owner knew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.brokers import Connection

_STEP_MS = 500


class KafkaReplay:
    """`Restore` by a consumer outside the group."""

    def __init__(self, connection: Connection, topic_prefix: str, wall_seconds: float) -> None:
        self._connection = connection
        self._prefix = topic_prefix
        self._wall_seconds = wall_seconds

    async def __call__(
        self, topic: str, partition: int, offset: int, replay: Callable[[bytes], Awaitable[None]]
    ) -> int:
        """Replay what lies less than `wall_seconds` before the record at `offset`; how many."""
        place = TopicPartition(self._prefix + topic, partition)
        consumer = AIOKafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            fetch_max_wait_ms=_STEP_MS,
            max_partition_fetch_bytes=8 * 1024 * 1024,
        )
        await consumer.start()
        try:
            consumer.assign([place])
            consumer.seek(place, offset)
            resumed = await consumer.getone(place)
            since_ms = resumed.timestamp - int(self._wall_seconds * 1000)
            found = (await consumer.offsets_for_times({place: since_ms}))[place]
            if found is None or found.offset >= offset:
                return 0
            consumer.seek(place, found.offset)
            return await _read(consumer, place, offset, replay)
        finally:
            await consumer.stop()


async def _read(
    consumer: AIOKafkaConsumer,
    place: TopicPartition,
    until: int,
    replay: Callable[[bytes], Awaitable[None]],
) -> int:
    count = 0
    while await consumer.position(place) < until:
        batches = await consumer.getmany(place, timeout_ms=_STEP_MS)
        for record in batches.get(place, ()):
            if record.offset >= until:
                return count
            await replay(record.value)
            count += 1
    return count
