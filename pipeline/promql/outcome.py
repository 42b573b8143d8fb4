"""What an evaluation puts out, and who numbers it."""

from __future__ import annotations

from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.model import FloatArray, IntArray, Labels
from pipeline.promql import kernel

ERRORS = {
    kernel.ERROR_DUPLICATE_MATCH: "several series on the 'one' side of an operator match",
    kernel.ERROR_MANY_TO_MANY: "several series on both sides of an operator match: "
    "many-to-one matching must be explicit (group_left, group_right)",
    kernel.ERROR_SAME_LABELS: "several elements of a result have the same labels",
}
"""Texts of the error codes of a span."""


class Slots(Protocol):
    """Gives each output of a plan a lasting number."""

    def assign(self, plan: int, instance: str, labels: Labels) -> int:
        """The number of this output; the same one for the same arguments."""

    def retire(self, plan: int, instance: str, labels: Labels, slot: int) -> None:
        """The series behind it are gone; the slot won't occur again unless it is assigned again."""


class Outcome(msgspec.Struct, frozen=True, eq=False):
    """Spans, one for each (instant, instance, plan) evaluated, in order; each has rows.

    `frames` index of the frame in the batch (-1 from `evaluate_at`); `instances` index into
    `Evaluator.instances`; `plans` index into the evaluator's plans; the rows of a span are
    `[starts, starts + counts)` of `slots`, `present`, `values`. `errors` 0 or a key of `ERRORS`:
    then the span has no rows. Without an error every slot that the plan has in the instance occurs
    exactly once; `values` is undefined where `present` is false.
    """

    frames: IntArray
    instances: IntArray
    plans: IntArray
    times_ms: IntArray
    starts: IntArray
    counts: IntArray
    errors: IntArray
    slots: npt.NDArray[np.int32]
    present: npt.NDArray[np.bool_]
    values: FloatArray


def outcome_of(
    spans: IntArray,
    slots: npt.NDArray[np.int32],
    present: npt.NDArray[np.bool_],
    values: FloatArray,
) -> Outcome:
    """The outcome from the kernel's table of spans (s, 7)."""
    frames, instances, plans, times_ms, starts, counts, errors = np.ascontiguousarray(spans.T)
    return Outcome(
        frames, instances, plans, times_ms, starts, counts, errors, slots, present, values
    )
