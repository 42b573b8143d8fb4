"""The worker's marks from Kafka: how far it has evaluated each partition.

A mark is written to every partition of `signals`; one of them tells all. Only new ones are of use.
"""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.brokers import connection_of, explained
from pipeline.codec import CodecError, decode_mark
from pipeline.dispatch.dispatcher import Dispatcher
from pipeline.settings import Settings


class MarkReader:
    """One connection to the topic `signals`."""

    def __init__(self, settings: Settings, dispatcher: Dispatcher) -> None:
        self._partition = TopicPartition(settings.topic("signals"), 0)
        self._dispatcher = dispatcher
        self._connection = connection_of(settings)
        self._consumer = AIOKafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            metadata_max_age_ms=5000,
            retry_backoff_ms=200,
        )
        self._consumer.assign([self._partition])

    async def start(self) -> None:
        async with explained(self._connection):
            await self._consumer.start()

    async def stop(self) -> None:
        await self._consumer.stop()

    async def read(self) -> None:
        """Pass every mark on."""
        await self._consumer.seek_to_end(self._partition)
        while True:
            record = await self._consumer.getone()
            try:
                mark = decode_mark(record.value)
            except CodecError:
                continue  # the worker, whose topic it is, rejects it
            if mark is not None:
                self._dispatcher.mark(mark.partition, mark.time_ms)
