"""What selectors and window functions read; they follow prometheus/promql/functions.go."""

from __future__ import annotations

import numpy as np

from pipeline.jit import compiled
from pipeline.model import ABSENT_BITS, STALE_BITS, FloatArray, IntArray
from pipeline.promql.kernel.layout import (
    A0,
    A1,
    A4,
    A5,
    A6,
    AVG_OVER_TIME,
    BASE,
    CHANGE,
    COUNT_OVER_TIME,
    DELTA,
    FALL,
    GAP,
    IDELTA,
    LAST_OVER_TIME,
    MARKS,
    MARKS_AT,
    MAX_OVER_TIME,
    OUT,
    PREDICT_LINEAR,
    PRESENT_OVER_TIME,
    RATE,
    RESETS,
    ROWS,
    SIZE,
    START,
    STDDEV_OVER_TIME,
    SUM_OVER_TIME,
    TIMES_AT,
    VALUES_AT,
    FlagArray,
    Int32Array,
)
from pipeline.promql.kernel.regression import regression
from pipeline.promql.kernel.samples import is_gap, kahan, newest, oldest
from pipeline.promql.plan import LOOKBACK_MS


@compiled
def select(
    code: Int32Array,
    op: int,
    code_at: int,
    instance_at: int,
    maps: Int32Array,
    time_ms: int,
    offset_ms: int,
    open_left: bool,
    blocks: IntArray,
    numbers: IntArray,
    values: FloatArray,
    out: FloatArray,
    has: FlagArray,
) -> None:
    instant = time_ms - offset_ms
    limit = instant - LOOKBACK_MS + (1 if open_left else 0)
    refs = code_at + code[op + A0]
    local, block, start, end = -1, -1, 0, 0
    for i in range(code[op + SIZE]):
        if code[refs + 2 * i] != local:
            local = code[refs + 2 * i]
            block = maps[instance_at + local]
            end = newest(blocks[block], numbers, instant)
            start = oldest(blocks[block], numbers, end, limit, False)
        here = blocks[block, VALUES_AT] + code[refs + 2 * i + 1]
        rows = blocks[block, ROWS]
        position = end - 1
        while position >= start and numbers[here + position * rows] == ABSENT_BITS:
            position -= 1
        to = code[op + OUT] + i
        has[to] = position >= start and numbers[here + position * rows] != STALE_BITS
        if has[to]:
            out[to] = values[here + position * rows]


@compiled
def _extrapolated(
    result: float,
    first: float,
    count: int,
    first_ms: int,
    last_ms: int,
    start_ms: int,
    end_ms: int,
    function: int,
    seconds: float,
    version3: bool,
) -> float:
    to_start = (first_ms - start_ms) / 1000.0
    to_end = (end_ms - last_ms) / 1000.0
    sampled = (last_ms - first_ms) / 1000.0
    average = sampled / (count - 1)
    threshold = average * 1.1
    if version3:
        if to_start >= threshold:
            to_start = average / 2
        if function != DELTA and result > 0 and first >= 0:
            to_start = min(to_start, sampled * (first / result))
        if to_end >= threshold:
            to_end = average / 2
        interval = sampled + to_start + to_end
    else:
        if function != DELTA and result > 0 and first >= 0:
            to_start = min(to_start, sampled * (first / result))
        interval = sampled + (to_start if to_start < threshold else average / 2)
        interval += to_end if to_end < threshold else average / 2
    factor = interval / sampled
    if function == RATE:
        factor /= seconds
    return result * factor


@compiled
def _extreme(
    numbers: IntArray,
    values: FloatArray,
    here: int,
    step: int,
    low: int,
    end: int,
    base: int,
    largest: bool,
    caches: FloatArray,
    cache: int,
) -> int:
    """Position of the smallest (largest) value of a window that begins and ends with a sample.

    From `caches[cache]` on: the last window and its answer, as absolute indices.
    """
    best, begin = low, low + 1
    newer = caches[cache + 1] <= base + end
    if newer and caches[cache] <= base + low <= caches[cache + 2]:
        best, begin = int(caches[cache + 2]) - base, int(caches[cache + 1]) - base
    for i in range(begin, end):
        if is_gap(numbers[here + i * step]):
            continue
        old, new = values[here + best * step], values[here + i * step]
        if np.isnan(old) or (new > old if largest else new < old):
            best = i
    if newer:
        caches[cache], caches[cache + 1] = base + low, base + end
        caches[cache + 2] = base + best
    return best


@compiled
def _sum_or_average(
    function: int,
    numbers: IntArray,
    values: FloatArray,
    here: int,
    step: int,
    low: int,
    end: int,
    version3: bool,
) -> float:
    total = rest = mean = 0.0
    count = 0
    incremental = function == AVG_OVER_TIME and not version3
    for i in range(low, end):
        if is_gap(numbers[here + i * step]):
            continue
        value = values[here + i * step]
        count += 1
        if function == AVG_OVER_TIME and not incremental:
            new, new_rest = kahan(value, total, rest)
            if count > 1 and np.isinf(new):
                incremental = True
                mean, rest = total / (count - 1), rest / (count - 1)
            else:
                total, rest = new, new_rest
                continue
        if incremental:
            if np.isinf(mean):
                same = np.isinf(value) and (mean > 0) == (value > 0)
                if same or np.isfinite(value):
                    continue
            mean, rest = kahan(value / count - (mean + rest) / count, mean, rest)
        else:
            total, rest = kahan(value, total, rest)
    if incremental:
        return mean if np.isinf(mean) else mean + rest
    if np.isinf(total):
        rest = 0.0
    return (total + rest) / count if function == AVG_OVER_TIME else total + rest


@compiled
def _variance(
    numbers: IntArray, values: FloatArray, here: int, step: int, low: int, end: int
) -> float:
    count = mean = rest_mean = aux = rest_aux = 0.0
    for i in range(low, end):
        if is_gap(numbers[here + i * step]):
            continue
        count += 1.0
        delta = values[here + i * step] - (mean + rest_mean)
        mean, rest_mean = kahan(delta / count, mean, rest_mean)
        aux, rest_aux = kahan(delta * (values[here + i * step] - (mean + rest_mean)), aux, rest_aux)
    return (aux + rest_aux) / count


@compiled
def _count_events(
    function: int, numbers: IntArray, values: FloatArray, here: int, step: int, low: int, end: int
) -> float:
    """How often the series fell (RESETS) or changed."""
    events = 0.0
    previous = values[here + low * step]
    for i in range(low + 1, end):
        if is_gap(numbers[here + i * step]):
            continue
        value = values[here + i * step]
        if function == RESETS:
            if value < previous:
                events += 1.0
        elif value != previous and not (np.isnan(value) and np.isnan(previous)):
            events += 1.0
        previous = value
    return events


@compiled
def _corrected(
    numbers: IntArray, values: FloatArray, here: int, step: int, first: int, end: int
) -> float:
    """Growth of a counter over [first, end), each reset counted from zero."""
    result = values[here + (end - 1) * step] - values[here + first * step]
    previous = values[here + first * step]
    for i in range(first + 1, end):
        if is_gap(numbers[here + i * step]):
            continue
        if values[here + i * step] < previous:
            result += previous
        previous = values[here + i * step]
    return float(result)


@compiled
def _trimmed(numbers: IntArray, here: int, step: int, low: int, end: int) -> tuple[int, int, int]:
    """The part of [low, end) from the first sample to the last, and how many there are."""
    while low < end and is_gap(numbers[here + low * step]):
        low += 1
    while end > low and is_gap(numbers[here + (end - 1) * step]):
        end -= 1
    count = 0
    for i in range(low, end):
        if not is_gap(numbers[here + i * step]):
            count += 1
    return low, end, count


@compiled
def _instant_change(
    function: int,
    numbers: IntArray,
    values: FloatArray,
    here: int,
    step: int,
    at: int,
    last: int,
) -> float:
    """`irate` or `idelta` up to `last`, which has a sample before it."""
    before = last - 1
    while is_gap(numbers[here + before * step]):
        before -= 1
    newest, previous = values[here + last * step], values[here + before * step]
    if function == IDELTA:
        return float(newest - previous)
    gained = newest if newest < previous else newest - previous
    return float(gained / ((numbers[at + last] - numbers[at + before]) / 1000.0))


@compiled
def _over_samples(
    function: int,
    numbers: IntArray,
    values: FloatArray,
    here: int,
    step: int,
    first: int,
    end: int,
    count: int,
    version3: bool,
) -> float:
    """The functions that treat a window as a set of samples; there is at least one."""
    if function == COUNT_OVER_TIME:
        return float(count)
    if function == LAST_OVER_TIME:
        return float(values[here + (end - 1) * step])
    if function == PRESENT_OVER_TIME:
        return 1.0
    if function in (SUM_OVER_TIME, AVG_OVER_TIME):
        return _sum_or_average(function, numbers, values, here, step, first, end, version3)
    variance = _variance(numbers, values, here, step, first, end)
    return float(np.sqrt(variance)) if function == STDDEV_OVER_TIME else variance


@compiled
def range_function(
    code: Int32Array,
    op: int,
    code_at: int,
    instance_at: int,
    maps: Int32Array,
    cache_at: int,
    time_ms: int,
    range_ms: int,
    offset_ms: int,
    version3: bool,
    blocks: IntArray,
    numbers: IntArray,
    values: FloatArray,
    caches: FloatArray,
    out: FloatArray,
    has: FlagArray,
) -> None:
    function = code[op + A0]
    end_ms = time_ms - offset_ms
    start_ms = end_ms - range_ms
    parameter = out[code[op + A4]] if code[op + A4] >= 0 else 0.0
    refs, width = code_at + code[op + A1], code[op + A6]
    local, block, low, end = -1, -1, 0, 0
    needed = 2 if function <= PREDICT_LINEAR else 1
    for i in range(code[op + SIZE]):
        row = code[refs + 2 * i + 1]
        if code[refs + 2 * i] != local:
            local = code[refs + 2 * i]
            block = maps[instance_at + local]
            end = newest(blocks[block], numbers, end_ms)
            low = oldest(blocks[block], numbers, end, start_ms, version3)
        to = code[op + OUT] + i
        here, step = blocks[block, VALUES_AT] + row, blocks[block, ROWS]
        at, base = blocks[block, TIMES_AT], blocks[block, BASE]
        mark = blocks[block, MARKS_AT] + MARKS * row
        cache = cache_at + code[op + A5] + width * i
        first, stop, count = low, end, end - low
        smooth = numbers[mark + GAP] < base + low
        if not smooth:
            first, stop, count = _trimmed(numbers, here, step, low, end)
        has[to] = count >= needed
        if not has[to]:
            continue
        rises = smooth and numbers[mark + FALL] <= base + low
        constant = smooth and numbers[mark + CHANGE] <= base + low
        if function <= DELTA:
            growth = values[here + (stop - 1) * step] - values[here + first * step]
            if function != DELTA and not rises:
                growth = _corrected(numbers, values, here, step, first, stop)
            out[to] = _extrapolated(
                growth, values[here + first * step], count, numbers[at + first],
                numbers[at + stop - 1], start_ms, end_ms, function, range_ms / 1000.0, version3,
            )  # fmt: skip
        elif function <= IDELTA:
            out[to] = _instant_change(function, numbers, values, here, step, at, stop - 1)
        elif function <= PREDICT_LINEAR:
            out[to] = regression(
                function, here, step, at, first, stop, base, blocks[block, START], smooth, constant,
                time_ms, parameter, numbers, values, caches, cache,
            )  # fmt: skip
        elif function <= RESETS:
            steady = rises if function == RESETS else constant
            out[to] = (
                0.0 if steady else _count_events(function, numbers, values, here, step, first, stop)
            )
        elif function <= MAX_OVER_TIME:
            largest = function == MAX_OVER_TIME
            best = _extreme(numbers, values, here, step, first, stop, base, largest, caches, cache)
            out[to] = values[here + best * step]
        else:
            out[to] = _over_samples(
                function, numbers, values, here, step, first, stop, count, version3
            )
