"""The detectors by name: a new one is one line here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.detect.protocol import Detector
from pipeline.detect.robust import Robust
from pipeline.model import STALE
from pipeline.settings import DetectSettings

DETECTORS: dict[str, Callable[[DetectSettings], Detector]] = {
    "robust": lambda settings: Robust(warmup_samples=settings.warmup_samples),
}

DEFAULT = "robust"


def default_detector(settings: DetectSettings) -> Detector:
    """The detector that the worker, the benchmarks and the accuracy scores all use."""
    return DETECTORS[DEFAULT](settings)


def compile_detector(detector: Detector) -> None:
    """Compile for arrays that can and that can't be written to, before samples arrive.

    The values of a decoded record are a view of its bytes: to numba that is another type.
    """
    state = detector.grow(detector.new_state(), np.zeros(1, dtype=np.bool_))
    values = STALE.copy()
    slots, times = np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int64)
    offsets, keep = np.array([0, 1], dtype=np.int64), np.ones(1, dtype=np.bool_)
    for writeable in (True, False):
        values.setflags(write=writeable)
        detector.update(state, slots, times, offsets, values, keep)
