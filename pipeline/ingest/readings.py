"""What one input says: series without the labels of the target they came from, and their values."""

from __future__ import annotations

import msgspec

from pipeline.model import FloatArray, IntArray, Series, SeriesKind


class PayloadError(ValueError):
    """An input that can't be read; `reason` is one of a small fixed set, for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Family(msgspec.Struct, frozen=True):
    """What an exposition says about all series of one name."""

    kind: SeriesKind = "unknown"
    help: str = ""
    unit: str = ""


class Readings(msgspec.Struct, frozen=True, eq=False):
    """Samples of one input, in its order.

    `series` and `values` have the same length. `times_ms` is given only if samples expose a time
    of their own; it is 0 where a sample has none.
    """

    series: tuple[Series, ...]
    values: FloatArray
    times_ms: IntArray | None = None
