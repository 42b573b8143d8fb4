"""What holds for every detector in the table, whatever its algorithm."""

from __future__ import annotations

import io

import numpy as np
import pytest

from pipeline.detect.table import DEFAULT, DETECTORS, compile_detector, default_detector
from pipeline.model import ABSENT, STALE
from pipeline.settings import DetectSettings

WARMUP = 60


@pytest.fixture(params=sorted(DETECTORS))
def detector(request):
    return DETECTORS[request.param](DetectSettings(warmup_samples=WARMUP))


@pytest.fixture
def noise():
    """300 samples around 100 with a deviation of 1."""
    return 100 + np.random.default_rng(7).standard_normal(300)


def bits(scores):
    return scores.view(np.uint32).tolist()


def snapshot(state):
    """As a restart sees it: arrays written and read again, nothing pickled."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **state)
    file.seek(0)
    return dict(np.load(file, allow_pickle=False))


def test_the_default_is_in_the_table():
    assert type(default_detector(DetectSettings())) is type(DETECTORS[DEFAULT](DetectSettings()))


def test_compiling_before_the_first_sample_needs_no_state(detector):
    compile_detector(detector)


def test_score_is_zero_during_warmup(detector, feed):
    wild = np.random.default_rng(3).standard_cauchy(WARMUP) * 1e6
    assert not feed(detector)(wild).any()


def test_score_is_above_one_for_a_lasting_shift(detector, feed, noise):
    watch = feed(detector)
    assert watch(noise).max() <= 1.0
    assert (watch(noise[:5] - 50)[2:] > 1.0).all()


def test_scores_are_finite_and_not_negative(detector, feed, noise):
    watch = feed(detector)
    for values in (noise, noise * 1e9, -noise, np.zeros(50), noise):
        scores = watch(values)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        assert (scores >= 0).all()


def test_a_sample_is_scored_before_it_is_learnt(detector, feed, noise):
    """Were it learnt first, the score of the shift's first sample would depend on the shift."""
    twin, watch = feed(detector), feed(detector)
    twin(noise)
    watch(noise)
    before = watch.expected()
    watch([noise.mean()])
    assert before == twin.expected()


@pytest.mark.parametrize(
    "missing", [np.array([np.nan]), ABSENT, STALE], ids=["nan", "absent", "stale"]
)
def test_missing_values_are_neither_scored_nor_learnt(detector, feed, noise, missing):
    with_gaps, without = feed(detector), feed(detector)
    expected = [without(noise[:200]), without(noise[200:])]
    got = [with_gaps(noise[:200])]
    assert not with_gaps(missing).any()
    with_gaps.now_ms -= 1000
    got.append(with_gaps(noise[200:]))
    assert [bits(part) for part in got] == [bits(part) for part in expected]


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e308, -1e308])
@pytest.mark.parametrize("counter", [False, True])
def test_infinite_and_huge_values_are_outliers_that_leave_no_trace(
    detector, feed, noise, value, counter
):
    samples = np.cumsum(noise) if counter else noise
    watch = feed(detector, counters=np.array([counter]))
    watch(samples)
    watch([value])
    after = watch(samples[-1] + (np.cumsum(noise) if counter else noise - samples[-1]))
    assert np.isfinite(after).all()
    assert np.isfinite(watch.expected()).all()
    assert watch.expected()[0] == pytest.approx(100, abs=5)


def test_infinite_values_from_the_first_sample_on_do_no_harm(detector, feed, noise):
    watch = feed(detector)
    watch([np.inf, -np.inf] * 40)
    assert np.isfinite(watch(noise)).all()


def test_lasting_infinity_is_anomalous(detector, feed, noise):
    watch = feed(detector)
    watch(noise)
    assert (watch([np.inf] * 5)[2:] > 1).all()


def test_a_constant_series_scores_zero_until_it_changes(detector, feed):
    watch = feed(detector)
    assert not watch([5.0] * 200).any()
    assert (watch([6.0] * 5)[2:] > 1).all()


def test_zero_is_a_constant_as_any_other(detector, feed):
    watch = feed(detector)
    assert not watch([0.0] * 200).any()
    assert (watch([1e-3] * 5)[2:] > 1).all()


def test_a_sample_not_newer_than_the_last_is_ignored(detector, feed, noise):
    watch, twin = feed(detector), feed(detector)
    watch(noise)
    twin(noise)
    watch.now_ms -= 1000
    assert not watch([1e6]).any()
    watch.now_ms -= 10_000
    assert not watch([1e6]).any()
    watch.now_ms = twin.now_ms
    assert bits(watch(noise)) == bits(twin(noise))


def test_a_frame_that_is_not_kept_is_passed_over(detector, feed, noise):
    watch, twin = feed(detector), feed(detector)
    watch(noise)
    twin(noise)
    keep = np.ones(300, dtype=np.bool_)
    keep[100:103] = False
    spoilt = noise.copy()
    spoilt[~keep] = 1e6
    with_bad, with_gap = watch(spoilt, keep=keep), twin(np.where(keep, noise, np.nan))
    assert bits(with_bad) == bits(with_gap)


def test_a_column_without_a_slot_is_not_scored(detector, feed, noise):
    watch = feed(detector)
    watch(noise)
    scores = detector.update(
        watch.state,
        np.array([-1, 0], dtype=np.int32),
        np.array([watch.now_ms + 1000]),
        np.array([0, 2]),
        np.array([1e9, 100.0]),
        np.ones(1, dtype=np.bool_),
    )
    assert scores[0] == 0
    assert watch.expected()[0] == pytest.approx(100, abs=1)


@pytest.mark.parametrize("frames_a_batch", [1, 7, 300])
def test_how_samples_are_batched_changes_no_bit(detector, feed, frames_a_batch):
    rng = np.random.default_rng(11)
    values = rng.standard_normal((300, 4)) * [1, 5, 0, 1e6] + [0, 100, 3, 1e9]
    values[200:, 1] *= 3
    values[50:60, 0] = np.nan
    counters = np.array([False, False, False, True])
    values[:, 3] = np.cumsum(np.abs(values[:, 3]))
    whole = feed(detector, 4, counters)(values)
    watch = feed(detector, 4, counters)
    parts = [watch(values[i : i + frames_a_batch]) for i in range(0, 300, frames_a_batch)]
    assert bits(np.concatenate(parts)) == bits(whole)


def test_a_state_saved_and_loaded_in_the_middle_goes_on_equally(detector, feed, noise):
    watch, twin = feed(detector), feed(detector)
    watch(noise[:170])
    twin(noise[:170])
    twin.state = snapshot(twin.state)
    assert bits(watch(noise[170:] * 2)) == bits(twin(noise[170:] * 2))


def test_new_series_leave_the_others_as_they_were(detector, feed, noise):
    watch, twin = feed(detector), feed(detector)
    watch(noise)
    twin(noise)
    for count in (1, 3, 50):
        watch.state = detector.grow(watch.state, np.zeros(count, dtype=np.bool_))
        watch.series += count
    pair = np.full((300, 55), np.nan)
    pair[:, 0] = noise
    pair[:, 54] = noise + 1000
    scores = watch(pair)
    assert bits(scores[:, 0]) == bits(twin(noise))
    assert not scores[:WARMUP, 54].any()
    assert scores[WARMUP:, 54].any()
    assert watch.expected()[54] == pytest.approx(1100, abs=1)


def test_nothing_is_expected_during_warmup(detector, feed):
    watch = feed(detector)
    watch([3.0] * (WARMUP - 1))
    assert np.isnan(watch.expected()).all()
    watch([3.0])
    assert watch.expected().tolist() == [3.0]


def test_counters_are_scored_by_their_rate(detector, feed, noise):
    watch = feed(detector, counters=np.array([True]))
    total = np.cumsum(noise)
    assert watch(total).max() <= 1.0
    assert watch.expected()[0] == pytest.approx(100, abs=1)
    assert (watch(total[-1] + 50 * np.arange(1, 6))[2:] > 1).all()


def test_a_counter_reset_is_no_anomaly(detector, feed, noise):
    watch = feed(detector, counters=np.array([True]))
    watch(np.cumsum(noise))
    assert watch(np.cumsum(noise)).max() <= 1.0


def test_a_gap_in_a_counter_is_no_anomaly(detector, feed, noise):
    watch = feed(detector, counters=np.array([True]))
    total = np.cumsum(np.concatenate([noise, noise]))
    watch(total[:300])
    watch([np.nan] * 20)
    assert watch(total[320:]).max() <= 1.0


def test_state_is_at_most_100_bytes_a_series(detector):
    state = detector.grow(detector.new_state(), np.zeros(10_000, dtype=np.bool_))
    assert sum(array.nbytes for array in state.values()) <= 10_000 * 100 + 64


def test_a_renewed_slot_knows_nothing_of_the_series_before(detector, noise):
    state = detector.grow(detector.new_state(), np.array([False, True]))
    slots = np.zeros(len(noise), dtype=np.int32)
    times = np.arange(len(noise), dtype=np.int64) * 1000
    offsets, keep = np.arange(len(noise) + 1), np.ones(len(noise), dtype=np.bool_)
    detector.update(state, slots, times, offsets, noise, keep)
    detector.renew(state, slots[:1], np.array([True]))
    fresh = detector.grow(detector.new_state(), np.array([True, True]))
    for name, array in fresh.items():
        assert state[name][: len(array)].tobytes() == array.tobytes()


def test_what_is_transferred_from_a_copy_goes_on_the_same(detector, noise):
    counters = np.array([False, True, False])
    first, second = noise[:150], noise[150:]
    offsets, keep = np.arange(151), np.ones(150, dtype=np.bool_)
    slots = np.tile(np.arange(3, dtype=np.int32), 50)
    times = np.repeat(np.arange(50, dtype=np.int64), 3) * 1000
    state = detector.grow(detector.new_state(), counters)
    detector.update(state, slots, times, offsets, first, keep)
    copy = detector.copy(state)
    again = detector.copy(state, copy)
    expected = detector.update(state, slots, times + 60_000, offsets, second, keep)
    other = detector.grow(detector.new_state(), np.zeros(4, dtype=np.bool_))
    there, here = np.array([0, 1, 2], dtype=np.int32), np.array([3, 0, 2], dtype=np.int32)
    detector.transfer(again, there, other, here)
    scores = detector.update(other, here[slots], times + 60_000, offsets, second, keep)
    assert bits(scores) == bits(expected)
