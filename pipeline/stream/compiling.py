"""Compiling before the first record.

A cold start takes numba half a minute; on the event loop that would cost the worker its place in
the consumer group.
"""

from __future__ import annotations

import numpy as np

from pipeline.codec import decode_telemetry, encode_frames
from pipeline.model import Frame, FrameBatch, Series, SeriesDictionary, Target, Tick, labels_from
from pipeline.stream.partition import Partition
from pipeline.stream.verdicts import RuleSet

_START_MS, _HOUR_MS = 1_000_000_000_000, 3_600_000


def compile_kernels(partition: Partition, rules: RuleSet) -> None:
    """Let `partition`, which is thrown away, see a frame that every rule looks at, and an hour.

    The frame is read from bytes as any other: to numba, arrays that can't be written to are another
    type.
    """
    series = {
        labels_from({m.name: m.value for m in selector.matchers if m.operator == "="})
        for plan in rules.plans
        for selector in plan.selectors
    }
    target = Target("compile", "compile", "compile")
    dictionary = SeriesDictionary(target, tuple(Series(labels) for labels in sorted(series)))
    partition.learn(dictionary)
    partition.tick(Tick("compile", _START_MS))
    for time_ms in (_START_MS + 1, _START_MS + 2):
        values = [float(i) for i in range(len(series))]
        frame = Frame(target.id, dictionary.id, time_ms, np.array(values))
        batch = decode_telemetry(encode_frames([frame]))
        assert isinstance(batch, FrameBatch), "frames were encoded"
        partition.frames(batch, unknown={})
    partition.tick(Tick("compile", _START_MS + _HOUR_MS))
    partition.cut()
