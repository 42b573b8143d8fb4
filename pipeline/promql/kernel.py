"""The compiled loop: append frames to the windows, and evaluate programs after each.

One file, because numba's cache notices changes only of the file that holds the kernel. What the
integers in `code` mean is in `pipeline.promql.binding`, what those in `blocks` and `maps` mean in
`pipeline.promql.windows`. The window functions follow prometheus/promql/functions.go.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.jit import compiled
from pipeline.model import ABSENT_BITS, STALE_BITS, FloatArray, IntArray
from pipeline.promql.plan import LOOKBACK_MS

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]
FlagArray = npt.NDArray[np.bool_]
CodeArray = npt.NDArray[np.uint8]


# Columns of the jobs table: one frame to append, one schedule to evaluate, or both.
JOB_FRAME, JOB_TIME, JOB_MAP, JOB_VALUES, JOB_COLUMNS, JOB_CODE, JOB_CACHE, JOB_SCHEDULE = range(8)
JOB_INSTANCE, JOB_DATA = 8, 9
JOB_WIDTH = 10

# Columns of the blocks table.
TIMES_AT, VALUES_AT, CAPACITY, START, COUNT, ROWS, MARKS_AT, HISTORY, BASE = range(9)
BLOCK_WIDTH = 9

# Marks of a series: the newest absolute index where a series had a gap, fell, changed.
GAP, FALL, CHANGE = range(3)
MARKS = 3

# Layout of an operation, relative to the operation's place in `code`.
OPCODE, OUT, SIZE, DEPENDENCIES, DEPENDENCY_COUNT, A0, A1, A2, A3, A4, A5, A6 = range(12)
OPERATION_WIDTH = 12

# Operations.
(OP_NUMBER, OP_NOW, OP_SELECT, OP_RANGE, OP_ELEMENTWISE, OP_BINARY, OP_PAIRS, OP_AND, OP_OR,
 OP_UNLESS, OP_AGGREGATE, OP_ABSENT, OP_SCALAR, OP_UNIQUE, OP_MERGE) = range(15)  # fmt: skip

# Functions over a window.
(RATE, INCREASE, DELTA, IRATE, IDELTA, DERIV, PREDICT_LINEAR, CHANGES, RESETS, MIN_OVER_TIME,
 MAX_OVER_TIME, SUM_OVER_TIME, AVG_OVER_TIME, COUNT_OVER_TIME, LAST_OVER_TIME, PRESENT_OVER_TIME,
 STDDEV_OVER_TIME, STDVAR_OVER_TIME) = range(18)  # fmt: skip

# Functions of one value.
(NEGATE, ABS, CEIL, FLOOR, SQRT, EXP, LN, LOG2, LOG10, SGN, ROUND, CLAMP, CLAMP_MIN,
 CLAMP_MAX) = range(14)  # fmt: skip

# Operators; from EQ on they compare.
ADD, SUB, MUL, DIV, MOD, POW, ATAN2, EQ, NE, GT, LT, GE, LE = range(13)
AS_BOOL, SCALAR_LEFT, SCALAR_RIGHT, KEEP_RIGHT = 1, 2, 4, 8

# Aggregations.
SUM, AVG, MIN, MAX, COUNT_ROWS, GROUP, STDDEV, STDVAR = range(8)

# Errors of an evaluation; of several the highest is told.
ERROR_SAME_LABELS, ERROR_MANY_TO_MANY, ERROR_DUPLICATE_MATCH = 1, 2, 3

CACHE_WIDTH = 12
"""Numbers kept for a window whose result is carried from one evaluation to the next."""
_SCAN_LIMIT = 256
"""Regressions over more samples than this use running sums instead of Prometheus' own order."""
_KEEP_SAMPLES = 4


@compiled
def _is_gap(bits: int | np.int64) -> bool:
    return bits in (ABSENT_BITS, STALE_BITS)


@compiled
def _kahan(increment: float, total: float, rest: float) -> tuple[float, float]:
    """Neumaier's compensated sum, as kahanSumInc in prometheus/promql/functions.go."""
    new = total + increment
    if np.isinf(new):
        return new, 0.0
    if abs(total) >= abs(increment):
        return new, rest + ((total - new) + increment)
    return new, rest + ((increment - new) + total)


@compiled
def _make_room(block: IntArray, numbers: IntArray, time_ms: int) -> bool:
    """Forget what no window needs, if the block is full; false if it has to grow."""
    start, count, capacity = block[START], block[COUNT], block[CAPACITY]
    if start + count < capacity:
        return True
    horizon = time_ms - block[HISTORY]
    at = block[TIMES_AT]
    while count > _KEEP_SAMPLES and numbers[at + start] < horizon:
        start += 1
        count -= 1
    if 4 * count > 3 * capacity:
        return False
    for i in range(count):
        numbers[at + i] = numbers[at + start + i]
    at, skipped = block[VALUES_AT], start * block[ROWS]
    for i in range(count * block[ROWS]):
        numbers[at + i] = numbers[at + skipped + i]
    block[BASE] += start
    block[START] = 0
    block[COUNT] = count
    return True


@compiled
def _append(  # noqa: C901  one loop over what a column can be
    job: IntArray,
    maps: Int32Array,
    blocks: IntArray,
    numbers: IntArray,
    values: FloatArray,
    frame_bits: IntArray,
    scores: Float32Array,
) -> int:
    """Append a frame to its target's blocks; -1, or the block that has to grow first."""
    time_ms, columns, source = job[JOB_TIME], job[JOB_COLUMNS], job[JOB_VALUES]
    at = job[JOB_MAP]
    block_count = maps[at]
    cursor = at + 1
    for _ in range(block_count):
        block = blocks[maps[cursor]]
        if not _make_room(block, numbers, time_ms):
            return int(maps[cursor])
        cursor += 1 + block[ROWS]
    cursor = at + 1
    for _ in range(block_count):
        block = blocks[maps[cursor]]
        position = block[START] + block[COUNT]
        index = block[BASE] + position
        numbers[block[TIMES_AT] + position] = time_ms
        rows, mark = block[ROWS], block[MARKS_AT]
        here = block[VALUES_AT] + position * rows
        has_previous = block[COUNT] > 0
        for row in range(rows):
            column = maps[cursor + 1 + row]
            if column < 0:
                bits = np.int64(ABSENT_BITS)
            elif column < columns:
                bits = frame_bits[source + column]
            else:
                bits = frame_bits[source + column - columns]
                if not _is_gap(bits):
                    score = scores[source + column - columns] if len(scores) else np.float32(np.nan)
                    values[here] = score
                    bits = np.int64(ABSENT_BITS) if np.isnan(score) else numbers[here]
            numbers[here] = bits
            if _is_gap(bits):
                numbers[mark + GAP] = index
            elif has_previous:
                before = numbers[here - rows]
                if before != bits and not _is_gap(before):
                    new, old = values[here], values[here - rows]
                    if new < old:
                        numbers[mark + FALL] = index
                    if new != old and not (np.isnan(new) and np.isnan(old)):
                        numbers[mark + CHANGE] = index
            here += 1
            mark += MARKS
        block[COUNT] += 1
        cursor += 1 + rows
    return -1


@compiled
def _newest(block: IntArray, numbers: IntArray, time_ms: int) -> int:
    """Position after the newest sample that is not younger than `time_ms`."""
    at = block[TIMES_AT]
    end = int(block[START] + block[COUNT])
    while end > block[START] and numbers[at + end - 1] > time_ms:
        end -= 1
    return end


@compiled
def _oldest(block: IntArray, numbers: IntArray, end: int, time_ms: int, open_left: bool) -> int:
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


@compiled
def _select(
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
            end = _newest(blocks[block], numbers, instant)
            start = _oldest(blocks[block], numbers, end, limit, False)
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
        if _is_gap(numbers[here + i * step]):
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
        if _is_gap(numbers[here + i * step]):
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
        if _is_gap(numbers[here + i * step]):
            continue
        value = values[here + i * step]
        count += 1
        if function == AVG_OVER_TIME and not incremental:
            new, new_rest = _kahan(value, total, rest)
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
            mean, rest = _kahan(value / count - (mean + rest) / count, mean, rest)
        else:
            total, rest = _kahan(value, total, rest)
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
        if _is_gap(numbers[here + i * step]):
            continue
        count += 1.0
        delta = values[here + i * step] - (mean + rest_mean)
        mean, rest_mean = _kahan(delta / count, mean, rest_mean)
        aux, rest_aux = _kahan(
            delta * (values[here + i * step] - (mean + rest_mean)), aux, rest_aux
        )
    return (aux + rest_aux) / count


@compiled
def _count_events(
    function: int, numbers: IntArray, values: FloatArray, here: int, step: int, low: int, end: int
) -> float:
    """How often the series fell (RESETS) or changed."""
    events = 0.0
    previous = values[here + low * step]
    for i in range(low + 1, end):
        if _is_gap(numbers[here + i * step]):
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
        if _is_gap(numbers[here + i * step]):
            continue
        if values[here + i * step] < previous:
            result += previous
        previous = values[here + i * step]
    return float(result)


@compiled
def _trimmed(numbers: IntArray, here: int, step: int, low: int, end: int) -> tuple[int, int, int]:
    """The part of [low, end) from the first sample to the last, and how many there are."""
    while low < end and _is_gap(numbers[here + low * step]):
        low += 1
    while end > low and _is_gap(numbers[here + (end - 1) * step]):
        end -= 1
    count = 0
    for i in range(low, end):
        if not _is_gap(numbers[here + i * step]):
            count += 1
    return low, end, count


@compiled
def _regression(
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
    while _is_gap(numbers[here + before * step]):
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
def _range(
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
            end = _newest(blocks[block], numbers, end_ms)
            low = _oldest(blocks[block], numbers, end, start_ms, version3)
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
            out[to] = _regression(
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


@compiled
def _elementwise(  # noqa: C901  one branch for each function
    code: Int32Array, op: int, out: FloatArray, has: FlagArray
) -> None:
    function, source, to = code[op + A0], code[op + A1], code[op + OUT]
    p = out[code[op + A2]] if code[op + A2] >= 0 else 1.0
    q = out[code[op + A3]] if code[op + A3] >= 0 else 0.0
    for i in range(code[op + SIZE]):
        has[to + i] = has[source + i] and not (function == CLAMP and q < p)
        if not has[to + i]:
            continue
        v = out[source + i]
        if function == NEGATE:
            v = -v
        elif function == ABS:
            v = abs(v)
        elif function == CEIL:
            v = np.ceil(v)
        elif function == FLOOR:
            v = np.floor(v)
        elif function == SQRT:
            v = np.sqrt(v)
        elif function == EXP:
            v = np.exp(v)
        elif function == LN:
            v = np.log(v)
        elif function == LOG2:
            v = np.log2(v)
        elif function == LOG10:
            v = np.log10(v)
        elif function == SGN:
            v = np.sign(v)
        elif function == ROUND:
            inverse = 1.0 / p
            v = np.floor(v * inverse + 0.5) / inverse
        elif function == CLAMP:
            v = np.maximum(p, np.minimum(q, v))
        elif function == CLAMP_MIN:
            v = np.maximum(p, v)
        else:
            v = np.minimum(p, v)
        out[to + i] = v


@compiled
def _operate(  # noqa: C901  one branch for each operator
    operator: int, left: float, right: float
) -> tuple[bool, float]:
    """Whether a comparison holds (true for arithmetic), and the result."""
    if operator == ADD:
        return True, left + right
    if operator == SUB:
        return True, left - right
    if operator == MUL:
        return True, left * right
    if operator == DIV:
        return True, left / right
    if operator == MOD:
        return True, np.fmod(left, right)
    if operator == POW:
        return True, np.power(left, right)
    if operator == ATAN2:
        return True, np.arctan2(left, right)
    if operator == EQ:
        return left == right, left
    if operator == NE:
        return left != right, left
    if operator == GT:
        return left > right, left
    if operator == LT:
        return left < right, left
    if operator == GE:
        return left >= right, left
    return left <= right, left


@compiled
def _with_scalar(code: Int32Array, op: int, out: FloatArray, has: FlagArray) -> None:
    """An operator with a scalar on one side or both: A0 operator, A1 flags, A2 left, A3 right."""
    operator, flags, to = code[op + A0], code[op + A1], code[op + OUT]
    left, right = code[op + A2], code[op + A3]
    left_step = 0 if flags & SCALAR_LEFT else 1
    right_step = 0 if flags & SCALAR_RIGHT else 1
    for i in range(code[op + SIZE]):
        a, b = left + left_step * i, right + right_step * i
        has[to + i] = has[a] and has[b]
        if not has[to + i]:
            continue
        holds, value = _operate(operator, out[a], out[b])
        if flags & AS_BOOL:
            value = 1.0 if holds else 0.0
        else:
            has[to + i] = holds
        out[to + i] = out[b] if flags & KEEP_RIGHT else value


@compiled
def _by_pairs(code: Int32Array, op: int, code_at: int, out: FloatArray, has: FlagArray) -> None:
    """An operator between vectors: a row for each pair of rows listed at A4."""
    operator, flags, to = code[op + A0], code[op + A1], code[op + OUT]
    left, right, pairs = code[op + A2], code[op + A3], code_at + code[op + A4]
    for i in range(code[op + SIZE]):
        a, b = left + code[pairs + 2 * i], right + code[pairs + 2 * i + 1]
        has[to + i] = has[a] and has[b]
        if not has[to + i]:
            continue
        holds, value = _operate(operator, out[a], out[b])
        if flags & AS_BOOL:
            value = 1.0 if holds else 0.0
        else:
            has[to + i] = holds
        out[to + i] = value


@compiled
def _set_operation(
    code: Int32Array, op: int, code_at: int, out: FloatArray, has: FlagArray, seen: FlagArray
) -> None:
    """`and`, `or`, `unless`: A4 lists (row, group) of the left side, then of the right."""
    opcode, to = code[op + OPCODE], code[op + OUT]
    left, right = code[op + A0], code[op + A1]
    left_count, right_count, groups = code[op + A2], code[op + A3], code[op + A5]
    lefts = code_at + code[op + A4]
    rights = lefts + 2 * left_count
    seen[:groups] = False
    if opcode == OP_OR:
        for i in range(left_count):
            row = left + code[lefts + 2 * i]
            has[to + i], out[to + i] = has[row], out[row]
            if has[row]:
                seen[code[lefts + 2 * i + 1]] = True
        for i in range(right_count):
            row, here = right + code[rights + 2 * i], to + left_count + i
            has[here], out[here] = has[row] and not seen[code[rights + 2 * i + 1]], out[row]
        return
    for i in range(right_count):
        if has[right + code[rights + 2 * i]]:
            seen[code[rights + 2 * i + 1]] = True
    wanted = opcode == OP_AND
    for i in range(left_count):
        row = left + code[lefts + 2 * i]
        has[to + i] = has[row] and seen[code[lefts + 2 * i + 1]] == wanted
        out[to + i] = out[row]


@compiled
def _aggregate(  # noqa: C901  one branch for each aggregation
    code: Int32Array,
    op: int,
    code_at: int,
    version3: bool,
    out: FloatArray,
    has: FlagArray,
    sums: FloatArray,
) -> None:
    """A0 operator, A1 source, A2 rows of the source, A3 list of each row's group.

    `sums` (groups, 3): compensation of a sum, mean, count.
    """
    operator, source, groups, to = (
        code[op + A0],
        code[op + A1],
        code_at + code[op + A3],
        code[op + OUT],
    )
    for i in range(code[op + SIZE]):
        has[to + i], out[to + i] = False, 0.0
        sums[i, 0] = sums[i, 1] = sums[i, 2] = 0.0
    for i in range(code[op + A2]):
        if not has[source + i]:
            continue
        group, value = code[groups + i], out[source + i]
        here = to + group
        fresh = not has[here]
        has[here] = True
        sums[group, 2] += 1.0
        if operator == SUM:
            out[here], rest = _kahan(value, out[here], sums[group, 0])
            sums[group, 0] = rest if version3 else 0.0
        elif operator == AVG:
            mean = sums[group, 1]
            if np.isinf(mean) and (
                np.isfinite(value) or (np.isinf(value) and (mean > 0) == (value > 0))
            ):
                continue
            sums[group, 1], sums[group, 0] = _kahan(
                value / sums[group, 2] - (mean + sums[group, 0]) / sums[group, 2],
                mean,
                sums[group, 0],
            )
        elif operator == MIN:
            if fresh or np.isnan(out[here]) or value < out[here]:
                out[here] = value
        elif operator == MAX:
            if fresh or np.isnan(out[here]) or value > out[here]:
                out[here] = value
        elif fresh and not version3 and operator in (STDDEV, STDVAR):
            # Of a single infinity, Prometheus 2 says 0; 3 says NaN.
            sums[group, 1] = value
        elif operator in (STDDEV, STDVAR):
            delta = value - sums[group, 1]
            sums[group, 1] += delta / sums[group, 2]
            out[here] += delta * (value - sums[group, 1])
    for i in range(code[op + SIZE]):
        here = to + i
        count = sums[i, 2]
        if count == 0:
            continue
        if operator == SUM:
            out[here] += sums[i, 0]
        elif operator == AVG:
            out[here] = sums[i, 1] + sums[i, 0]
        elif operator == COUNT_ROWS:
            out[here] = count
        elif operator == GROUP:
            out[here] = 1.0
        elif operator == STDVAR:
            out[here] /= count
        elif operator == STDDEV:
            out[here] = np.sqrt(out[here] / count)


@compiled
def _several_present(code: Int32Array, op: int, code_at: int, has: FlagArray) -> bool:
    """Whether a group of rows that must be alone isn't. A0 source, A1 groups: count, rows …

    A2, A3: registers of which one must be present for it to matter (A2 < 0: it always does).
    """
    if code[op + A2] >= 0:
        other = code[op + A2]
        if not np.any(has[other : other + code[op + A3]]):
            return False
    cursor = code_at + code[op + A1]
    for _ in range(code[op + A4]):
        size = code[cursor]
        present = 0
        for k in range(size):
            if has[code[op + A0] + code[cursor + 1 + k]]:
                present += 1
        if present > 1:
            return True
        cursor += 1 + size
    return False


@compiled
def _merge(code: Int32Array, op: int, code_at: int, out: FloatArray, has: FlagArray) -> bool:
    """One row for each label set; whether several rows with one label set are present."""
    cursor = code_at + code[op + A1]
    several = False
    for i in range(code[op + SIZE]):
        to = code[op + OUT] + i
        has[to] = False
        for k in range(code[cursor]):
            row = code[op + A0] + code[cursor + 1 + k]
            if has[row]:
                several = several or has[to]
                has[to], out[to] = True, out[row]
        cursor += 1 + code[cursor]
    return several


@compiled
def _collapse(code: Int32Array, op: int, out: FloatArray, has: FlagArray) -> None:
    """`absent` and `scalar`: one element from all rows. A0 source, A1 its rows."""
    source, to = code[op + A0], code[op + OUT]
    present, newest = 0, np.nan
    for i in range(code[op + A1]):
        if has[source + i]:
            present += 1
            newest = out[source + i]
    if code[op + OPCODE] == OP_ABSENT:
        has[to], out[to] = present == 0, 1.0
    else:
        has[to], out[to] = True, newest if present == 1 else np.nan


@compiled
def _evaluate(  # noqa: C901  one branch for each operation
    job: IntArray,
    version3: bool,
    code: Int32Array,
    constants: FloatArray,
    maps: Int32Array,
    blocks: IntArray,
    numbers: IntArray,
    values: FloatArray,
    caches: FloatArray,
    out: FloatArray,
    has: FlagArray,
    errors: CodeArray,
    seen: FlagArray,
    sums: FloatArray,
    spans: IntArray,
    slots: Int32Array,
    present: FlagArray,
    results: FloatArray,
    cursor: IntArray,
) -> None:
    """Run a schedule: counts of operations and roots, the operations, (plan, operation, slots) …"""
    code_at, time_ms = job[JOB_CODE], job[JOB_TIME]
    schedule, instance_at = job[JOB_SCHEDULE], job[JOB_DATA]
    operations, roots = code[schedule], code[schedule + 1]
    for k in range(operations):
        number = code[schedule + 2 + k]
        op = code_at + number * OPERATION_WIDTH
        error = 0
        for d in range(code[op + DEPENDENCY_COUNT]):
            error = max(error, errors[code[code_at + code[op + DEPENDENCIES] + d]])
        errors[number] = error
        if error > 0:
            continue
        opcode, to = code[op + OPCODE], code[op + OUT]
        if opcode == OP_SELECT:
            offset_ms = int(constants[code[op + A1]])
            _select(code, op, code_at, instance_at, maps, time_ms, offset_ms, version3, blocks,
                    numbers, values, out, has)  # fmt: skip
        elif opcode == OP_RANGE:
            range_ms, offset_ms = int(constants[code[op + A2]]), int(constants[code[op + A3]])
            _range(code, op, code_at, instance_at, maps, job[JOB_CACHE], time_ms, range_ms,
                   offset_ms, version3, blocks, numbers, values, caches, out, has)  # fmt: skip
        elif opcode == OP_BINARY:
            _with_scalar(code, op, out, has)
        elif opcode == OP_PAIRS:
            _by_pairs(code, op, code_at, out, has)
        elif opcode in (OP_AND, OP_OR, OP_UNLESS):
            _set_operation(code, op, code_at, out, has, seen)
        elif opcode == OP_AGGREGATE:
            _aggregate(code, op, code_at, version3, out, has, sums)
        elif opcode == OP_ELEMENTWISE:
            _elementwise(code, op, out, has)
        elif opcode == OP_NUMBER:
            has[to], out[to] = True, constants[code[op + A0]]
        elif opcode == OP_NOW:
            has[to], out[to] = True, time_ms / 1000.0
        elif opcode == OP_UNIQUE:
            if _several_present(code, op, code_at, has):
                errors[number] = code[op + A5]
        elif opcode == OP_MERGE:
            if _merge(code, op, code_at, out, has):
                errors[number] = ERROR_SAME_LABELS
        else:
            _collapse(code, op, out, has)
    for k in range(roots):
        root = schedule + 2 + operations + 3 * k
        number = code[root + 1]
        op = code_at + number * OPERATION_WIDTH
        size = code[op + SIZE] if errors[number] == 0 else 0
        span = cursor[0]
        spans[span, 0], spans[span, 1], spans[span, 2] = (
            job[JOB_FRAME],
            job[JOB_INSTANCE],
            code[root],
        )
        spans[span, 3], spans[span, 4], spans[span, 5] = time_ms, cursor[1], size
        spans[span, 6] = errors[number]
        for i in range(size):
            row, to = code[op + OUT] + i, cursor[1] + i
            slots[to] = maps[instance_at + code[root + 2] + i]
            present[to], results[to] = has[row], out[row]
        cursor[0] += 1
        cursor[1] += size


@compiled
def run(
    jobs: IntArray,
    cursor: IntArray,
    version3: bool,
    frame_bits: IntArray,
    scores: Float32Array,
    maps: Int32Array,
    blocks: IntArray,
    numbers: IntArray,
    values: FloatArray,
    code: Int32Array,
    constants: FloatArray,
    caches: FloatArray,
    out: FloatArray,
    has: FlagArray,
    errors: CodeArray,
    seen: FlagArray,
    sums: FloatArray,
    spans: IntArray,
    slots: Int32Array,
    present: FlagArray,
    results: FloatArray,
) -> int:
    """Do the jobs from `cursor[2]` on; -1 when all are done, else the block that has to grow.

    `cursor`: spans and rows written, jobs done. Called again with the same arguments (and the
    tables as they are after growing), it goes on where it stopped.
    """
    while cursor[2] < len(jobs):
        job = jobs[cursor[2]]
        if job[JOB_MAP] >= 0:
            full = _append(job, maps, blocks, numbers, values, frame_bits,
                           scores)  # fmt: skip
            if full >= 0:
                return full
        if job[JOB_SCHEDULE] >= 0:
            _evaluate(job, version3, code, constants, maps, blocks, numbers, values, caches,
                      out, has, errors, seen, sums, spans, slots, present, results,
                      cursor)  # fmt: skip
        cursor[2] += 1
    return -1
