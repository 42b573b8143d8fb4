"""Instant selectors: matchers, lookback, staleness."""

from __future__ import annotations

import math

import pytest

SERIES = {
    'm{d="sda",host="a"}': [1.0],
    'm{d="sdb",host="b"}': [2.0],
    'm{host="c"}': [3.0],
    'other{d="sda"}': [4.0],
}


@pytest.mark.parametrize(
    ("selector", "values"),
    [
        ("m", [1, 2, 3]),
        ('m{d="sda"}', [1]),
        ('m{d!="sda"}', [2, 3]),
        ('m{d=""}', [3]),
        ('m{d=~"sd."}', [1, 2]),
        ('m{d=~"sd"}', []),
        ('m{d=~"sda|sdb"}', [1, 2]),
        ('m{d!~"sd.*"}', [3]),
        ('m{d=~".*"}', [1, 2, 3]),
        ('m{d=~".+"}', [1, 2]),
        ('{d="sda"}', [1, 4]),
        ('{__name__=~"m|other",d="sda"}', [1, 4]),
        ('{__name__!="m",d="sda"}', [4]),
        ("missing", []),
    ],
)
def test_matchers(ask, selector, values) -> None:
    assert sorted(ask(SERIES, selector, 0).values()) == values


def test_dot_matches_a_newline_in_version_3_only(ask) -> None:
    series = {'m{d="a\nb"}': [1.0]}
    assert len(ask(series, 'm{d=~"a.b"}', 0, version="3")) == 1
    assert len(ask(series, 'm{d=~"a.b"}', 0, version="2")) == 0


def test_the_newest_sample_counts_for_five_minutes(one) -> None:
    series = {"m": [1.0, 2.0]}
    assert one(series, "m", 59) == 1
    assert one(series, "m", 60) == 2
    assert one(series, "m", 359.999) == 2
    assert one(series, "m", 360, version="2") == 2
    assert one(series, "m", 360, version="3") is None
    assert one(series, "m", 360.001, version="2") is None


def test_an_absent_column_does_not_end_a_series_but_the_stale_marker_does(one) -> None:
    assert one({"m": [1.0, None, None]}, "m", 120) == 1
    assert one({"m": [1.0, None, "stale"]}, "m", 119) == 1
    assert one({"m": [1.0, None, "stale"]}, "m", 120) is None
    assert one({"m": [1.0, "stale", None]}, "m", 120) is None
    assert one({"m": [1.0, "stale", 5.0]}, "m", 120) == 5
    assert one({"m": [1.0, *[None] * 9]}, "m", 540) is None
    assert one({"m": [None]}, "m", 0) is None


def test_a_nan_sample_is_there(one) -> None:
    assert math.isnan(one({"m": [math.nan]}, "m", 0))
