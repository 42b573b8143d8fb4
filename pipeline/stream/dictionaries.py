"""The dictionaries of the compacted topic `series`, kept up to date by a consumer of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import Counter

from pipeline.brokers import Connection, explained
from pipeline.codec import CodecError, decode_dictionary
from pipeline.model import SeriesDictionary
from pipeline.selfmetrics import fields

log = logging.getLogger(__name__)

_REJECTED = Counter(
    "watchkeeper_dictionaries_rejected_total",
    "Records of the topic series that were no dictionary",
    ["reason"],
)


_POLL_MS = 20
"""A question for the topic's end waits behind the fetch that is under way for as long as this."""


class Dictionaries:
    """All dictionaries by id. `start` returns when the topic has been read to its end."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection = connection
        self._partition = TopicPartition(topic, 0)
        self._known: dict[int, SeriesDictionary] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._read_to = 0
        self._moved = asyncio.Condition()

    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(
            **self._connection,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_POLL_MS,
        )
        async with explained(self._connection):
            await self._consumer.start()
        self._consumer.assign([self._partition])
        await self._consumer.seek_to_beginning(self._partition)
        self._task = asyncio.create_task(self._follow(), name="dictionaries")
        await self._reach_end()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._consumer is not None:
            await self._consumer.stop()

    def known(self, dictionary_id: int) -> SeriesDictionary | None:
        return self._known.get(dictionary_id)

    async def find(self, dictionary_id: int) -> SeriesDictionary | None:
        """The dictionary, after reading the topic to its present end if it isn't known yet."""
        if dictionary_id not in self._known:
            await self._reach_end()
        return self._known.get(dictionary_id)

    async def _reach_end(self) -> None:
        assert self._consumer is not None
        end = (await self._consumer.end_offsets([self._partition]))[self._partition]
        async with self._moved:
            await self._moved.wait_for(lambda: self._read_to >= end)

    async def _follow(self) -> None:
        assert self._consumer is not None
        while True:
            batches = await self._consumer.getmany(timeout_ms=1000)
            for records in batches.values():
                for record in records:
                    self._learn(record.value, record.offset)
            self._read_to = await self._consumer.position(self._partition)
            async with self._moved:
                self._moved.notify_all()

    def _learn(self, value: bytes | None, offset: int) -> None:
        if value is None:
            return
        try:
            dictionary = decode_dictionary(value)
        except CodecError as error:
            _REJECTED.labels(error.reason).inc()
            log.warning(fields(topic=self._partition.topic, offset=offset, error=error))
            return
        self._known[dictionary.id] = dictionary
