"""Which scores are worth sending to others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.detect.protocol import ScoreArray
from pipeline.model import FrameBatch, ScoreBatch

Item = TypeVar("Item", bound=np.generic)


def select_scores(batch: FrameBatch, scores: ScoreArray, threshold: float) -> ScoreBatch:
    """The scores at or above `threshold`, of the frames that have any; `scores` as the values."""
    high = np.flatnonzero(scores >= threshold)
    if not len(high):
        return merged(())
    frame_of = np.searchsorted(batch.offsets, high, side="right") - 1
    frames, starts = np.unique(frame_of, return_index=True)
    return ScoreBatch(
        batch.targets[frames],
        batch.dictionaries[frames],
        batch.times_ms[frames],
        np.append(starts, len(high)).astype(np.int64),
        (high - batch.offsets[frame_of]).astype(np.uint32),
        scores[high],
    )


def merged(batches: Sequence[ScoreBatch]) -> ScoreBatch:
    """The scores of several batches, in their order."""
    counts = [np.zeros(1, dtype=np.int64)] + [np.diff(batch.offsets) for batch in batches]
    return ScoreBatch(
        _joined([batch.targets for batch in batches], np.uint64),
        _joined([batch.dictionaries for batch in batches], np.uint64),
        _joined([batch.times_ms for batch in batches], np.int64),
        np.cumsum(np.concatenate(counts)),
        _joined([batch.columns for batch in batches], np.uint32),
        _joined([batch.scores for batch in batches], np.float32),
    )


def _joined(arrays: Sequence[npt.NDArray[Item]], dtype: type[Item]) -> npt.NDArray[Item]:
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays])
