"""Values from prometheus/template/template_test.go, and the edges of each range by hand."""

from __future__ import annotations

import math

import pytest

from pipeline.rules.humanize import (
    four_digits,
    humanize,
    humanize1024,
    humanize_duration,
    humanize_percentage,
    humanize_timestamp,
)

NOT_FINITE = [(math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf")]


@pytest.mark.parametrize(("value", "expected"), NOT_FINITE)
def test_what_is_no_number_is_named(value: float, expected: str) -> None:
    for function in (four_digits, humanize, humanize1024, humanize_duration, humanize_timestamp):
        assert function(value) == expected
    assert humanize_percentage(value) == f"{expected}%"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (999.0, "999"),
        (1000.0, "1k"),
        (1234567.0, "1.235M"),
        (-1234567.0, "-1.235M"),
        (0.12, "120m"),
        (-0.001, "-1m"),
        (1e-30, "1e-06y"),
        (1e30, "1e+06Y"),
    ],
)
def test_metric_prefixes(value: float, expected: str) -> None:
    assert humanize(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (-0.5, "-0.5"),
        (1023.0, "1023"),
        (1024.0, "1ki"),
        (-2048.0, "-2ki"),
        (1048576.0, "1Mi"),
        (2.0**100, "1.049e+06Yi"),
    ],
)
def test_binary_prefixes(value: float, expected: str) -> None:
    assert humanize1024(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0s"),
        (1.0, "1s"),
        (59.99, "59.99s"),
        (60.0, "1m 0s"),
        (3599.9, "59m 59s"),
        (3600.0, "1h 0m 0s"),
        (86400.0, "1d 0h 0m 0s"),
        (-86461.5, "-1d 0h 1m 1s"),
        (-60.0, "-1m 0s"),
        (-1.5, "-1.5s"),
        (0.1, "100ms"),
        (0.0001, "100us"),
        (-0.0001, "-100us"),
    ],
)
def test_durations(value: float, expected: str) -> None:
    assert humanize_duration(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "1970-01-01 00:00:00 +0000 UTC"),
        (1435065584.128, "2015-06-23 13:19:44.128 +0000 UTC"),
        (1435065584.1, "2015-06-23 13:19:44.1 +0000 UTC"),
    ],
)
def test_timestamps(value: float, expected: str) -> None:
    assert humanize_timestamp(value) == expected


def test_a_timestamp_that_does_not_fit_is_an_error() -> None:
    """2^63 ns are 9223372036.85… s."""
    assert humanize_timestamp(9223372036.0).startswith("2262-04-11")
    with pytest.raises(ValueError, match="overflows int64"):
        humanize_timestamp(9223372037.0)
    with pytest.raises(ValueError, match="overflows int64"):
        humanize_timestamp(-9223372037.0)


def test_percentages() -> None:
    assert humanize_percentage(0.5) == "50%"
    assert humanize_percentage(-0.1234567) == "-12.35%"
