"""Appending a frame to the blocks of its target."""

from __future__ import annotations

import numpy as np

from pipeline.jit import compiled
from pipeline.model import ABSENT_BITS, FloatArray, IntArray
from pipeline.promql.kernel.layout import (
    BASE,
    CAPACITY,
    CHANGE,
    COUNT,
    FALL,
    GAP,
    HISTORY,
    JOB_COLUMNS,
    JOB_MAP,
    JOB_TIME,
    JOB_VALUES,
    MARKS,
    MARKS_AT,
    ROWS,
    START,
    TIMES_AT,
    VALUES_AT,
    Float32Array,
    Int32Array,
)
from pipeline.promql.kernel.samples import is_gap

_KEEP_SAMPLES = 4


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
def append(  # noqa: C901  one loop over what a column can be
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
                if not is_gap(bits):
                    score = scores[source + column - columns] if len(scores) else np.float32(np.nan)
                    values[here] = score
                    bits = np.int64(ABSENT_BITS) if np.isnan(score) else numbers[here]
            numbers[here] = bits
            if is_gap(bits):
                numbers[mark + GAP] = index
            elif has_previous:
                before = numbers[here - rows]
                if before != bits and not is_gap(before):
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
