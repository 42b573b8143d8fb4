"""Records that have been stepped and whose effects Kafka has not acknowledged yet.

The next record is stepped meanwhile: an acknowledgement takes milliseconds, a step a fraction of
one. A record is let go only after its effects and those of every record before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from aiokafka.errors import KafkaError

RecordT = TypeVar("RecordT")

Effects = asyncio.Future[Any]  # Any: whatever the producer tells of each record sent
"""Done when everything that a record caused has been acknowledged."""


class UnderWay(Generic[RecordT]):
    """Lets records go in the order of `add`, each once its effects are done.

    After effects that failed nothing is let go any more: what comes later must not be committed.
    """

    def __init__(self, let_go: Callable[[RecordT], Awaitable[object]], most: int = 256) -> None:
        self._let_go = let_go
        self._waiting: asyncio.Queue[tuple[RecordT, Effects | None]] = asyncio.Queue(most)
        self._fault: KafkaError | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> UnderWay[RecordT]:
        self._task = asyncio.create_task(self._follow(), name="effects under way")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None, "it was entered"
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def add(self, record: RecordT, effects: Effects | None) -> None:
        """Let `record` go when `effects` are done; waits while `most` others do.

        Raises
        ------
        KafkaError
            When the effects of an earlier record have failed.
        """
        if self._fault is not None:
            raise self._fault
        await self._waiting.put((record, effects))

    async def _follow(self) -> None:
        while True:
            record, effects = await self._waiting.get()
            try:
                if effects is not None:
                    await effects
            except KafkaError as error:
                self._fault = self._fault or error
            if self._fault is None:
                await self._let_go(record)
