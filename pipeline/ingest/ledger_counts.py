"""Counters of a stream of events: how many there were, and what their numbers add up to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite

import numpy as np

from pipeline.ingest.ledger_feeds import Json
from pipeline.ingest.ledger_shapes import OTHER, Tally
from pipeline.ingest.readings import PayloadError, Readings
from pipeline.model import Series, labels_from

_MAX_DIGITS = 40
_MOST = 1e30
"""A million million coins of 18 decimals; beside more than that, a counter would stand still."""


class Counts:
    """The counters of some tallies; all of their series are there from the start, at 0."""

    def __init__(self, tallies: Iterable[Tally]) -> None:
        self._values = {
            _series(tally, word): 0.0
            for tally in tallies
            for word in ((*tally.words, OTHER) if tally.label else ("",))
        }
        self._layout = tuple(self._values)
        self._last: dict[Tally, str] = {}

    def readings(self) -> Readings | None:
        """All counters; None if there are none."""
        if not self._layout:
            return None
        return Readings(self._layout, np.array(list(self._values.values())))

    def add(
        self,
        tallies: tuple[Tally, ...],
        envelope: Mapping[str, Json],
        bodies: list[dict[str, Json]],
        feed: str,
    ) -> None:
        """Count the bodies of one message, all of them or none.

        Raises
        ------
        PayloadError
            `field`: an amount is no number >= 0.
        """
        grown = [
            (_series(tally, _word(tally, body, envelope)), _amount(tally, body, feed))
            for tally in tallies
            for body in bodies
        ]
        for series, amount in grown:
            self._values[series] += amount
        for tally in tallies:
            if tally.changed:
                self._values[_series(tally, "")] += self._changes(tally, bodies)

    def _changes(self, tally: Tally, bodies: list[dict[str, Json]]) -> int:
        changes = 0
        for body in bodies:
            text = body.get(tally.changed)
            if isinstance(text, str):
                changes += text != self._last.get(tally, text)
                self._last[tally] = text
        return changes


def _word(tally: Tally, body: Mapping[str, Json], envelope: Mapping[str, Json]) -> str:
    if not tally.label:
        return ""
    word = body.get(tally.word, envelope.get(tally.word))
    text = word.lower() if isinstance(word, str) else ""
    return text if text in tally.words else OTHER


def _amount(tally: Tally, body: Mapping[str, Json], feed: str) -> float:
    if tally.changed:
        return 0.0
    if not tally.path:
        return 1.0
    value = body.get(tally.path)
    if value is None:
        return 0.0
    number = _decimal(value)
    if number is None:
        expected = "a number >= 0, perhaps as a decimal text"
        raise PayloadError("field", f"{feed}: {tally.path}: expected {expected}")
    return number


def _decimal(value: Json) -> float | None:
    """The number that a value is, or is the text of; None if it is none >= 0."""
    if isinstance(value, str):
        digits = value.replace(".", "", 1)
        good = len(value) <= _MAX_DIGITS and digits.isascii() and digits.isdigit()
    else:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or isinstance(value, (dict, list)) or value is None:
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) and 0 <= number <= _MOST else None


def _series(tally: Tally, word: str) -> Series:
    labels = {"__name__": tally.name, **dict(tally.labels)}
    if tally.label:
        labels[tally.label] = word
    return Series(labels_from(labels), "counter")
