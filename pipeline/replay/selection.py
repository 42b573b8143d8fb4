"""Which records are sent again, and where to: pure functions and the marks of what was done."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby

import msgspec

from pipeline.durations import parse_duration

NOTE_LIMIT = 4000
"""Characters that Kafka keeps beside a committed offset are 4096 by default."""

Headers = Iterable[tuple[str, bytes]]


class Request(msgspec.Struct, frozen=True):
    """What is asked for; times are those at which Kafka took the records, in ms."""

    topic: str
    rejected: bool = False
    since_ms: int | None = None
    until_ms: int | None = None
    """The first instant that is left out."""
    reasons: tuple[str, ...] = ()
    """Of rejected records; empty: all."""
    again: bool = False
    """Rejected records that were put back before are put back once more."""


class Rejection(msgspec.Struct, frozen=True):
    """What a rejected record's headers say; `partition` is None if they name none of the topic."""

    reason: str
    partition: int | None


class Done:
    """The offsets of a rejected topic whose records were put back: all below `below`, some above.

    The text of `note` and the number `below` are its whole state: a consumer group's offset and the
    text that Kafka keeps beside it.
    """

    def __init__(self, below: int = 0, note: str = "") -> None:
        self.below = below
        self._above: set[int] = set()
        for part in note.split(",") if note else ():
            first, _, last = part.partition("-")
            self._above.update(range(int(first), int(last or first) + 1))

    def __contains__(self, offset: int) -> bool:
        return offset < self.below or offset in self._above

    def begin_at(self, offset: int) -> None:
        """Kafka has nothing before `offset` any more."""
        self.below = max(self.below, offset)
        self._close_up()

    def add(self, offsets: Iterable[int]) -> None:
        self._above.update(offset for offset in offsets if offset >= self.below)
        self._close_up()

    def note(self) -> str:
        """The offsets above `below`, as ranges.

        >>> done = Done(10)
        >>> done.add([10, 12, 13, 14, 20])
        >>> done.below, done.note()
        (11, '12-14,20')
        """
        parts = []
        for _, run in groupby(enumerate(sorted(self._above)), lambda pair: pair[1] - pair[0]):
            offsets = [offset for _, offset in run]
            parts.append(f"{offsets[0]}-{offsets[-1]}" if len(offsets) > 1 else f"{offsets[0]}")
        return ",".join(parts)

    def _close_up(self) -> None:
        while self.below in self._above:
            self.below += 1
        self._above = {offset for offset in self._above if offset > self.below}


def parse_when(text: str, now_ms: int) -> int:
    """Milliseconds of an RFC 3339 time, or of a duration before `now_ms`.

    >>> parse_when("2026-11-23T22:16:00Z", 0), parse_when("2h", 7_200_000)
    (1795472160000, 0)

    Raises
    ------
    ValueError
        Anything else; the message says what was expected and what came.
    """
    if re.match(r"\d{4}-", text):
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            when = None
        if when is not None and when.tzinfo is not None:
            return int(when.timestamp() * 1000)
    else:
        try:
            return now_ms - int(parse_duration(text) * 1000)
        except ValueError:
            pass
    raise ValueError(
        f'expected a time such as "2026-11-23T22:16:00Z" or a duration ago such as "2h", '
        f"got {text!r}"
    )


def rejection_of(headers: Headers, partitions: int) -> Rejection:
    """Why a record was rejected, and its partition in a topic with that many.

    Without a header `partition` the topic has only the first one.
    """
    found = {name: value.decode("utf-8", "replace") for name, value in headers}
    text = found.get("partition", "0")
    number = int(text) if text.isascii() and text.isdigit() else partitions
    return Rejection(found.get("reason", "unknown"), number if number < partitions else None)


def is_chosen(request: Request, rejection: Rejection, time_ms: int) -> bool:
    """Whether a rejected record is one of those that `request` asks for."""
    if request.since_ms is not None and time_ms < request.since_ms:
        return False
    if request.until_ms is not None and time_ms >= request.until_ms:
        return False
    return not request.reasons or rejection.reason in request.reasons
