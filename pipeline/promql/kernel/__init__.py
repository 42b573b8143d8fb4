"""The compiled loop: append frames to the windows, and evaluate programs after each.

What the integers in `code` mean is in `pipeline.promql.binding`, what those in `blocks` and `maps`
mean in `pipeline.promql.windows`; `layout` names their places.
"""

from __future__ import annotations

from pipeline.jit import compiled
from pipeline.model import FloatArray, IntArray
from pipeline.promql.kernel.appending import append
from pipeline.promql.kernel.layout import *  # noqa: F403 - the names of its places go with it
from pipeline.promql.kernel.layout import (
    A0,
    A1,
    A2,
    A3,
    A5,
    DEPENDENCIES,
    DEPENDENCY_COUNT,
    ERROR_SAME_LABELS,
    JOB_CACHE,
    JOB_CODE,
    JOB_DATA,
    JOB_FRAME,
    JOB_INSTANCE,
    JOB_MAP,
    JOB_SCHEDULE,
    JOB_TIME,
    OP_AGGREGATE,
    OP_AND,
    OP_BINARY,
    OP_ELEMENTWISE,
    OP_MERGE,
    OP_NOW,
    OP_NUMBER,
    OP_OR,
    OP_PAIRS,
    OP_RANGE,
    OP_SELECT,
    OP_UNIQUE,
    OP_UNLESS,
    OPCODE,
    OPERATION_WIDTH,
    OUT,
    SIZE,
    CodeArray,
    FlagArray,
    Float32Array,
    Int32Array,
)
from pipeline.promql.kernel.ranges import range_function, select
from pipeline.promql.kernel.vectors import (
    aggregate,
    by_pairs,
    collapse,
    elementwise,
    merge,
    set_operation,
    several_present,
    with_scalar,
)


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
            select(code, op, code_at, instance_at, maps, time_ms, offset_ms, version3, blocks,
                    numbers, values, out, has)  # fmt: skip
        elif opcode == OP_RANGE:
            range_ms, offset_ms = int(constants[code[op + A2]]), int(constants[code[op + A3]])
            range_function(code, op, code_at, instance_at, maps, job[JOB_CACHE], time_ms, range_ms,
                   offset_ms, version3, blocks, numbers, values, caches, out, has)  # fmt: skip
        elif opcode == OP_BINARY:
            with_scalar(code, op, out, has)
        elif opcode == OP_PAIRS:
            by_pairs(code, op, code_at, out, has)
        elif opcode in (OP_AND, OP_OR, OP_UNLESS):
            set_operation(code, op, code_at, out, has, seen)
        elif opcode == OP_AGGREGATE:
            aggregate(code, op, code_at, version3, out, has, sums)
        elif opcode == OP_ELEMENTWISE:
            elementwise(code, op, out, has)
        elif opcode == OP_NUMBER:
            has[to], out[to] = True, constants[code[op + A0]]
        elif opcode == OP_NOW:
            has[to], out[to] = True, time_ms / 1000.0
        elif opcode == OP_UNIQUE:
            if several_present(code, op, code_at, has):
                errors[number] = code[op + A5]
        elif opcode == OP_MERGE:
            if merge(code, op, code_at, out, has):
                errors[number] = ERROR_SAME_LABELS
        else:
            collapse(code, op, out, has)
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
            full = append(job, maps, blocks, numbers, values, frame_bits,
                           scores)  # fmt: skip
            if full >= 0:
                return full
        if job[JOB_SCHEDULE] >= 0:
            _evaluate(job, version3, code, constants, maps, blocks, numbers, values, caches,
                      out, has, errors, seen, sums, spans, slots, present, results,
                      cursor)  # fmt: skip
        cursor[2] += 1
    return -1
