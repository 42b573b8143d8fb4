"""The data folder of a stack: used by one at a time, and its clock goes on where it was."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from pipeline.local.problems import MissingError
from pipeline.settings import ClockSettings

_LOCK, _CLOCK = "up.lock", "clock.json"


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold `folder` while the block runs; the kernel lets go of it however the process ends.

    Gives whether the last one that held it was killed: what it had started may still be ending.

    Raises
    ------
    MissingError
        Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise MissingError(
                f"{folder}: another `watchkeeper up` (process {lock.read().strip()}) uses this "
                "data folder; stop it, or choose another one (WATCHKEEPER_DATA)"
            ) from None
        lock.seek(0)
        killed = bool(lock.read())
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        try:
            yield killed
        finally:
            lock.truncate(0)


def keep_clock(folder: Path, speed: float, wall: float) -> ClockSettings:
    """The clock of a stack that starts at the wall time `wall`; remembered in the folder.

    Raises
    ------
    MissingError
        What is remembered can't be read, or this clock would go back behind its data.
    """
    path = folder / _CLOCK
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=ClockSettings) if path.exists() else None
    except msgspec.DecodeError as error:
        raise MissingError(f"{path}: expected speed and origin: {error}; remove it") from error
    clock = next_clock(kept, speed, wall)
    path.write_bytes(msgspec.json.encode(clock) + b"\n")
    return clock


def next_clock(kept: ClockSettings | None, speed: float, wall: float) -> ClockSettings:
    """The same clock as before at the same speed, else a new one that starts now.

    >>> next_clock(None, 60.0, wall=1000.0)
    ClockSettings(speed=60.0, origin=1000.0)
    >>> next_clock(ClockSettings(60.0, 900.0), 60.0, wall=1000.0)
    ClockSettings(speed=60.0, origin=900.0)

    Raises
    ------
    MissingError
        Event time would go back: everything new would be late.
    """
    if kept is not None and kept.speed == speed:
        return kept
    if kept is not None:
        ahead = (wall - kept.origin) * (kept.speed - 1.0) if kept.speed != 1.0 else 0.0
        if ahead > 0:
            raise MissingError(
                f"the data folder was used with --speed {kept.speed:g}: its time is {ahead:.0f} s "
                f"ahead of the clock; start with --speed {kept.speed:g}, or with another folder "
                "(WATCHKEEPER_DATA)"
            )
    return ClockSettings(speed=speed, origin=0.0 if speed == 1.0 else wall)
