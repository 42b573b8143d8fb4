"""Robust level and spread: how far the mean of the last few samples is from the usual level.

Each series has a level and a spread (mean absolute deviation), both exponentially forgotten and
both updated with the deviation cut off at a few spreads (Huber's psi), so that outliers hardly
move them. The deviation in spreads, smoothed over about three samples, is compared with a high
quantile of its own past, tracked by stochastic approximation. A score of 1 is `MARGIN` times that
quantile. Comparing with the series' own tail is what makes one threshold serve white noise,
wandering load and heavy tails alike.

References
----------
Huber, Robust Estimation of a Location Parameter, 1964 (bounded updates).
Robbins & Monro, A Stochastic Approximation Method, 1951 (tracking the quantile).
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.detect.protocol import FlagArray, ScoreArray, SlotArray, State
from pipeline.jit import compiled
from pipeline.model import FloatArray, IntArray

NEVER = np.iinfo(np.int64).min

ROW = np.dtype(
    [
        ("level", "<f8"),  # expected value, or rate of a counter
        ("spread", "<f8"),  # mean absolute deviation from it
        ("raw", "<f8"),  # last sample
        ("value", "<f8"),  # last value: the sample, or the rate of a counter
        ("step", "<f8"),  # usual size of a change, for series that seldom change
        ("time_ms", "<i8"),  # of the last sample
        ("interval", "<f4"),  # usual seconds between samples
        ("changes", "<f4"),  # how often the value changed, forgotten within a day
        ("drift", "<f4"),  # deviation in spreads, mean of the last few
        ("tail", "<f4"),  # high quantile of the past |drift|
        ("anomalous_s", "<f4"),  # seconds it has been anomalous
        ("count", "<u4"),  # samples learnt since the last (re)start
        ("run", "<i2"),  # consecutive outliers, signed by their side
        ("over", "<u2"),  # consecutive samples with |drift| > tail
        ("counter", "<u2"),
        ("zero", "<u2"),
    ]
)
"""80 bytes a series."""
USED = np.dtype([("slots", "<i8")])
"""How many of the rows have been handed out: room grows by doubling."""

Rows = npt.NDArray[np.void]

HUGE = 1e290  # values beyond it, infinite ones too, count as this large
LEVEL_S, LEVEL_SAMPLES = 300.0, 60.0  # memory of the level: the longer of the two
SPREAD_S, SPREAD_SAMPLES = 1800.0, 360.0
ACCEPT_S, ACCEPT_SAMPLES = 1800.0, 60.0  # an anomaly that lasts longer is the new normal
GAP = 4.0  # a longer gap counts as this many intervals
PSI = 3.0  # spreads at which a deviation is cut off for learning
SMOOTH = 0.35  # weight of the newest sample in `drift`
MARGIN = 2.0
OUTLIER = 1.6  # in thresholds: three outliers of this size in a row reach a score of 1, two don't
RESIST = 0.1  # weight at which an anomalous sample is learnt
TAIL_START, TAIL_MIN, TAIL_MAX = 2.5, 1.2, 50.0
TAIL_RATE, TAIL_SHARE = 0.02, 0.002  # the tail is what 0.2 % of the samples exceed
TAIL_STEPS = 25  # the most that one excursion raises the tail
SETTLE = 8  # samples before deviations are cut off
FLOOR = 1e-3  # of the level: deviations are never measured finer than this
TINY = 1e-12  # deviations of huge values from a constant 0 are still finite
INTERVAL_RATE = 0.05
DAY_S = 86400.0
CHANGES_MAX, CHANGES_USUAL = 100.0, 8.0  # from the eighth within a day on, a change is usual
STEP_CUT = 4.0
RUN_MAX = 60


class Robust(msgspec.Struct, frozen=True):
    """The detector; the only parameter is the number of samples before the first score."""

    warmup_samples: int = 60

    def new_state(self) -> State:
        return {"rows": np.zeros(0, dtype=ROW), "used": np.zeros(1, dtype=USED)}

    def grow(self, state: State, counters: FlagArray) -> State:
        rows = state["rows"]
        start = int(state["used"]["slots"][0])
        end = start + len(counters)
        if end > len(rows):
            rows = np.zeros(max(end, 2 * len(rows)), dtype=ROW)
            rows[:start] = state["rows"][:start]
        _renew(rows[start:end], counters)
        return {"rows": rows, "used": np.array([(end,)], dtype=USED)}

    def renew(self, state: State, slots: SlotArray, counters: FlagArray) -> None:
        new = np.zeros(len(slots), dtype=ROW)
        _renew(new, counters)
        state["rows"][slots] = new

    def copy(self, state: State, into: State | None = None) -> State:
        used = int(state["used"]["slots"][0])
        if into is not None and len(into["rows"]) == used:
            rows = into["rows"]
        else:
            rows = np.empty(used, dtype=ROW)
        rows[:] = state["rows"][:used]
        return {"rows": rows, "used": state["used"].copy()}

    def transfer(self, source: State, there: SlotArray, state: State, here: SlotArray) -> None:
        state["rows"][here] = source["rows"][there]

    def update(
        self,
        state: State,
        slots: SlotArray,
        times_ms: IntArray,
        offsets: IntArray,
        values: FloatArray,
        keep: FlagArray,
    ) -> ScoreArray:
        scores = np.zeros(len(values), dtype=np.float32)
        _update(state["rows"], slots, times_ms, offsets, values, keep, self.warmup_samples, scores)
        return scores

    def expected(self, state: State, slots: SlotArray) -> FloatArray:
        rows = state["rows"][slots]
        levels: FloatArray = np.where(rows["count"] >= self.warmup_samples, rows["level"], np.nan)
        return levels


def _renew(rows: Rows, counters: FlagArray) -> None:
    """Make blank rows those of series that have not been seen."""
    rows["time_ms"] = NEVER
    rows["tail"] = TAIL_START
    rows["counter"] = counters


@compiled
def _update(
    rows: Rows,
    slots: SlotArray,
    times_ms: IntArray,
    offsets: IntArray,
    values: FloatArray,
    keep: FlagArray,
    warmup: int,
    scores: ScoreArray,
) -> None:
    for frame in range(len(times_ms)):
        if not keep[frame]:
            continue
        time_ms = times_ms[frame]
        for i in range(offsets[frame], offsets[frame + 1]):
            slot = slots[i]
            value = values[i]
            if slot >= 0 and value == value:
                scores[i] = _step(rows[slot], time_ms, min(max(value, -HUGE), HUGE), warmup)


@compiled
def _step(row: np.void, time_ms: int, sample: float, warmup: int) -> float:
    """The score of one sample; `row` has then learnt it."""
    previous_ms = row["time_ms"]
    known = previous_ms != NEVER
    if known and time_ms <= previous_ms:
        return 0.0
    seconds = (time_ms - previous_ms) * 1e-3 if known else 0.0
    previous = row["raw"]
    row["time_ms"] = time_ms
    row["raw"] = sample
    value = sample
    if row["counter"]:
        if not known or sample < previous:  # the first sample, or a reset
            return 0.0
        value = (sample - previous) / seconds
    if row["count"] == 0:
        _begin(row, value)
        return 0.0
    seconds = _passed(row, seconds)
    usual = min(1.0, row["changes"] / CHANGES_USUAL)
    scale = max(row["spread"], 0.5 * row["step"] * usual * usual, FLOOR * abs(row["level"]), TINY)
    residual = value - row["level"]
    size = _drift(row, residual / scale)
    if row["count"] < warmup:
        _learn(row, value, residual, scale, seconds, 1.0)
        return 0.0
    tail = row["tail"]
    score: float = size / (MARGIN * tail)
    _learn_tail(row, size, tail)
    if score <= 1.0:
        row["anomalous_s"] = max(0.0, row["anomalous_s"] - seconds)
        _learn(row, value, residual, scale, seconds, 1.0)
        return score
    row["anomalous_s"] += seconds
    if row["anomalous_s"] > max(ACCEPT_S, ACCEPT_SAMPLES * row["interval"]):
        _begin(row, value)
    else:
        _learn(row, value, residual, scale, seconds, RESIST)
    return score


@compiled
def _begin(row: np.void, value: float) -> None:
    """Take `value` as the level, and learn the rest anew; what is known of the tail stays."""
    row["level"] = value
    row["value"] = value
    row["count"] = 1
    row["run"] = 0
    row["drift"] = 0.0
    row["anomalous_s"] = 0.0


@compiled
def _passed(row: np.void, seconds: float) -> float:
    """The seconds since the last sample, a gap cut short; learns the usual interval."""
    interval = row["interval"]
    if interval == 0.0:
        interval = seconds
    passed: float = min(seconds, GAP * interval)
    row["interval"] = interval + INTERVAL_RATE * (passed - interval)
    return passed


@compiled
def _drift(row: np.void, deviation: float) -> float:
    """How large the mean of the last few deviations is, with this one.

    A single outlier is cut off; from the fourth in a row on the cut doubles with each, so that a
    lasting deviation soon shows in its full size.
    """
    cut = OUTLIER * MARGIN * row["tail"]
    drift = row["drift"]
    run = row["run"]
    if deviation >= cut:
        run = min(max(run, 0) + 1, RUN_MAX)
    elif deviation <= -cut:
        run = max(min(run, 0) - 1, -RUN_MAX)
    else:
        run = 0
        drift = min(max(drift, -cut), cut)
    if abs(run) > 3:
        cut *= 2.0 ** (abs(run) - 3)
    drift += SMOOTH * (min(max(deviation, -cut), cut) - drift)
    row["run"] = run
    row["drift"] = drift
    size: float = abs(drift)
    return size


@compiled
def _learn_tail(row: np.void, size: float, tail: float) -> None:
    """Move the tail towards the size that a share of `TAIL_SHARE` exceeds."""
    if size <= tail:
        row["over"] = 0
        row["tail"] = max(tail * (1.0 - TAIL_RATE * TAIL_SHARE), TAIL_MIN)
    elif row["over"] < TAIL_STEPS:
        row["over"] += 1
        row["tail"] = min(tail * (1.0 + TAIL_RATE), TAIL_MAX)


@compiled
def _learn(
    row: np.void, value: float, residual: float, scale: float, seconds: float, weight: float
) -> None:
    """Level and spread, with the residual cut off at `PSI` scales; the usual change."""
    count = row["count"]
    first = 1.0 / (count + 1.0)
    bound = PSI * scale if count >= SETTLE else 2.0 * HUGE
    learnt = min(max(residual, -bound), bound)
    memory_s = max(LEVEL_S, LEVEL_SAMPLES * row["interval"])
    row["level"] += weight * max(seconds / (memory_s + seconds), first) * learnt
    memory_s = max(SPREAD_S, SPREAD_SAMPLES * row["interval"])
    share = weight * max(seconds / (memory_s + seconds), first)
    row["spread"] += share * (abs(learnt) - row["spread"])
    changes = row["changes"] * (1.0 - seconds / (DAY_S + seconds))
    change = abs(value - row["value"])
    if change > 0.0:
        changes = min(changes + 1.0, CHANGES_MAX)
        if changes > CHANGES_USUAL:
            change = min(change, STEP_CUT * row["step"])
        row["step"] += (change - row["step"]) / changes
    row["changes"] = changes
    row["value"] = value
    row["count"] = count + 1
