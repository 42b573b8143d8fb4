"""The ledger platform's WebSocket endpoints: each message to readings.

`ledger_fields.py` says for each type of message where a number stands and what its series is
called. A number that isn't there gives no reading; one of the wrong type is an error. Messages of
other types (acknowledgements, pongs, single transactions) give none.

Envelopes differ between the platform's code and its documents, so all of them are accepted: the
numbers may stand beside `type`, or below `data`, `payload`, `metrics` or `block`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import msgspec
import numpy as np

from pipeline.ingest.ledger_fields import CHANNELS, DASHBOARD, LIVE, METRICS, Field, Message
from pipeline.ingest.readings import Family, PayloadError, Readings
from pipeline.model import Series, labels_from

Json = dict[str, "Json"] | list["Json"] | str | float | int | bool | None


class Feed(msgspec.Struct, frozen=True):
    """One endpoint."""

    path: str
    subscribe: tuple[str, ...]
    """What to send after connecting."""
    messages: dict[str, Message]
    """By type; a message without one has the type ''."""


_LIVE_CHANNELS = ("tps_updates", "block_updates", "network_status", "validator_metrics")
_TABLE = (
    Feed("/ws/metrics", (), {"": METRICS, "metric": METRICS, "metrics": METRICS}),
    Feed(
        "/api/v11/live/stream",
        tuple(f'{{"type":"subscribe","channel":"{channel}"}}' for channel in _LIVE_CHANNELS),
        LIVE,
    ),
    Feed(
        "/ws/dashboard",
        ('{"action":"subscribe","channels":["metrics","nodes","performance"]}',),
        DASHBOARD,
    ),
    Feed("/ws/channels", ('{"action":"subscribe","channels":["main-channel"]}',), CHANNELS),
)
FEEDS: Mapping[str, Feed] = {feed.path: feed for feed in _TABLE}

_BODIES = ("data", "payload", "metrics", "block")
_decode = msgspec.json.Decoder().decode


def families() -> dict[str, Family]:
    """Type and help of every series that these feeds can give, by name."""
    return {
        field.name: Family(field.kind, field.help)
        for feed in _TABLE
        for message in feed.messages.values()
        for field in message.fields
    }


def read_message(feed: str, payload: str | bytes) -> Readings | None:
    """What a message of `feed` says; None if it is one that carries no readings.

    Raises
    ------
    PayloadError
        `not_json`, `shape` (no JSON object) or `field` (a value of the wrong type).

    >>> read_message("/api/v11/live/stream", '{"type":"tps_update","tps":2850000}').values
    array([2850000.])
    """
    try:
        content: Json = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError("not_json", f"{feed}: expected JSON: {error}") from None
    if not isinstance(content, dict):
        raise PayloadError("shape", f"{feed}: expected a JSON object, got {_shown(content)}")
    kind = content.get("type")
    message = FEEDS[feed].messages.get(kind if isinstance(kind, str) else "")
    if message is None:
        return None
    series: list[Series] = []
    values: list[float] = []
    for label, body in _bodies(content, message, feed):
        for field in message.fields:
            for labels, value in _numbers(field, body, feed):
                series.append(_series(field, (*label, *labels)))
                values.append(value * field.times / field.per)
    return Readings(tuple(series), np.array(values)) if series else None


def _bodies(
    content: dict[str, Json], message: Message, feed: str
) -> Iterator[tuple[tuple[tuple[str, str], ...], dict[str, Json]]]:
    """The objects with the numbers, each with the label that tells them apart."""
    body: Json = next((content[key] for key in _BODIES if content.get(key) is not None), content)
    for item in body if isinstance(body, list) else [body]:
        if not isinstance(item, dict):
            raise PayloadError("shape", f"{feed}: expected an object, got {_shown(item)}")
        if not message.label:
            yield (), item
            continue
        name = item.get(message.label_key, content.get(message.label_key))
        if not isinstance(name, str):
            where = f"{feed}: {message.label_key}"
            raise PayloadError("field", f"{where}: expected a name, got {_shown(name)}")
        yield ((message.label, name),), item


def _numbers(
    field: Field, body: dict[str, Json], feed: str
) -> Iterator[tuple[tuple[tuple[str, str], ...], float]]:
    """The numbers of a field, each with the labels it adds; nothing if it isn't there."""
    value: Json = body
    for key in field.path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if field.each and isinstance(value, dict):
        for key, number in value.items():
            yield ((field.each, key),), _number(number, field, feed)
    elif field.yes and isinstance(value, str):
        yield (), float(value.lower() == field.yes)
    elif value is not None:
        yield (), _number(value, field, feed)


def _number(value: Json, field: Field, feed: str) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    where = f"{feed}: {field.path}"
    raise PayloadError("field", f"{where}: expected a number, got {_shown(value)}")


@lru_cache(maxsize=4096)
def _series(field: Field, labels: tuple[tuple[str, str], ...]) -> Series:
    named = {"__name__": field.name, **dict(field.labels), **dict(labels)}
    return Series(labels_from(named), field.kind)


def _shown(value: Json) -> str:
    return msgspec.json.encode(value)[:60].decode("utf-8", "replace")
