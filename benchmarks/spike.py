"""What a sample costs, stage by stage, before anything is built on it: ns of CPU a sample.

    python benchmarks/spike.py            a table against the budget
    python benchmarks/spike.py --json     the same as one JSON object

Frames of 500 series from 200 targets, 1 s apart, seeded and different for each series and time, in
records of 64 frames (256 kB). The plan is a prototype of 38 rules with the mix of the public
host-and-hardware rules, on windows that are full: 300 s at 1 s. Compiling and the first pass are
left out; a figure is the median of the repeats.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import machine
import msgspec
import numpy as np
import spike_plan

from pipeline.codec import decode_telemetry, encode_frames, encode_scores
from pipeline.detect.protocol import FlagArray, ScoreArray
from pipeline.detect.publish import select_scores
from pipeline.detect.table import compile_detector, default_detector
from pipeline.model import Frame, FrameBatch
from pipeline.settings import DetectSettings

TARGETS, SERIES, SECONDS, FRAMES_A_RECORD = 200, 500, 32, 64
REPEATS = 7
START_MS = 1_700_000_000_000
SAMPLES = TARGETS * SERIES * SECONDS

PUBLISHED_SHARE = 1e-4
"""Samples that score at or above `publish_above`, at most: tests/detect/test_robust.py."""

SAMPLES_A_SECOND, CORES = 3e6, 2
BUDGET_NS = CORES * 1e9 / SAMPLES_A_SECOND

CONSUME_RECORDS_A_SECOND, CONSUME_AND_SEND_RECORDS_A_SECOND = 1600, 760
"""One Faust worker, 256 kB records, one core: reading only; awaiting an acks=all send for each.

Measured for the design, before this program: records of 32,768 samples.
"""
SAMPLES_A_TRANSPORT_RECORD = 32_768


class Stage(msgspec.Struct, frozen=True):
    """One line of the table; `measured` False: taken from the design's own measurement."""

    name: str
    ns: float
    measured: bool = True


def make_records(rng: np.random.Generator, counters: FlagArray) -> list[bytes]:
    """All frames in order of time, 64 to a record."""
    level = rng.uniform(10, 1000, (TARGETS, SERIES))
    shape = (SECONDS, TARGETS, SERIES)
    values = level * (1 + 0.03 * rng.standard_normal(shape))
    values[:, :, counters] = np.cumsum(np.abs(values[:, :, counters]), axis=0)
    frames = [
        Frame(target, target, START_MS + 1000 * second + target, values[second, target])
        for second in range(SECONDS)
        for target in range(TARGETS)
    ]
    return [
        encode_frames(frames[start : start + FRAMES_A_RECORD])
        for start in range(0, len(frames), FRAMES_A_RECORD)
    ]


def later(batch: FrameBatch, repeat: int) -> FrameBatch:
    """The same samples, `repeat` rounds later."""
    return msgspec.structs.replace(batch, times_ms=batch.times_ms + repeat * SECONDS * 1000)


def cpu_ns_a_sample(run: Callable[[int], object]) -> float:
    """Median CPU time of `run(round)` over the repeats, after one warm-up round."""
    run(0)
    figures = []
    for repeat in range(1, REPEATS + 1):
        begin = time.process_time_ns()
        run(repeat)
        figures.append((time.process_time_ns() - begin) / SAMPLES)
    return statistics.median(figures)


def measure() -> list[Stage]:
    """The stages, and how many records a frame the scores make when each frame has its own."""
    rng = np.random.default_rng(4)
    counters = np.arange(SERIES) % 5 >= 3
    records = make_records(rng, counters)
    batches = [b for b in map(decode_telemetry, records) if isinstance(b, FrameBatch)]
    stages = [Stage("decode", cpu_ns_a_sample(lambda _: [decode_telemetry(r) for r in records]))]

    detector = default_detector(DetectSettings())
    compile_detector(detector)
    state = detector.grow(detector.new_state(), np.tile(counters, TARGETS))
    slots_of = [
        np.arange(target * SERIES, (target + 1) * SERIES, dtype=np.int32)
        for target in range(TARGETS)
    ]
    scores: list[ScoreArray] = []

    def score(repeat: int) -> None:
        scores.clear()
        for batch in batches:
            moved = later(batch, repeat)
            slots = np.concatenate([slots_of[d] for d in batch.dictionaries.tolist()])
            keep = np.ones(len(batch), dtype=np.bool_)
            scores.append(
                detector.update(state, slots, moved.times_ms, batch.offsets, batch.values, keep)
            )

    # Past the warm-up, so that scores are what they are in the long run.
    for repeat in range(3):
        score(repeat)
    stages.append(Stage("score", cpu_ns_a_sample(lambda repeat: score(repeat + 3))))

    plan = spike_plan.make_plan(SERIES, counters)
    windows = spike_plan.Windows(TARGETS, plan)
    rounds = spike_plan.WINDOW_S // SECONDS + 1
    for repeat in range(rounds):
        for batch in batches:
            windows.evaluate(later(batch, repeat))
    stages.append(
        Stage(
            f"{plan.rules} rules, {plan.selected} of {SERIES} series selected",
            cpu_ns_a_sample(
                lambda repeat: [windows.evaluate(later(b, rounds + repeat)) for b in batches]
            ),
        )
    )
    # As many scores are published in the long run; data that repeats has fewer.
    threshold = float(np.quantile(np.concatenate(scores), 1 - PUBLISHED_SHARE))
    stages.append(
        Stage(
            "encode scores",
            cpu_ns_a_sample(
                lambda _: [publish(*pair, threshold) for pair in zip(batches, scores, strict=True)]
            ),
        )
    )
    send_ns = 1e9 / CONSUME_AND_SEND_RECORDS_A_SECOND / SAMPLES_A_TRANSPORT_RECORD
    stages.append(Stage("Faust: consume, await a send", send_ns, measured=False))
    stages.append(Stage("broker (no more than Faust)", send_ns, measured=False))
    return stages


def publish(batch: FrameBatch, scores: ScoreArray, threshold: float) -> bytes:
    """The record for `signals`: of each frame the columns that score at or above `threshold`."""
    return encode_scores(select_scores(batch, scores, threshold))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    as_json = parser.parse_args().json
    stages = measure()
    total = sum(stage.ns for stage in stages)
    if as_json:
        report = {
            "machine": machine.describe(),
            "budget_ns": round(BUDGET_NS, 1),
            "total_ns": round(total, 1),
            "stages_ns": {stage.name: round(stage.ns, 2) for stage in stages},
            "measured": [stage.name for stage in stages if stage.measured],
        }
        print(json.dumps(report))
        return
    print(" ".join(f"{key}={value}" for key, value in machine.describe().items()))
    print(f"\n{'stage':<44}{'ns a sample':>12}{'of the budget':>15}")
    for stage in stages:
        mark = "" if stage.measured else "  (the design's measurement)"
        print(f"{stage.name:<44}{stage.ns:>12.2f}{stage.ns / BUDGET_NS:>15.1%}{mark}")
    print(f"{'sum':<44}{total:>12.2f}{total / BUDGET_NS:>15.1%}")
    print(f"{'budget: 3 M samples/s on two cores':<44}{BUDGET_NS:>12.2f}")
    rate = CORES * 1e9 / total
    print(
        f"\nThe stages alone would carry {rate / 1e6:.0f} M samples/s on two cores. What is left, "
        f"{BUDGET_NS - total:.0f} ns a sample,\nis for what is not measured here: finding slots "
        "and plans of a frame, snapshots, the collector."
    )


if __name__ == "__main__":
    main()
