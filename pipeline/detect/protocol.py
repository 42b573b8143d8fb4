"""What the worker expects of a detector: one call scores all samples of a batch.

Every series has a *slot*, a small integer that the worker hands out and keeps. All that a detector
knows lies in named arrays, so that a snapshot is a dump and a restart a load.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.model import FloatArray, IntArray

SlotArray = npt.NDArray[np.int32]
ScoreArray = npt.NDArray[np.float32]
FlagArray = npt.NDArray[np.bool_]

State = dict[str, npt.NDArray[np.void]]
"""All of a detector's knowledge: structured arrays by name. `update` changes them in place."""


class Detector(Protocol):
    """An algorithm with its parameters; it holds no data, so one serves any number of states.

    Whatever the algorithm: it scores a sample before it learns from it; a score is finite and
    >= 0, above 1 is anomalous, 0 while a series has seen fewer samples than the warm-up; NaN (also
    `ABSENT` and `STALE`) is neither scored nor learnt; an infinite or huge value is an outlier and
    leaves the state finite; a sample not newer than the last of its series is ignored; how samples
    are divided into batches changes no bit of any score.
    """

    def new_state(self) -> State:
        """The state of no series."""
        ...

    def grow(self, state: State, counters: FlagArray) -> State:
        """`state` with `len(counters)` further slots; True marks a counter, scored as its rate."""
        ...

    def renew(self, state: State, slots: SlotArray, counters: FlagArray) -> None:
        """Make `slots` new ones: their series have ended, and others get them."""
        ...

    def copy(self, state: State, into: State | None = None) -> State:
        """A copy of what the slots hold; `into` is an earlier one whose memory may be used."""
        ...

    def transfer(self, source: State, there: SlotArray, state: State, here: SlotArray) -> None:
        """Let slots `here` of `state` be what slots `there` of `source`, a copy, are."""
        ...

    def update(
        self,
        state: State,
        slots: SlotArray,
        times_ms: IntArray,
        offsets: IntArray,
        values: FloatArray,
        keep: FlagArray,
    ) -> ScoreArray:
        """The score of each value; then learns it.

        A batch of f frames and v values, in columns as in `FrameBatch`: frame i has the time
        `times_ms[i]` and the values `values[offsets[i]:offsets[i + 1]]`. `slots` (v,) has the slot
        of each value's series, -1 for one that is not scored. A frame with `keep` (f,) False (late,
        or a duplicate) is passed over.
        """
        ...

    def expected(self, state: State, slots: SlotArray) -> FloatArray:
        """The value (a counter's rate a second) that each series was expected to have; NaN: none.

        While a series is anomalous this is nearly its level before, so it can be told as such.
        """
        ...
