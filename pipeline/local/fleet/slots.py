"""Which number of a node's state goes where in its frames, learned by trying.

Frames are recorded twice: as they are, and with each reading replaced by its position. Messages are
read with each number replaced: a reading is one of a message's numbers times a factor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.collect.frames import Built
from pipeline.ingest.ledger import read_message
from pipeline.ingest.readings import Readings
from pipeline.local.fleet.payloads import Json, encode
from pipeline.local.fleet.recorder import Said
from pipeline.model import FloatArray, Frame, IntArray

_POSITION = 2.0**52
"""Added to the positions that stand for readings: no reading is that large."""
CONSTANT = -1


class Slot(NamedTuple):
    """A frame that every step has."""

    said: Said
    frame: Frame
    """The one from which it was learned."""
    later_ms: int
    """What its time is after that of the step."""
    columns: IntArray
    """Column `columns[i]` has reading `readings[i]`; the others always say the same."""
    readings: IntArray


def with_positions(said: Said) -> Said:
    """The same, each reading replaced by its position."""
    positions = np.arange(len(said.readings.series), dtype=np.float64) + _POSITION
    return said._replace(readings=Readings(said.readings.series, positions))


def slot_of(said: Said, time_ms: int, built: Built, positions: Built) -> Slot:
    """The slot of what was said, from its frame and from that of `with_positions`."""
    (frame,), (twin,) = built.frames, positions.frames
    assert frame.dictionary_id == twin.dictionary_id, "the same series make the same columns"
    columns = np.flatnonzero(twin.values >= _POSITION)
    readings = (twin.values[columns] - _POSITION).astype(np.int64)
    return Slot(said, frame, frame.time_ms - time_ms, columns, readings)


class Reading(NamedTuple):
    """Where the readings of a message come from.

    Reading i is number `numbers[i]` of the message times `factors[i]`; or always `constants[i]`,
    when `numbers[i]` is `CONSTANT`: a word that means a number.
    """

    numbers: IntArray
    factors: FloatArray
    constants: FloatArray


def learn_reading(path: str, content: Json) -> Reading:
    """How messages of that content are read: by one with ones, and one with 2, 3, 4 and so on."""
    count = len(list(numbers_of(content)))
    factors = _read(path, _with_numbers(content, iter([1.0] * count)))
    counted = _read(path, _with_numbers(content, iter(np.arange(2.0, count + 2).tolist())))
    constant = factors == counted
    with np.errstate(invalid="ignore"):  # a word that means 0
        numbers = np.rint(counted / factors) - 2
    numbers[constant] = CONSTANT
    return Reading(numbers.astype(np.int64), factors, _read(path, content))


def numbers_of(content: Json) -> Iterator[float | FloatArray]:
    """The numbers in a message, in order."""
    if isinstance(content, dict):
        for item in content.values():
            yield from numbers_of(item)
    elif isinstance(content, list):
        for item in content:
            yield from numbers_of(item)
    elif isinstance(content, (int, float, np.ndarray)) and not isinstance(content, bool):
        yield content


def _with_numbers(content: Json, numbers: Iterator[float]) -> Json:
    """The same message with other numbers."""
    if isinstance(content, dict):
        return {key: _with_numbers(item, numbers) for key, item in content.items()}
    if isinstance(content, list):
        return [_with_numbers(item, numbers) for item in content]
    if isinstance(content, (int, float)) and not isinstance(content, bool):
        return next(numbers)
    return content


def _read(path: str, content: Json) -> FloatArray:
    readings = read_message(path, encode(content))
    assert readings is not None, "a slot is made of messages that are read"
    return readings.values
