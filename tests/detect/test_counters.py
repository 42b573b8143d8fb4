from __future__ import annotations

import pytest

from pipeline.detect.counters import is_counter
from pipeline.model import Series


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("http_requests_total", "counter", True),
        ("jvm_gc_pause_seconds_sum", "counter", True),
        ("latency_seconds_bucket", "histogram", True),
        ("latency_seconds_count", "histogram", True),
        ("latency_seconds_sum", "histogram", True),
        ("latency_seconds", "histogram", False),
        ("latency_seconds_count", "summary", True),
        ("latency_seconds_bucket", "summary", False),
        ("latency_seconds", "summary", False),
        ("requests_total", "unknown", True),
        ("requests", "unknown", False),
        ("files_total", "gauge", False),
        ("queue_sum", "gauge", False),
    ],
)
def test_what_only_grows_is_told_from_what_goes_up_and_down(name, kind, expected):
    assert is_counter(Series((("__name__", name),), kind)) is expected
