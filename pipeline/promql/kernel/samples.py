"""Samples in a block: which are gaps, and where a window begins and ends."""

from __future__ import annotations

import numpy as np

from pipeline.jit import compiled
from pipeline.model import ABSENT_BITS, STALE_BITS, IntArray
from pipeline.promql.kernel.layout import (
    COUNT,
    START,
    TIMES_AT,
)


@compiled
def is_gap(bits: int | np.int64) -> bool:
    return bits in (ABSENT_BITS, STALE_BITS)


@compiled
def kahan(increment: float, total: float, rest: float) -> tuple[float, float]:
    """Neumaier's compensated sum, as kahanSumInc in prometheus/promql/functions.go."""
    new = total + increment
    if np.isinf(new):
        return new, 0.0
    if abs(total) >= abs(increment):
        return new, rest + ((total - new) + increment)
    return new, rest + ((increment - new) + total)


@compiled
def newest(block: IntArray, numbers: IntArray, time_ms: int) -> int:
    """Position after the newest sample that is not younger than `time_ms`."""
    at = block[TIMES_AT]
    end = int(block[START] + block[COUNT])
    while end > block[START] and numbers[at + end - 1] > time_ms:
        end -= 1
    return end


@compiled
def oldest(block: IntArray, numbers: IntArray, end: int, time_ms: int, open_left: bool) -> int:
    """Position of the oldest sample of a window that begins at `time_ms`."""
    at = block[TIMES_AT]
    low, high = int(block[START]), end
    while low < high:
        middle = (low + high) // 2
        time = numbers[at + middle]
        if time < time_ms or (open_left and time == time_ms):
            low = middle + 1
        else:
            high = middle
    return low
