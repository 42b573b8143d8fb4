"""The watchers that run: started and ended as targets come and go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, Protocol, TypeVar

from pipeline.collect import metrics
from pipeline.collect.status import Status
from pipeline.selfmetrics import fields

log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Something that watches one target."""

    status: Status

    async def run(self) -> None:
        """Watch until cancelled."""

    def end(self) -> None:
        """The target is gone: end its series."""


Spec = TypeVar("Spec", bound=Hashable)
Watching = TypeVar("Watching", bound=Watcher)


class Pool(Generic[Spec, Watching]):
    """One watcher for each spec."""

    def __init__(self, kind: str, start: Callable[[Spec], Watching]) -> None:
        self._kind = kind
        self._start = start
        self._running: dict[Spec, tuple[Watching, asyncio.Task[None]]] = {}

    @property
    def watchers(self) -> list[Watching]:
        return [watcher for watcher, _ in self._running.values()]

    async def reconcile(self, specs: Iterable[Spec]) -> None:
        """Start what is new, end what is gone, and start again what has failed."""
        wanted = dict.fromkeys(specs)
        for spec in [spec for spec in self._running if spec not in wanted]:
            watcher, task = self._running.pop(spec)
            await _cancel(task)
            watcher.end()
        for spec in wanted:
            running = self._running.get(spec)
            if running is None:
                watcher = self._start(spec)
                self._running[spec] = (watcher, asyncio.create_task(watcher.run()))
            elif running[1].done():
                self._restart(spec, *running)
        metrics.TARGETS.labels(self._kind).set(len(self._running))

    def _restart(self, spec: Spec, watcher: Watching, task: asyncio.Task[None]) -> None:
        """A fault of ours with one target must not end the others' watching, nor its own."""
        log.error(
            "watching failed, begins anew: %s",
            fields(url=watcher.status.watched.url),
            exc_info=task.exception(),
        )
        metrics.RESTARTS.inc()
        self._running[spec] = (watcher, asyncio.create_task(watcher.run()))

    async def stop(self) -> None:
        """Stop watching, without ending anything: the targets are still there."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            await _cancel(task)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
