"""Straight lines through a window: `deriv` and `predict_linear`."""

from __future__ import annotations

import numpy as np

from pipeline.jit import compiled
from pipeline.model import FloatArray, IntArray
from pipeline.promql.kernel.layout import (
    DERIV,
)
from pipeline.promql.kernel.samples import is_gap

_SCAN_LIMIT = 256
"""Regressions over more samples than this use running sums instead of Prometheus' own order."""


@compiled
def _error_of_sum(total: float, increment: float, new: float) -> float:
    """What rounding lost in `new = total + increment`, without branches (Knuth's TwoSum)."""
    part = new - total
    return (total - (new - part)) + (increment - part)


@compiled
def _scan_regression(
    numbers: IntArray,
    values: FloatArray,
    here: int,
    step: int,
    at: int,
    low: int,
    end: int,
    origin_ms: int,
) -> tuple[float, float]:
    """Slope per second and value at `origin_ms` (linearRegression)."""
    n = sum_x = rest_x = sum_y = rest_y = sum_xy = rest_xy = sum_xx = rest_xx = 0.0
    first = values[here + low * step]
    constant = True
    for i in range(low, end):
        if is_gap(numbers[here + i * step]):
            continue
        y = values[here + i * step]
        constant = constant and y == first
        n += 1.0
        x = (numbers[at + i] - origin_ms) / 1000.0
        new = sum_x + x
        rest_x += _error_of_sum(sum_x, x, new)
        sum_x = new
        new = sum_y + y
        rest_y += _error_of_sum(sum_y, y, new)
        sum_y = new
        new = sum_xy + x * y
        rest_xy += _error_of_sum(sum_xy, x * y, new)
        sum_xy = new
        new = sum_xx + x * x
        rest_xx += _error_of_sum(sum_xx, x * x, new)
        sum_xx = new
    if constant:
        return (np.nan, np.nan) if np.isinf(first) else (0.0, first)
    sum_x += rest_x
    sum_y += rest_y
    sum_xy += rest_xy
    sum_xx += rest_xx
    slope = (sum_xy - sum_x * sum_y / n) / (sum_xx - sum_x * sum_x / n)
    return slope, sum_y / n - slope * sum_x / n


@compiled
def _running_regression(
    numbers: IntArray,
    values: FloatArray,
    here: int,
    step: int,
    at: int,
    low: int,
    end: int,
    base: int,
    start: int,
    origin_ms: int,
    caches: FloatArray,
    cache: int,
) -> tuple[bool, float, float]:
    """Like `_scan_regression` for a window without gaps, in time proportional to what moved.

    From `caches[cache]` on: window (absolute indices), origin of x (ms) and of y, then compensated
    sums of x, y, xy, xx. False if a value is not finite: then only the scan tells.
    """
    first, until = int(caches[cache]) - base, int(caches[cache + 1]) - base
    origin_x, origin_y = caches[cache + 2], caches[cache + 3]
    sum_x, rest_x, sum_y, rest_y = (
        caches[cache + 4],
        caches[cache + 5],
        caches[cache + 6],
        caches[cache + 7],
    )
    sum_xy, rest_xy, sum_xx, rest_xx = (
        caches[cache + 8],
        caches[cache + 9],
        caches[cache + 10],
        caches[cache + 11],
    )
    length = numbers[at + end - 1] - numbers[at + low]
    if not (start <= first <= low < until <= end and numbers[at + low] - origin_x <= 2 * length):
        first = until = low
        origin_x, origin_y = float(numbers[at + low]), values[here + low * step]
        sum_x = rest_x = sum_y = rest_y = sum_xy = rest_xy = sum_xx = rest_xx = 0.0
    caches[cache + 1] = -1.0
    for k in range((low - first) + (end - until)):
        leaving = k < low - first
        i = first + k if leaving else until + k - (low - first)
        x, y = numbers[at + i] - origin_x, values[here + i * step] - origin_y
        if not np.isfinite(y):
            return False, 0.0, 0.0
        xy, xx = x * y, x * x
        if leaving:
            x, y, xy, xx = -x, -y, -xy, -xx
        new = sum_x + x
        rest_x += _error_of_sum(sum_x, x, new)
        sum_x = new
        new = sum_y + y
        rest_y += _error_of_sum(sum_y, y, new)
        sum_y = new
        new = sum_xy + xy
        rest_xy += _error_of_sum(sum_xy, xy, new)
        sum_xy = new
        new = sum_xx + xx
        rest_xx += _error_of_sum(sum_xx, xx, new)
        sum_xx = new
    caches[cache], caches[cache + 1] = base + low, base + end
    caches[cache + 2], caches[cache + 3] = origin_x, origin_y
    caches[cache + 4], caches[cache + 5], caches[cache + 6], caches[cache + 7] = (
        sum_x,
        rest_x,
        sum_y,
        rest_y,
    )
    caches[cache + 8], caches[cache + 9], caches[cache + 10], caches[cache + 11] = (
        sum_xy,
        rest_xy,
        sum_xx,
        rest_xx,
    )
    n = float(end - low)
    x, y = (sum_x + rest_x) / n, (sum_y + rest_y) / n
    slope = ((sum_xy + rest_xy) / n - x * y) / ((sum_xx + rest_xx) / n - x * x)
    return True, slope * 1000.0, origin_y + y + slope * ((origin_ms - origin_x) - x)


@compiled
def regression(
    function: int,
    here: int,
    step: int,
    at: int,
    low: int,
    end: int,
    base: int,
    start: int,
    smooth: bool,
    constant: bool,
    time_ms: int,
    parameter: float,
    numbers: IntArray,
    values: FloatArray,
    caches: FloatArray,
    cache: int,
) -> float:
    """`deriv` or `predict_linear` of at least two samples; `smooth`: without gaps."""
    origin = numbers[at + low] if function == DERIV else time_ms
    known, slope, value = False, 0.0, 0.0
    if smooth and constant and np.isfinite(values[here + low * step]):
        known, value = True, values[here + low * step]
    elif smooth and end - low > _SCAN_LIMIT:
        known, slope, value = _running_regression(
            numbers, values, here, step, at, low, end, base, start, origin, caches, cache
        )
    if not known:
        slope, value = _scan_regression(numbers, values, here, step, at, low, end, origin)
    return slope if function == DERIV else slope * parameter + value
