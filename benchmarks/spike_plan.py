"""A prototype of the rule evaluator, for its cost: 38 rules on a small register machine.

It is not the evaluator (that is `pipeline/promql`); it does the same work on the same memory:
selected series are appended to rings, and each frame time runs the whole program, with Prometheus'
extrapolation for rates, joins by position, grouped averages and the timers of `for`.
"""

from __future__ import annotations

import msgspec
import numpy as np

from pipeline.detect.protocol import FlagArray
from pipeline.jit import compiled
from pipeline.model import FloatArray, FrameBatch, IntArray

WINDOW_S = 300
RING = 512
WIDTH = 16
"""Series in one vector register."""
LENGTHS_MS = np.array([60_000, 120_000, 300_000], dtype=np.int64)

LOAD, RATE, DERIV, DIVIDE, MULTIPLY, ABOVE, BELOW, AND, UNLESS, AVERAGE, ALERT = range(11)


class Plan(msgspec.Struct, frozen=True, eq=False):
    """`program` int64 (n, 6): op, target register, a, b, width, constant's index.

    For LOAD, RATE and DERIV `a` is the first selected series, `b` the window's length.
    """

    program: IntArray
    constants: FloatArray
    columns: IntArray
    counter: FlagArray
    rules: int
    alerts: int

    @property
    def selected(self) -> int:
        return len(self.columns)


class _Builder:
    def __init__(self, gauges: list[int], counters: list[int]) -> None:
        self.gauges, self.counters = gauges, counters
        self.columns: list[int] = []
        self.counter: list[bool] = []
        self.code: list[tuple[int, int, int, int, int, int]] = []
        self.constants: list[float] = []
        self.rules = self.alerts = 0
        self.register = 0

    def take(self, width: int, *, counter: bool) -> int:
        """Select `width` more series; the index of the first."""
        pool = self.counters if counter else self.gauges
        self.columns += [pool.pop() for _ in range(width)]
        self.counter += [counter] * width
        return len(self.columns) - width

    def emit(self, op: int, a: int, b: int, width: int, constant: float = 0.0) -> int:
        self.constants.append(constant)
        self.code.append((op, self.register, a, b, width, len(self.constants) - 1))
        self.register += 1
        return self.register - 1

    def rule(self, register: int, width: int) -> None:
        self.emit(ALERT, register, self.alerts, width)
        self.alerts += width
        self.rules += 1
        self.register = 0

    def instant(self, width: int) -> None:
        """`x == 1`, `x < c`."""
        x = self.emit(LOAD, self.take(width, counter=False), 0, width)
        self.rule(self.emit(BELOW, x, 0, width, 5.0), width)

    def ratio(self, width: int) -> None:
        """`free / size < .1 and on (...) readonly == 0`."""
        a = self.emit(LOAD, self.take(width, counter=False), 0, width)
        b = self.emit(LOAD, self.take(width, counter=False), 0, width)
        low = self.emit(BELOW, self.emit(DIVIDE, a, b, width), 0, width, 0.01)
        flag = self.emit(LOAD, self.take(width, counter=False), 0, width)
        usual = self.emit(ABOVE, flag, 0, width, 0.0)
        self.rule(self.emit(AND, low, usual, width), width)

    def saturation(self, width: int) -> None:
        """`rate(bytes[5m]) / speed > .8 and speed > 0`."""
        used = self.emit(RATE, self.take(width, counter=True), 2, width)
        speed = self.emit(LOAD, self.take(width, counter=False), 0, width)
        high = self.emit(ABOVE, self.emit(DIVIDE, used, speed, width), 0, width, 1e6)
        self.rule(self.emit(AND, high, self.emit(ABOVE, speed, 0, width, 0.0), width), width)

    def latency(self, width: int) -> None:
        """`rate(seconds[1m]) / rate(operations[1m]) > .1 and rate(operations[1m]) > 0`."""
        time_spent = self.emit(RATE, self.take(width, counter=True), 0, width)
        first = self.take(width, counter=True)
        done = self.emit(RATE, first, 0, width)
        high = self.emit(ABOVE, self.emit(DIVIDE, time_spent, done, width), 0, width, 1e6)
        again = self.emit(RATE, first, 0, width)
        self.rule(self.emit(AND, high, self.emit(ABOVE, again, 0, width, 0.0), width), width)

    def average(self, width: int) -> None:
        """`avg without (cpu) (rate(seconds[5m])) * 100 > 10`."""
        rates = self.emit(RATE, self.take(width, counter=True), 2, width)
        mean = self.emit(AVERAGE, rates, 0, width)
        share = self.emit(MULTIPLY, mean, 0, 1, 100.0)
        self.rule(self.emit(ABOVE, share, 0, 1, 1e9), 1)

    def excluded(self, width: int) -> None:
        """`rate(errors[2m]) > c unless other > d`."""
        rates = self.emit(RATE, self.take(width, counter=True), 1, width)
        high = self.emit(ABOVE, rates, 0, width, 1e9)
        other = self.emit(LOAD, self.take(width, counter=False), 0, width)
        calm = self.emit(ABOVE, other, 0, width, 1e9)
        self.rule(self.emit(UNLESS, high, calm, width), width)

    def trend(self, width: int) -> None:
        """`deriv(x[5m]) > 1000`."""
        slope = self.emit(DERIV, self.take(width, counter=False), 2, width)
        self.rule(self.emit(ABOVE, slope, 0, width, 1000.0), width)


def make_plan(series: int, counters: FlagArray) -> Plan:
    """38 rules: 16 instant, 6 ratios, 4 saturations, 4 latencies, 4 averages, 3 unless, 1 trend."""
    indices = np.arange(series)
    builder = _Builder(indices[~counters].tolist(), indices[counters].tolist())
    for width in (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4):
        builder.instant(width)
    for width in (1, 1, 2, 2, 4, 4):
        builder.ratio(width)
    for width in (2, 2, 4, 4):
        builder.saturation(width)
    for width in (2, 2, 2, 2):
        builder.latency(width)
    for width in (8, 8, 8, 16):
        builder.average(width)
    for width in (1, 2, 2):
        builder.excluded(width)
    builder.trend(1)
    return Plan(
        np.array(builder.code, dtype=np.int64),
        np.array(builder.constants),
        np.array(builder.columns, dtype=np.int64),
        np.array(builder.counter, dtype=np.bool_),
        builder.rules,
        builder.alerts,
    )


class Windows:
    """The rings of all targets: frame-major, so that an append and a rate touch whole lines.

    `values` (targets, RING, selected) holds counters with their resets added up, so that a rate
    needs the window's first and last sample only.
    """

    def __init__(self, targets: int, plan: Plan) -> None:
        self.plan = plan
        self.values = np.zeros((targets, RING, plan.selected))
        self.resets = np.zeros((targets, plan.selected))
        self.raw = np.zeros((targets, plan.selected))
        self.times_ms = np.zeros((targets, RING), dtype=np.int64)
        self.written = np.zeros(targets, dtype=np.int64)
        self.starts = np.zeros((targets, len(LENGTHS_MS)), dtype=np.int64)
        self.active_ms = np.zeros((targets, plan.alerts), dtype=np.int64)
        self.registers = np.zeros((32, WIDTH))

    def evaluate(self, batch: FrameBatch) -> int:
        """Append each frame and run the program at its time; how many alerts became active."""
        return _evaluate(
            self.plan.program, self.plan.constants, self.plan.columns, self.plan.counter,
            self.values, self.resets, self.raw, self.times_ms, self.written, self.starts,
            self.active_ms, self.registers,
            batch.dictionaries.view(np.int64), batch.times_ms, batch.offsets, batch.values,
        )  # fmt: skip


@compiled
def _evaluate(
    program: IntArray, constants: FloatArray, columns: IntArray, counter: FlagArray,
    rings: FloatArray, resets: FloatArray, raw: FloatArray, times: IntArray, written: IntArray,
    starts: IntArray, active: IntArray, registers: FloatArray,
    targets: IntArray, frame_times: IntArray, offsets: IntArray, values: FloatArray,
) -> int:  # fmt: skip
    changed = 0
    for frame in range(len(frame_times)):
        target, now = targets[frame], frame_times[frame]
        newest = written[target]
        written[target] = newest + 1
        ring = rings[target]
        position = newest % len(ring)
        times[target, position] = now
        first = offsets[frame]
        for i in range(len(columns)):
            value = values[first + columns[i]]
            if counter[i]:
                if value < raw[target, i]:
                    resets[target, i] += raw[target, i]
                raw[target, i] = value
                value += resets[target, i]
            ring[position, i] = value
        for window in range(len(LENGTHS_MS)):
            start = max(starts[target, window], newest + 1 - len(ring))
            while times[target, start % len(ring)] <= now - LENGTHS_MS[window]:
                start += 1
            starts[target, window] = start
        changed += _run(
            program, constants, ring, times[target], starts[target], newest, now, active[target],
            registers,
        )  # fmt: skip
    return changed


@compiled
def _run(  # noqa: C901  # the dispatch: one branch an operation
    program: IntArray, constants: FloatArray, ring: FloatArray, times: IntArray, starts: IntArray,
    newest: int, now: int, active: IntArray, registers: FloatArray,
) -> int:  # fmt: skip
    changed = 0
    size = len(ring)
    last = newest % size
    for line in range(len(program)):
        op, out, a, b, width, constant = program[line]
        c = constants[constant]
        result = registers[out]
        if op == LOAD:
            for i in range(width):
                result[i] = ring[last, a + i]
        elif op == RATE:
            start = starts[b] % size
            for i in range(width):
                result[i] = _rate(
                    ring[start, a + i], ring[last, a + i], times[start], times[last],
                    newest - starts[b], now, LENGTHS_MS[b],
                )  # fmt: skip
        elif op == DERIV:
            for i in range(width):
                result[i] = _slope(ring, times, starts[b], newest, a + i, now)
        elif op == AVERAGE:
            total = 0.0
            for i in range(width):
                total += registers[a, i]
            result[0] = total / width
        elif op == ALERT:
            for i in range(width):
                true = registers[a, i] == registers[a, i]
                if true and active[b + i] == 0:
                    active[b + i] = now
                    changed += 1
                elif not true:
                    active[b + i] = 0
        else:
            for i in range(width):
                x = registers[a, i]
                if op == DIVIDE:
                    x /= registers[b, i]
                elif op == MULTIPLY:
                    x *= c
                elif op == ABOVE:
                    x = x if x > c else np.nan
                elif op == BELOW:
                    x = x if x < c else np.nan
                elif op == AND:
                    x = x if registers[b, i] == registers[b, i] else np.nan
                elif op == UNLESS:
                    x = x if registers[b, i] != registers[b, i] else np.nan
                result[i] = x
    return changed


@compiled
def _rate(
    first: float, last: float, first_ms: int, last_ms: int, gaps: int, now: int, length_ms: int
) -> float:
    """Prometheus' extrapolated rate (promql/functions.go: extrapolatedRate)."""
    if gaps < 1:
        return np.nan
    increase = last - first
    sampled = (last_ms - first_ms) * 1e-3
    to_start = (first_ms - (now - length_ms)) * 1e-3
    to_end = (now - last_ms) * 1e-3
    average = sampled / gaps
    if to_start >= 1.1 * average:
        to_start = average / 2
    if increase > 0 and first >= 0:
        to_start = min(to_start, sampled * (first / increase))
    if to_end >= 1.1 * average:
        to_end = average / 2
    return increase * ((sampled + to_start + to_end) / sampled) / (length_ms * 1e-3)


@compiled
def _slope(
    ring: FloatArray, times: IntArray, start: int, newest: int, column: int, now: int
) -> float:
    """The least-squares slope over the window (promql/functions.go: linearRegression)."""
    n = sum_x = sum_y = sum_xy = sum_xx = 0.0
    for k in range(start, newest + 1):
        x = (times[k % len(ring)] - now) * 1e-3
        y = ring[k % len(ring), column]
        n += 1.0
        sum_x += x
        sum_y += y
        sum_xy += x * y
        sum_xx += x * x
    return (sum_xy - sum_x * sum_y / n) / (sum_xx - sum_x * sum_x / n)
