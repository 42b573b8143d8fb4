"""Operators, functions and aggregations over the elements of vectors."""

from __future__ import annotations

import numpy as np

from pipeline.jit import compiled
from pipeline.model import FloatArray
from pipeline.promql.kernel.layout import (
    A0,
    A1,
    A2,
    A3,
    A4,
    A5,
    ABS,
    ADD,
    AS_BOOL,
    ATAN2,
    AVG,
    CEIL,
    CLAMP,
    CLAMP_MIN,
    COUNT_ROWS,
    DIV,
    EQ,
    EXP,
    FLOOR,
    GE,
    GROUP,
    GT,
    KEEP_RIGHT,
    LN,
    LOG2,
    LOG10,
    LT,
    MAX,
    MIN,
    MOD,
    MUL,
    NE,
    NEGATE,
    OP_ABSENT,
    OP_AND,
    OP_OR,
    OPCODE,
    OUT,
    POW,
    ROUND,
    SCALAR_LEFT,
    SCALAR_RIGHT,
    SGN,
    SIZE,
    SQRT,
    STDDEV,
    STDVAR,
    SUB,
    SUM,
    FlagArray,
    Int32Array,
)
from pipeline.promql.kernel.samples import kahan


@compiled
def elementwise(  # noqa: C901  one branch for each function
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
def with_scalar(code: Int32Array, op: int, out: FloatArray, has: FlagArray) -> None:
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
def by_pairs(code: Int32Array, op: int, code_at: int, out: FloatArray, has: FlagArray) -> None:
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
def set_operation(
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
def aggregate(  # noqa: C901  one branch for each aggregation
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
            out[here], rest = kahan(value, out[here], sums[group, 0])
            sums[group, 0] = rest if version3 else 0.0
        elif operator == AVG:
            mean = sums[group, 1]
            if np.isinf(mean) and (
                np.isfinite(value) or (np.isinf(value) and (mean > 0) == (value > 0))
            ):
                continue
            sums[group, 1], sums[group, 0] = kahan(
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
def several_present(code: Int32Array, op: int, code_at: int, has: FlagArray) -> bool:
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
def merge(code: Int32Array, op: int, code_at: int, out: FloatArray, has: FlagArray) -> bool:
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
def collapse(code: Int32Array, op: int, out: FloatArray, has: FlagArray) -> None:
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
