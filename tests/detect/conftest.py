"""Fixtures for detectors: feed samples of some series, get their scores."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.detect.protocol import Detector, FlagArray, ScoreArray, State
from pipeline.model import FloatArray

START_MS = 1_700_000_000_000


class Feed:
    """A detector with the state of `series` series, and a clock that goes on from call to call."""

    def __init__(self, detector: Detector, series: int = 1, counters: FlagArray | None = None):
        self.detector = detector
        self.series = series
        flags = np.zeros(series, dtype=np.bool_) if counters is None else counters
        self.state: State = detector.grow(detector.new_state(), flags)
        self.now_ms = START_MS

    def __call__(
        self, values: npt.ArrayLike, *, step_ms: int = 1000, keep: FlagArray | None = None
    ) -> ScoreArray:
        """Scores of `values`, shape (times,) for one series or (times, series), in that shape."""
        given: FloatArray = np.asarray(values, dtype=np.float64)
        times = len(given)
        flat = given.reshape(times * self.series)
        times_ms = self.now_ms + step_ms * np.arange(1, times + 1, dtype=np.int64)
        self.now_ms += step_ms * times
        scores = self.detector.update(
            self.state,
            np.tile(np.arange(self.series, dtype=np.int32), times),
            times_ms,
            np.arange(times + 1, dtype=np.int64) * self.series,
            flat,
            np.ones(times, dtype=np.bool_) if keep is None else keep,
        )
        return scores.reshape(given.shape)

    def expected(self) -> FloatArray:
        return self.detector.expected(self.state, np.arange(self.series, dtype=np.int32))


@pytest.fixture
def feed() -> Callable[..., Feed]:
    return Feed


@pytest.fixture
def long() -> int:
    """Seconds of a long run: a day; twenty minutes where coverage is measured without compiling."""
    return 1_200 if numba.config.DISABLE_JIT else 86_400
