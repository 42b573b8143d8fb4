"""Which scores are worth sending to others."""

from __future__ import annotations

import numpy as np

from pipeline.detect.protocol import ScoreArray
from pipeline.model import FrameBatch, ScoreBatch


def select_scores(batch: FrameBatch, scores: ScoreArray, threshold: float) -> ScoreBatch:
    """The scores at or above `threshold`, of the frames that have any; `scores` as the values."""
    high = np.flatnonzero(scores >= threshold)
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
