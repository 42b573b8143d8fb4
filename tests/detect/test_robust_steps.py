"""The robust detector, one sample at a time: what each field of a row becomes, worked out by hand.

A settled row has the level 0, the spread 1 and the tail 2.5: a sample is its own deviation in
spreads, and an outlier is what is at least 1.6 * 2 * 2.5 = 8 spreads away.
"""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.detect.robust import Robust

DAY_MS = 86_400_000
SETTLED = {"spread": 1.0, "interval": 1.0, "count": 1_000_000}
TAIL_AT_REST = {"over": 25}  # as after a long excursion: the tail doesn't rise any more


@pytest.fixture
def settled(feed):
    """A series that has been told so often that its samples weigh by time, and its row."""

    def make(**fields):
        watch = feed(Robust())
        row = watch.state["rows"][0]
        row["time_ms"] = watch.now_ms
        for name, value in (SETTLED | fields).items():
            row[name] = value
        return watch, row

    return make


@pytest.fixture
def fresh(feed):
    def make(*, counter=False):
        watch = feed(Robust(), counters=np.array([counter]))
        return watch, watch.state["rows"][0]

    return make


def near(value):
    return pytest.approx(value, rel=1e-5)


# The first samples.


def test_the_first_score_is_that_of_the_61st_sample(fresh):
    for before, is_scored in ((59, False), (60, True)):
        watch, _ = fresh()
        watch(([0.0, 1.0] * 30)[:before])
        assert (watch([50.0])[0] > 0) == is_scored
        assert np.isnan(watch.expected()[0]) == (before + 1 < 60)


def test_the_first_sample_is_the_level(fresh):
    watch, row = fresh()
    assert watch([7.0]).tolist() == [0.0]
    told = {name: row[name] for name in ("level", "value", "raw", "spread", "count", "interval")}
    assert told == {"level": 7, "value": 7, "raw": 7, "spread": 0, "count": 1, "interval": 0}


def test_infinite_samples_count_as_1e290_and_no_residual_between_them_is_cut(fresh):
    watch, row = fresh()
    watch([np.inf])
    assert row["level"] == 1e290
    watch([-np.inf])
    assert row["level"] == pytest.approx(0, abs=1e280)
    assert row["spread"] == near(1e290)


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize(("learnt", "level"), [(7, 100 / 8), (8, 3 / 9)])
def test_a_residual_is_cut_off_at_three_spreads_from_the_ninth_sample_on(
    settled, learnt, level, side
):
    watch, row = settled(count=learnt)
    watch([side * 100.0])
    assert row["level"] == near(side * level)
    assert row["count"] == learnt + 1


def test_the_cut_of_a_residual_is_as_wide_as_the_spread(settled):
    watch, row = settled(spread=2.0)
    watch([100.0])
    assert row["level"] == near(3 * 2 / 301)
    assert row["spread"] - 2 == near((3 * 2 - 2) / 1801)


# Counters.


def test_a_counter_has_a_level_from_its_second_sample_on(fresh):
    watch, row = fresh(counter=True)
    assert watch([1000.0]).tolist() == [0.0]
    assert row["count"] == 0
    assert watch([1030.0], step_ms=10_000).tolist() == [0.0]
    assert (row["level"], row["value"], row["raw"], row["count"]) == (3, 3, 1030, 1)


def test_a_counter_that_falls_is_neither_scored_nor_learnt(settled):
    watch, row = settled(counter=1, raw=500.0, level=3.0, value=3.0)
    assert watch([20.0]).tolist() == [0.0]
    assert (row["raw"], row["level"], row["count"]) == (20, 3, 1_000_000)
    watch([23.0])
    assert (row["raw"], row["level"], row["count"]) == (23, 3, 1_000_001)


def test_a_counter_that_stands_still_has_the_rate_zero(settled):
    watch, row = settled(counter=1, raw=500.0, level=3.0, value=3.0)
    (score,) = watch([500.0])
    assert score == near(0.35 * 3 / 5)
    assert row["value"] == 0


@pytest.mark.parametrize("earlier_ms", [0, 5])
def test_a_sample_that_is_not_newer_scores_zero_and_changes_nothing(settled, earlier_ms):
    watch, row = settled()
    before = row.copy()
    watch.now_ms -= 1000 + earlier_ms
    assert watch([100.0]).tolist() == [0.0]
    assert row == before


# Level, spread and interval.


@pytest.mark.parametrize(
    ("seconds", "of_level", "of_spread"),
    [
        (1, 1 / 301, 1 / 1801),
        (4, 4 / 304, 4 / 1804),
        (10, 10 / 610, 10 / 3610),  # 60 and 360 samples are longer than 300 s and 1800 s
    ],
)
@pytest.mark.parametrize("side", [-1, 1])
def test_level_and_spread_forget_by_time_or_by_samples(settled, seconds, of_level, of_spread, side):
    watch, row = settled(interval=seconds)
    watch([2.0 * side], step_ms=seconds * 1000)
    assert row["level"] == near(side * 2 * of_level)
    assert row["spread"] - 1 == near((2 - 1) * of_spread)
    watch, row = settled(interval=seconds)
    watch([0.5 * side], step_ms=seconds * 1000)
    assert row["spread"] - 1 == near((0.5 - 1) * of_spread)


def test_an_anomalous_sample_is_learnt_at_a_tenth(settled):
    watch, row = settled(drift=6.0, run=2)
    assert watch([100.0]) > 1
    assert row["level"] == near(0.1 * 3 / 301)
    assert row["spread"] - 1 == near(0.1 * (3 - 1) / 1801)


def test_the_interval_follows_by_a_twentieth_and_a_gap_by_four_intervals(settled):
    for step_ms, interval in ((1500, 1.025), (4000, 1.15), (5000, 1.15), (500, 0.975)):
        watch, row = settled()
        watch([0.0], step_ms=step_ms)
        assert row["interval"] == near(interval)


# What a deviation is measured by.


@pytest.mark.parametrize(
    ("fields", "scale"),
    [
        ({"spread": 3.0}, 3.0),
        ({"level": 2000.0, "spread": 1.0}, 2.0),
        ({"level": -2000.0, "spread": 1.0}, 2.0),
        ({"spread": 0.0}, 1e-12),
        ({"spread": 0.1, "step": 4.0, "changes": 4.0}, 0.5 * 4 * 0.5**2),
        ({"spread": 0.1, "step": 4.0, "changes": 8.0}, 0.5 * 4),
        ({"spread": 0.1, "step": 4.0, "changes": 80.0}, 0.5 * 4),
    ],
)
@pytest.mark.parametrize("side", [-1, 1])
def test_a_deviation_is_measured_by_the_largest_of_its_scales(settled, fields, scale, side):
    watch, row = settled(**fields)
    watch([row["level"] + side * 2 * scale])
    assert row["drift"] == near(side * 0.35 * 2)


# Runs of outliers.


@pytest.mark.parametrize("side", [-1, 1])
def test_the_cut_doubles_with_each_outlier_from_the_fourth_in_a_row_on(settled, side):
    """Cut at 8, 8, 8, 16, 32; each moves the drift by 0.35 of the way, a score of 1 is at 5."""
    watch, row = settled(**TAIL_AT_REST)
    by_hand = [2.8, 4.62, 5.803, 9.37195, 17.2917675]
    for i, drift in enumerate(by_hand):
        (score,) = watch([side * 1e6])
        assert row["run"] == side * (i + 1)
        assert row["drift"] == near(side * drift)
        assert score == near(drift / 5)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_deviation_within_the_doubled_cut_counts_as_it_is(settled, side):
    watch, row = settled(run=3 * side, drift=6.0 * side)
    watch([side * 10.0])
    assert row["drift"] == near(side * (6 + 0.35 * (10 - 6)))


@pytest.mark.parametrize("side", [-1, 1])
def test_eight_spreads_are_an_outlier_a_little_less_is_not(settled, side):
    watch, row = settled()
    watch([side * 8.0])
    assert row["run"] == side
    watch, row = settled()
    watch([side * 7.99])
    assert row["run"] == 0


@pytest.mark.parametrize("side", [-1, 1])
def test_a_run_is_of_one_side_and_counts_to_60(settled, side):
    watch, row = settled(run=59 * side)
    watch([side * 1e6, side * 1e6])
    assert row["run"] == 60 * side
    watch([side * -1e6])
    assert row["run"] == -side


@pytest.mark.parametrize("side", [-1, 1])
def test_after_a_run_the_drift_starts_from_the_cut(settled, side):
    watch, row = settled(run=20 * side, drift=1000.0 * side)
    watch([0.0])
    assert row["run"] == 0
    assert row["drift"] == near(side * 8 * 0.65)


# The tail.


def test_a_drift_as_large_as_the_tail_lowers_it(settled):
    watch, row = settled(drift=2.5, over=7)
    watch([2.5])
    assert row["drift"] == 2.5
    assert row["over"] == 0
    assert row["tail"] == near(2.5 * (1 - 0.02 * 0.002))
    assert row["tail"] < 2.5


@pytest.mark.parametrize(("tail", "after"), [(1.2, 1.2), (1.21, 1.21 * (1 - 4e-5))])
def test_the_tail_falls_to_1_2_at_least(settled, tail, after):
    watch, row = settled(tail=tail)
    watch([0.0])
    assert row["tail"] == pytest.approx(after, rel=2e-7)


@pytest.mark.parametrize(("tail", "after"), [(40.0, 40.8), (49.9, 50.0), (50.0, 50.0)])
def test_the_tail_rises_to_50_at_most(settled, tail, after):
    watch, row = settled(tail=tail, drift=1000.0, run=10)
    watch([1e6])
    assert row["tail"] == near(after)


@pytest.mark.parametrize(("over", "after", "tail"), [(0, 1, 2.55), (24, 25, 2.55), (25, 25, 2.5)])
def test_the_tail_rises_25_times_in_a_row(settled, over, after, tail):
    watch, row = settled(over=over, drift=4.0)
    watch([4.0])
    assert row["over"] == after
    assert row["tail"] == near(tail)


# A new level.


@pytest.mark.parametrize(
    ("seconds", "needed"),
    [(1, 1800), (30, 1800), (100, 6000)],  # 60 samples where they are longer than half an hour
)
def test_an_anomaly_longer_than_half_an_hour_or_60_samples_is_the_new_level(
    settled, seconds, needed
):
    watch, row = settled(
        interval=seconds, anomalous_s=needed - seconds, run=30, drift=100.0, **TAIL_AT_REST
    )
    assert watch([40.0], step_ms=seconds * 1000) > 1
    assert row["anomalous_s"] == needed
    assert row["level"] < 2
    assert watch([40.0], step_ms=seconds * 1000) > 1
    assert (row["level"], row["value"], row["count"]) == (40, 40, 1)
    assert (row["run"], row["drift"], row["anomalous_s"]) == (0, 0, 0)
    assert row["tail"] == 2.5


def test_usual_samples_take_their_time_off_that_of_the_anomaly(settled):
    watch, row = settled(anomalous_s=4.5)
    for seconds_left in (3.5, 2.5, 1.5, 0.5, 0.0, 0.0):
        watch([0.0])
        assert row["anomalous_s"] == seconds_left


def test_a_score_of_one_is_not_yet_an_anomaly(settled):
    watch, row = settled(anomalous_s=10.0, drift=5.0, **TAIL_AT_REST)
    assert watch([5.0]).tolist() == [1.0]
    assert row["anomalous_s"] == 9
    assert watch([6.0]) > 1
    assert row["anomalous_s"] == 10


# How often a series changes, and by how much. Of the changes, half are forgotten in a day.


@pytest.mark.parametrize(
    ("before", "sample", "changes", "step"),
    [
        (0, 1.0, 0, 2.0),  # no change
        (6, 1.0, 3, 2.0),
        (0, 11.0, 1, 10.0),  # the first one
        (0, 0.5, 1, 0.5),
        (6, 11.0, 3 + 1, 2 + (10 - 2) / 4),
        (6, -9.0, 3 + 1, 2 + (10 - 2) / 4),
        (14, 101.0, 7 + 1, 2 + (100 - 2) / 8),  # the eighth: in full
        (16, 101.0, 8 + 1, 2 + (8 - 2) / 9),  # cut off at four steps
        (16, 8.0, 8 + 1, 2 + (7 - 2) / 9),
    ],
)
def test_changes_are_counted_and_their_usual_size_learnt(settled, before, sample, changes, step):
    watch, row = settled(interval=86_400.0, changes=before, value=1.0, step=2.0)
    watch([sample], step_ms=DAY_MS)
    assert row["changes"] == changes
    assert row["step"] == near(step)
    assert row["value"] == sample


def test_at_most_100_changes_are_counted(settled):
    watch, row = settled(changes=98.0)
    watch([1.0, 2.0, 3.0, 4.0])
    assert row["changes"] == 100
    watch([4.0])
    assert row["changes"] == near(100 * 86_400 / 86_401)
    assert row["changes"] < 100
