"""The ledger platform's WebSocket endpoints: each message to readings.

`ledger_fields.py` and `ledger_streams.py` say for each type of message where a number stands and
what its series is called. A number that isn't there gives no reading; one of the wrong type is an
error. Messages of other types (acknowledgements, pongs, single transactions) give none.

Envelopes differ between the platform's code and its documents, so all of them are accepted: the
numbers may stand beside `type`, or below `data`, `payload`, `metrics` or `block`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

import msgspec
import numpy as np

from pipeline.ingest.ledger_counts import Counts
from pipeline.ingest.ledger_feeds import FEEDS, Json
from pipeline.ingest.ledger_shapes import Field, Message
from pipeline.ingest.readings import Family, PayloadError, Readings
from pipeline.model import Series, labels_from

MAX_ITEMS = 1000
"""Objects, or numbers of one field, that a message may have."""
MAX_LABEL = 128
"""Characters of a label's value."""
_MAX_DEPTH = 4
_BODIES = ("data", "payload", "metrics", "block")
_TIMESTAMP = "timestamp"
_SHOWN = 60
_decode = msgspec.json.Decoder().decode

Label = tuple[tuple[str, str], ...]


class Heard(NamedTuple):
    """What a message says, and what has to be said after it."""

    readings: Readings | None = None
    answers: tuple[str, ...] = ()


class FeedReader:
    """Reads the messages of one feed of one instance, and counts what passes by."""

    def __init__(self, path: str) -> None:
        self._feed = FEEDS[path]
        self._counts = Counts(
            tally for message in self._feed.messages.values() for tally in message.tallies
        )

    def counted(self) -> Readings | None:
        """The counters as they stand; None for a feed of which nothing is counted."""
        return self._counts.readings()

    def read(self, payload: str | bytes) -> Heard:
        """What a message says; nothing is counted of one that is refused.

        Raises
        ------
        PayloadError
            `not_json`, `shape` (no JSON object), `field` (a value of the wrong type), `too_many`
            (items), `refused` (the other side reports an error) or `unauthorized`.
        """
        if isinstance(payload, str) and self._is_reply(payload):
            return Heard()
        content = _object(payload, self._feed.path)
        kind = content.get("type")
        if isinstance(kind, str) and kind.lower() == "error":
            raise PayloadError(
                "refused", f"{self._feed.path}: the other side says {_shown(content)}"
            )
        answers = self._feed.answers(content)
        message = self._feed.messages.get(kind if isinstance(kind, str) else "")
        if message is None:
            return Heard(None, answers)
        bodies = list(_bodies(content, message, self._feed.path))
        readings = _readings(bodies, message, self._feed.path)
        self._counts.add(message.tallies, content, [body for _, body in bodies], self._feed.path)
        return Heard(readings, answers)

    def _is_reply(self, text: str) -> bool:
        """Whether it is a good answer to a command of ours, in words."""
        if not self._feed.replies:
            return False
        if text.startswith("ERROR"):
            said = text[:_SHOWN]
            raise PayloadError("refused", f"{self._feed.path}: the other side says {said!r}")
        return text.startswith(self._feed.replies)


def families() -> dict[str, Family]:
    """Type and help of every series that these feeds can give, by name."""
    messages = [message for feed in FEEDS.values() for message in feed.messages.values()]
    fields = {
        field.name: Family(field.kind, field.help)
        for message in messages
        for field in message.fields
    }
    return fields | {
        tally.name: Family("counter", tally.help)
        for message in messages
        for tally in message.tallies
    }


def read_message(feed: str, payload: str | bytes) -> Readings | None:
    """What a message of `feed` says by itself; None if it carries no readings.

    Raises
    ------
    PayloadError
        As `FeedReader.read`.

    >>> read_message("/api/v11/live/stream", '{"type":"tps_update","tps":2850000}').values
    array([2850000.])
    """
    return FeedReader(feed).read(payload).readings


def _object(payload: str | bytes, feed: str) -> dict[str, Json]:
    try:
        content: Json = _decode(payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise PayloadError("not_json", f"{feed}: expected JSON: {error}") from None
    if not isinstance(content, dict):
        raise PayloadError("shape", f"{feed}: expected a JSON object, got {_shown(content)}")
    return content


def _bodies(
    content: dict[str, Json], message: Message, feed: str
) -> Iterator[tuple[Label, dict[str, Json]]]:
    """The objects with the numbers, each with the label that tells them apart."""
    body: Json = next((content[key] for key in _BODIES if content.get(key) is not None), content)
    items = body if isinstance(body, list) else [body]
    if len(items) > MAX_ITEMS:
        raise PayloadError("too_many", f"{feed}: expected at most {MAX_ITEMS}, got {len(items)}")
    for item in items:
        if not isinstance(item, dict):
            raise PayloadError("shape", f"{feed}: expected an object, got {_shown(item)}")
        if message.label:
            name = item.get(message.label_key, content.get(message.label_key))
            yield ((message.label, _label(name, message.label_key, feed)),), item
        else:
            yield (), item


def _readings(
    bodies: list[tuple[Label, dict[str, Json]]], message: Message, feed: str
) -> Readings | None:
    series: list[Series] = []
    values: list[float] = []
    for label, body in bodies:
        for field in message.fields:
            for more, value in _numbers(field, body, feed):
                series.append(_series(field, more if field.common else (*label, *more)))
                values.append(value)
    return Readings(tuple(series), np.array(values)) if series else None


def _numbers(field: Field, body: dict[str, Json], feed: str) -> Iterator[tuple[Label, float]]:
    """The numbers of a field, each with the labels it adds; nothing if it isn't there."""
    value: Json = body
    for key in field.path.split(".") if field.path else ():
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return
    if not field.each:
        yield (), _number(value, field, feed)
    elif isinstance(value, dict):
        leaves = list(_leaves(value, "", _MAX_DEPTH))
        if len(leaves) > MAX_ITEMS:
            where = f"{feed}: {field.path}"
            raise PayloadError("too_many", f"{where}: expected at most {MAX_ITEMS} numbers")
        for path, number in leaves:
            yield ((field.each, _label(path, field.path, feed)),), _number(number, field, feed)
    else:
        where = f"{feed}: {field.path}"
        raise PayloadError("field", f"{where}: expected an object, got {_shown(value)}")


def _leaves(content: Mapping[str, Json], above: str, depth: int) -> Iterator[tuple[str, Json]]:
    """The numbers of an object and of those within it, under their keys joined by dots."""
    for key, value in content.items():
        if isinstance(value, dict):
            if depth > 1:
                yield from _leaves(value, f"{above}{key}.", depth - 1)
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and key != _TIMESTAMP:
            yield above + key, value


def _number(value: Json, field: Field, feed: str) -> float:
    where = f"{feed}: {field.path}"
    if field.yes:
        if isinstance(value, (str, bool)):
            return float(str(value).lower() in (field.yes, "true"))
        raise PayloadError("field", f"{where}: expected a word, got {_shown(value)}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise PayloadError("field", f"{where}: expected a number, got {_shown(value)}")
    try:
        number = float(value) * field.times / field.per
    except OverflowError:
        number = float("inf")
    if not isfinite(number):
        raise PayloadError("field", f"{where}: expected a number that a double holds")
    return number


def _label(value: Json, key: str, feed: str) -> str:
    if not isinstance(value, str) or not value:
        raise PayloadError("field", f"{feed}: {key}: expected a name, got {_shown(value)}")
    if len(value) > MAX_LABEL:
        where = f"{feed}: {key}"
        raise PayloadError("field", f"{where}: expected at most {MAX_LABEL} characters")
    return value


@lru_cache(maxsize=4096)
def _series(field: Field, labels: Label) -> Series:
    named = {"__name__": field.name, **dict(field.labels), **dict(labels)}
    return Series(labels_from(named), field.kind)


def _shown(value: Json) -> str:
    try:
        text = msgspec.json.encode(value)
    except RecursionError:
        return "something deep"
    return text[:_SHOWN].decode("utf-8", "replace")
