"""Processes of one stack: started all at once where they can, watched, started again.

A part that ends is started again after a back-off. One that says that its settings can't be used
(exit code 3), or at its first start that a port or a part is missing (4), ends the stack instead,
because nothing would change.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from pipeline.local.children import end_of_log, start_child, stop_child
from pipeline.local.problems import EXIT_MISSING, EXIT_SETTINGS, MissingError
from pipeline.selfmetrics import fields

_log = logging.getLogger(__name__)

_LOOK_INTERVAL = 0.1
_CHECK_INTERVAL = 1.0
_STOP_TIMEOUT = 25.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_STEADY_AFTER = 60.0
"""A part that ran for this long has left its trouble behind: the back-off begins anew."""

Ready = Callable[[], Awaitable[bool]]
State = Literal["waiting", "starting", "running", "silent", "paused", "stopped"]


class Part(msgspec.Struct, frozen=True):
    """One process of the stack."""

    name: str
    command: tuple[str, ...]
    ready: Ready
    """Whether it answers; asked once a second while it runs."""
    after: tuple[str, ...] = ()
    """Parts that must be ready before this one starts, and that end after it."""
    uses: tuple[str, ...] = ()
    """Parts that end after it; it waits for them by itself, so that all can start at once."""


class PartState(msgspec.Struct, frozen=True):
    """What is shown of a part."""

    name: str
    state: State
    restarts: int = 0
    note: str = ""


def pause_before(restart: int) -> float:
    """Seconds to wait before the n-th start in a row (from 1): doubling, at most 30.

    >>> [pause_before(n) for n in (1, 2, 3, 6)]
    [1.0, 2.0, 4.0, 30.0]
    """
    return min(_FIRST_PAUSE * 2.0 ** (restart - 1), _LONGEST_PAUSE)


class Supervisor:
    """Runs parts until it is stopped. Children belong to the thread that awaits `run`."""

    def __init__(
        self, parts: Sequence[Part], logs: Path, environment: Callable[[], Mapping[str, str]]
    ) -> None:
        """`environment` is asked whenever a part is started: a part can learn from another."""
        self._parts = {part.name: part for part in parts}
        self._logs = logs
        self._environment = environment
        self._states = {part.name: PartState(part.name, "waiting") for part in parts}
        self._ready = {part.name: asyncio.Event() for part in parts}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = asyncio.Event()

    def states(self) -> list[PartState]:
        return list(self._states.values())

    def all_ready(self) -> bool:
        """Whether every part has answered once."""
        return all(event.is_set() for event in self._ready.values())

    async def run(self) -> None:
        """Start and watch everything until `stop`.

        Raises
        ------
        MissingError
            A part can't start; the others still run, so call `stop` then, too. What a part's
            `ready` raises ends the run in the same way.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._parts.values():
                    group.create_task(self._keep(part))
        except ExceptionGroup as failed:  # the first one has cancelled the others
            raise failed.exceptions[0] from failed

    async def stop(self) -> None:
        """End every part, those that need others first; only what this supervisor started."""
        self._stopping.set()
        left = dict(self._children)
        while left:
            parts = [self._parts[name] for name in left]
            needed = {name for part in parts for name in (*part.after, *part.uses)}
            first = [name for name in left if name not in needed]
            await asyncio.gather(
                *(asyncio.to_thread(stop_child, left[name], _STOP_TIMEOUT) for name in first)
            )
            for name in first:
                self._set(name, "stopped")
                del left[name]

    def _set(self, name: str, state: State, note: str = "", restarts: int | None = None) -> None:
        before = self._states[name]
        count = before.restarts if restarts is None else restarts
        self._states[name] = PartState(name, state, count, note)
        if state != before.state:
            _log.info("part %s", fields(name=name, state=state, note=note))

    async def _keep(self, part: Part) -> None:
        for name in part.after:
            await self._until_stopping(self._ready[name].wait())
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once(part)
            if self._stopping.is_set():
                return
            log = self._logs / f"{part.name}.log"
            ready = self._ready[part.name].is_set()
            if code == EXIT_SETTINGS or (code == EXIT_MISSING and not ready):
                raise MissingError(f"{part.name} can't start:\n{end_of_log(log)}")
            failures = 1 if time.monotonic() - started > _STEADY_AFTER else failures + 1
            pause = pause_before(failures)
            note = f"ended with exit code {code}; starts again after {pause:.0f} s; see {log}"
            self._set(part.name, "paused", note, self._states[part.name].restarts + 1)
            await self._until_stopping(asyncio.sleep(pause))

    async def _run_once(self, part: Part) -> int:
        """Start it and watch it until it ends or the stack stops; its exit code."""
        self._set(part.name, "starting")
        child = start_child(
            part.command,
            self._logs / f"{part.name}.log",
            {**os.environ, **self._environment()},
        )
        self._children[part.name] = child
        check_at = 0.0
        while (code := child.poll()) is None and not self._stopping.is_set():
            now = time.monotonic()
            if now >= check_at:
                check_at = now + await self._check(part)
            await self._until_stopping(asyncio.sleep(_LOOK_INTERVAL))
        return code or 0

    async def _check(self, part: Part) -> float:
        """Ask the part whether it is well; seconds until it is to be asked again."""
        if await part.ready():
            self._set(part.name, "running")
            self._ready[part.name].set()
            return _CHECK_INTERVAL
        if self._states[part.name].state in ("running", "silent"):
            self._set(part.name, "silent", "runs, but doesn't answer")
        return _LOOK_INTERVAL

    async def _until_stopping(self, awaited: Awaitable[object]) -> None:
        """Return when `awaited` is done, or at once when the stack is to stop."""
        work = asyncio.ensure_future(awaited)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            stopping.cancel()
