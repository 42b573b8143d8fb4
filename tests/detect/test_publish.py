import numpy as np

from pipeline.detect.publish import merged, select_scores
from pipeline.model import FrameBatch

BATCH = FrameBatch(
    np.array([7, 8, 9], np.uint64),
    np.array([70, 80, 90], np.uint64),
    np.array([1000, 2000, 3000]),
    np.array([0, 2, 4, 6]),
    np.zeros(6),
)


def test_only_scores_at_or_above_the_threshold_are_sent():
    scores = np.array([0.1, 0.5, 0.2, 0.3, 0.9, 2.0], np.float32)
    chosen = select_scores(BATCH, scores, 0.5)
    assert chosen.targets.tolist() == [7, 9]
    assert chosen.dictionaries.tolist() == [70, 90]
    assert chosen.times_ms.tolist() == [1000, 3000]
    assert chosen.offsets.tolist() == [0, 1, 3]
    assert chosen.columns.tolist() == [1, 0, 1]
    np.testing.assert_array_equal(chosen.scores, np.array([0.5, 0.9, 2.0], np.float32))


def test_a_calm_batch_sends_nothing():
    assert len(select_scores(BATCH, np.zeros(6, np.float32), 0.5)) == 0


def test_merged_batches_have_all_frames_in_order():
    scores = np.array([0.1, 0.5, 0.2, 0.3, 0.9, 2.0], np.float32)
    first, second = select_scores(BATCH, scores, 0.5), select_scores(BATCH, scores, 1.0)
    both = merged([first, second])
    assert both.targets.tolist() == [7, 9, 9]
    assert both.dictionaries.tolist() == [70, 90, 90]
    assert both.times_ms.tolist() == [1000, 3000, 3000]
    assert both.offsets.tolist() == [0, 1, 3, 4]
    assert both.columns.tolist() == [1, 0, 1, 1]
    np.testing.assert_array_equal(both.scores, np.array([0.5, 0.9, 2.0, 2.0], np.float32))
    assert len(merged([])) == 0
    assert merged([]).offsets.tolist() == [0]
