"""Processes that are broken on purpose, and the supervisor that starts them again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from pipeline.local.children import start_child, stop_child

RESTART_S = 1.0
"""What a supervisor waits before it starts a process again."""
_STOP_S = 25.0


class Part:
    """One process under supervision."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        healthy: Callable[[], bool],
        inner: str = "",
    ) -> None:
        """`inner` names the program inside `command` that is the one to be killed."""
        self.name = name
        self.healthy = healthy
        self.held = False
        """Whether the supervisor leaves it dead."""
        self.exits: list[int] = []
        """How its processes ended."""
        self._command, self._log, self._environment = list(command), log, dict(environment)
        self._inner = inner
        self._frozen: list[int] = []
        self._ended = 0.0
        self.child = start_child(self._command, self._log, self._environment)

    def look(self) -> None:
        """Start it again if it has ended."""
        code = self.child.poll()
        if code is None:
            return
        if self._ended == 0.0:
            self.exits.append(code)
            self._ended = time.monotonic()
        if not self.held and time.monotonic() - self._ended >= RESTART_S:
            self.child = start_child(self._command, self._log, self._environment)
            self._ended = 0.0

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        self._frozen = self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._frozen:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
        self._frozen = []

    def stop(self) -> int:
        self.held = True
        self.thaw()
        return stop_child(self.child, _STOP_S)

    def _signal(self, number: int) -> list[int]:
        sent = []
        for pid in self._victims():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
            sent.append(pid)
        return sent

    def _victims(self) -> list[int]:
        if not self._inner:
            return [self.child.pid]
        try:
            family = psutil.Process(self.child.pid).children(recursive=True)
            return [process.pid for process in family if process.name() == self._inner]
        except psutil.NoSuchProcess:
            return []


async def supervise(parts: Mapping[str, Part]) -> None:
    """Start again what has ended, until cancelled; parts that join are looked after, too."""
    while True:
        for part in list(parts.values()):
            part.look()
        await asyncio.sleep(0.1)


def answers_at(place: str) -> Callable[[], bool]:
    """Whether `place` (address and path) answers by HTTP within a second."""

    def healthy() -> bool:
        try:
            urllib.request.urlopen(f"http://{place}", timeout=1).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    return healthy


class SmallDisk:
    """A folder on a file system of its own that can be filled; needs the right to mount."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._stuffing = folder / "stuffing"
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        self.mounted = os.spawnvp(os.P_WAIT, "mount", command) == 0  # noqa: S606

    def fill(self) -> None:
        try:
            with self._stuffing.open("wb") as file:
                while True:
                    file.write(bytes(65536))
        except OSError:
            return  # full

    def free(self) -> None:
        self._stuffing.unlink(missing_ok=True)

    def close(self) -> None:
        if self.mounted:
            os.spawnvp(os.P_WAIT, "umount", ["umount", "-l", str(self.folder)])  # noqa: S606
