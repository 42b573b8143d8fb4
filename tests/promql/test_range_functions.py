"""Functions over a window, against numbers worked out by hand (see the formulas beside them)."""

from __future__ import annotations

import math

import pytest

NAN, INF = math.nan, math.inf
COUNTER = {"c": [float(10 * i) for i in range(20)]}
"""10 a minute from 0."""


def test_rate_extrapolates_to_both_ends_in_version_2(one) -> None:
    # At 330 s, [5m] holds the samples of 60 ... 300 s: 10 to 50, 40 in 240 s. 30 s to each end,
    # both below 1.1 * 60 s, so 40 * 300 / 240 in 300 s.
    assert one(COUNTER, "rate(c[5m])", 330, version="2") == pytest.approx(50 / 300, rel=1e-15)
    assert one(COUNTER, "increase(c[5m])", 330, version="2") == pytest.approx(50, rel=1e-15)


def test_range_is_closed_in_version_2_and_left_open_in_version_3(one) -> None:
    assert one(COUNTER, "count_over_time(c[5m])", 300, version="2") == 6
    assert one(COUNTER, "count_over_time(c[5m])", 300, version="3") == 5
    assert one(COUNTER, "count_over_time(c[1m])", 300, version="3") == 1
    assert one(COUNTER, "rate(c[1m])", 300, version="3") is None


def test_rate_does_not_extrapolate_a_counter_below_zero(one) -> None:
    # Samples 2, 12, 22 at 0, 60, 120 s; at 120 s in [170s] the window begins 50 s before the
    # first: zero lies only 120 * 2 / 20 = 12 s before it.
    series = {"c": [2.0, 12.0, 22.0]}
    expected = 20 * (120 + 12) / 120
    assert one(series, "increase(c[170s])", 120, version="3") == pytest.approx(expected, rel=1e-15)
    assert one(series, "increase(c[170s])", 120, version="2") == pytest.approx(expected, rel=1e-15)
    # delta knows no zero: the whole 50 s.
    assert one(series, "delta(c[170s])", 120) == pytest.approx(20 * 170 / 120, rel=1e-15)


def test_rate_reaches_half_an_interval_where_the_series_begins_late(one) -> None:
    # [10m] at 120 s: the first sample is 480 s after the window's begin, so half of 60 s is added.
    series = {"c": [100.0, 110.0, 120.0]}
    assert one(series, "increase(c[10m])", 120) == pytest.approx(20 * 150 / 120, rel=1e-15)
    # In version 2 the clamp at zero comes first; it is farther away than the window here.
    assert one(series, "increase(c[10m])", 120, version="2") == pytest.approx(25, rel=1e-15)


def test_rate_reaches_half_an_interval_where_the_series_ended_early(one) -> None:
    # Last sample at 120 s, window to 320 s: 200 s >= 66 s, so 30 s are added there; and 20 s at the
    # beginning (window from 20 s; first sample at 60 s lies 40 s after it, below 66 s: all 40 s).
    series = {"c": [1000.0, 1010.0, 1020.0]}
    expected = 10 * (60 + 40 + 30) / 60
    assert one(series, "increase(c[300s])", 320, version="2") == pytest.approx(expected, rel=1e-15)
    assert one(series, "increase(c[300s])", 320, version="3") == pytest.approx(expected, rel=1e-15)


def test_version_2_clamps_to_zero_before_it_compares_with_the_threshold(one) -> None:
    # Samples 1, 11, 21: zero lies 6 s before the first (120 * 1 / 20); the window begins 480 s
    # before it. Version 2 adds 6 s (below the threshold), version 3 takes 30 s and clamps to 6 s.
    series = {"c": [1.0, 11.0, 21.0]}
    assert one(series, "increase(c[10m])", 120, version="2") == pytest.approx(20 * 126 / 120)
    assert one(series, "increase(c[10m])", 120, version="3") == pytest.approx(20 * 126 / 120)


def test_rate_counts_a_reset_from_zero(one) -> None:
    # 50, 60, 5, 15 at 0 ... 180 s: growth 10 + 5 + 10 = 25 over 180 s, nothing to extrapolate.
    series = {"c": [50.0, 60.0, 5.0, 15.0]}
    assert one(series, "increase(c[3m])", 180, version="2") == pytest.approx(25, rel=1e-15)
    assert one(series, "resets(c[3m])", 180, version="2") == 1
    assert one(series, "changes(c[3m])", 180, version="2") == 3


def test_resets_of_long_ago_do_not_count(one) -> None:
    series = {"c": [50.0, 5.0, *(float(10 + i) for i in range(10))]}
    assert one(series, "resets(c[3m])", 600) == 0
    assert one(series, "resets(c[11m])", 600) == 1
    assert one(series, "increase(c[3m])", 600, version="2") == pytest.approx(3, rel=1e-15)


def test_functions_skip_what_is_absent_or_stale(one) -> None:
    series = {"c": [None, 1.0, None, 4.0, "stale", 2.0, None]}
    assert one(series, "count_over_time(c[10m])", 360) == 3
    assert one(series, "sum_over_time(c[10m])", 360) == 7
    assert one(series, "min_over_time(c[10m])", 360) == 1
    assert one(series, "max_over_time(c[10m])", 360) == 4
    assert one(series, "last_over_time(c[10m])", 360) == 2
    assert one(series, "changes(c[10m])", 360) == 2
    assert one(series, "resets(c[10m])", 360) == 1
    # 1 to 4, reset to 2: growth 3 + 2 = 5 over 240 s; average distance 120 s. Before the first
    # sample: zero is 240 * 1 / 5 = 48 s away; after the last 60 s, below the threshold.
    assert one(series, "increase(c[10m])", 360) == pytest.approx(5 * (240 + 48 + 60) / 240)
    # Instant rates: the last two samples are 4 (180 s) and 2 (300 s).
    assert one(series, "irate(c[10m])", 360) == pytest.approx(2 / 120, rel=1e-15)
    assert one(series, "idelta(c[10m])", 360) == -2


def test_instant_rate_takes_the_last_two_samples(one) -> None:
    assert one(COUNTER, "irate(c[5m])", 300) == pytest.approx(10 / 60, rel=1e-15)
    assert one(COUNTER, "idelta(c[5m])", 300) == 10
    assert one({"c": [1.0]}, "irate(c[5m])", 0) is None


def test_an_empty_window_gives_nothing(one) -> None:
    for function in ("count_over_time", "rate", "deriv", "min_over_time", "changes"):
        assert one(COUNTER, f"{function}(c[1m])", 19 * 60 + 600) is None
        assert one({"c": [None, None]}, f"{function}(c[5m])", 60) is None


def test_averages_and_deviations(one) -> None:
    series = {"g": [1.0, 2.0, 3.0, 4.0]}
    assert one(series, "avg_over_time(g[10m])", 180) == 2.5
    assert one(series, "stdvar_over_time(g[10m])", 180) == 1.25
    assert one(series, "stddev_over_time(g[10m])", 180) == math.sqrt(1.25)
    assert one(series, "present_over_time(g[10m])", 180) == 1


@pytest.mark.parametrize("version", ["2", "3"])
def test_average_survives_what_a_sum_would_overflow(one, version) -> None:
    series = {"g": [1e308, 1e308, 1e308]}
    assert one(series, "avg_over_time(g[10m])", 120, version=version) == pytest.approx(1e308)
    assert one(series, "sum_over_time(g[10m])", 120, version=version) == INF


@pytest.mark.parametrize("version", ["2", "3"])
def test_average_of_infinities(one, version) -> None:
    average = "avg_over_time(g[10m])"
    assert one({"g": [INF, 1.0, INF]}, average, 120, version=version) == INF
    assert math.isnan(one({"g": [INF, -INF, 1.0]}, average, 120, version=version))
    assert math.isnan(one({"g": [INF, NAN, 1.0]}, average, 120, version=version))


def test_sums_are_compensated(one) -> None:
    assert one({"g": [1.0, 1e100, 1.0, -1e100]}, "sum_over_time(g[10m])", 180) == 2


def test_nan_is_an_ordinary_value(one) -> None:
    series = {"g": [NAN, 2.0, NAN, 1.0]}
    assert one(series, "min_over_time(g[10m])", 180) == 1
    assert one(series, "max_over_time(g[10m])", 180) == 2
    assert math.isnan(one(series, "sum_over_time(g[10m])", 180))
    assert one(series, "changes(g[10m])", 180) == 3
    assert one({"g": [NAN, NAN]}, "changes(g[10m])", 60) == 0
    assert math.isnan(one({"g": [NAN, NAN]}, "min_over_time(g[10m])", 60))
    assert math.isnan(one({"g": [NAN, NAN, NAN]}, "deriv(g[10m])", 120))


def test_regression_of_a_line(one) -> None:
    series = {"g": [100.0 - 3 * i for i in range(10)]}
    assert one(series, "deriv(g[10m])", 540) == pytest.approx(-0.05, rel=1e-12)
    # 100 - .05 * 540 now, another 1000 s later.
    assert one(series, "predict_linear(g[10m], 1000)", 540) == pytest.approx(23, rel=1e-12)
    # With an offset the line is still followed from the time of evaluation.
    predicted = one(series, "predict_linear(g[10m] offset 2m, 1000)", 540)
    assert predicted == pytest.approx(23, rel=1e-12)
    assert one(series, "deriv(g[30s])", 540) is None


def test_regression_of_a_constant(one) -> None:
    assert one({"g": [7.0] * 5}, "deriv(g[10m])", 240) == 0
    assert one({"g": [7.0] * 5}, "predict_linear(g[10m], 60)", 240) == 7
    assert one({"g": [7.0, None, 7.0]}, "predict_linear(g[10m], 60)", 120) == 7
    assert math.isnan(one({"g": [INF] * 3}, "deriv(g[10m])", 120))
    assert math.isnan(one({"g": [INF, None, INF]}, "predict_linear(g[10m], 60)", 120))


def test_long_regression_is_exact_too(one) -> None:
    # More samples than are scanned: a line with noise that is symmetric about it.
    series = {"g": [5e9 + 2.0 * i + (1 if i % 2 else -1) for i in range(800)]}
    slope = one(series, "deriv(g[600s])", 799, interval_s=1)
    # Noise alternating +-1 over an even number n of samples adds 6 / (n^2 - 1) to the slope.
    assert slope == pytest.approx(2 + 6 / (600**2 - 1), rel=1e-9)


def test_name_is_dropped_except_by_last_over_time(ask) -> None:
    assert list(ask(COUNTER, "rate(c[5m])", 300)) == [(("instance", "i"),)]
    assert list(ask(COUNTER, "last_over_time(c[5m])", 300)) == [
        (("__name__", "c"), ("instance", "i"))
    ]


def test_two_series_that_differ_in_the_name_only_collide(ask) -> None:
    series = {"a": [1.0, 2.0], "b": [1.0, 2.0]}
    expr = 'rate({__name__=~"a|b"}[5m])'
    assert ask(series, expr, 60) == "several elements of a result have the same labels"
    assert ask({"a": [1.0, 2.0], "b": [None, None]}, expr, 60, version="2") != {}


def test_offset_shifts_the_window(one) -> None:
    assert one(COUNTER, "last_over_time(c[5m] offset 5m)", 600) == 50
    assert one(COUNTER, "c offset 5m", 600) == 50
    assert one(COUNTER, "c offset -5m", 300, known_s=600) == 100
