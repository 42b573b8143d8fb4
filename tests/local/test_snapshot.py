from __future__ import annotations

import pytest

from pipeline.local.snapshot import (
    TargetGroup,
    group_targets,
    quantile,
    rate,
    read_numbers,
    read_samples,
    total,
)

WORKER = """\
# TYPE watchkeeper_samples_processed counter
watchkeeper_samples_processed_total 1200.0
# TYPE watchkeeper_anomalies counter
watchkeeper_anomalies_total 3.0
# TYPE watchkeeper_kafka_lag_records gauge
watchkeeper_kafka_lag_records{topic="telemetry",partition="0"} 2.0
watchkeeper_kafka_lag_records{topic="telemetry",partition="1"} 5.0
"""
DISPATCH = """\
# TYPE watchkeeper_notifications counter
watchkeeper_notifications_total{receiver="a",outcome="delivered"} 4.0
watchkeeper_notifications_total{receiver="b",outcome="delivered"} 1.0
watchkeeper_notifications_total{receiver="a",outcome="refused"} 9.0
# TYPE watchkeeper_notification_latency_seconds histogram
watchkeeper_notification_latency_seconds_bucket{le="0.01"} 2.0
watchkeeper_notification_latency_seconds_bucket{le="0.02"} 6.0
watchkeeper_notification_latency_seconds_bucket{le="+Inf"} 10.0
watchkeeper_notification_latency_seconds_sum 1.0
watchkeeper_notification_latency_seconds_count 10.0
"""
LATENCY = "watchkeeper_notification_latency_seconds"


def test_numbers_are_summed_over_the_series_that_match():
    numbers = read_numbers(read_samples(WORKER), read_samples(DISPATCH), 1.0)
    assert (numbers.samples, numbers.anomalies, numbers.lag) == (1200.0, 3.0, 7.0)
    assert numbers.delivered == 5.0


def test_what_nobody_told_is_not_zero():
    assert read_numbers(None, None, 1.0).lag is None
    assert total(read_samples(WORKER), "watchkeeper_samples_processed_total", a="b") is None


def test_latency_is_told_only_in_real_time():
    assert read_numbers(None, read_samples(DISPATCH), 60.0).latency_p50_s is None


def test_quantiles_are_linear_within_a_bucket_as_in_prometheus():
    # rank 5 of 10 lies in the second bucket, of which 4 are: .01 + .01 * (5 - 2) / 4
    assert quantile(read_samples(DISPATCH), LATENCY, 0.5) == pytest.approx(0.0175)
    # rank 1 of the first bucket's 2: half of it
    assert quantile(read_samples(DISPATCH), LATENCY, 0.1) == pytest.approx(0.005)
    # the last bucket has no upper bound
    assert quantile(read_samples(DISPATCH), LATENCY, 0.99) == 0.02


def test_a_histogram_without_observations_has_no_quantile():
    assert quantile(read_samples(WORKER), LATENCY, 0.5) is None
    assert quantile(read_samples('x_bucket{le="+Inf"} 0.0\n'), "x", 0.5) is None


@pytest.mark.parametrize(
    ("before", "now", "seconds", "expected"),
    [
        (100.0, 160.0, 2.0, 30.0),
        (100.0, 10.0, 2.0, None),  # the process began anew
        (None, 10.0, 2.0, None),
        (10.0, None, 2.0, None),
        (10.0, 20.0, 0.0, None),
    ],
)
def test_rate(before: float | None, now: float | None, seconds: float, expected: float | None):
    assert rate(before, now, seconds) == expected


def test_targets_are_counted_by_job_and_feed_and_those_down_are_named():
    groups, down = group_targets(
        [
            ({"job": "b", "instance": "i1", "node": "n1"}, "/m", "up"),
            ({"job": "b", "instance": "i2"}, "/m", "down"),
            ({"job": "b", "instance": "i1", "node": "n1"}, "/ws", "down"),
            ({"job": "a", "instance": "i3"}, "/m", "unknown"),
        ]
    )
    assert groups == (
        TargetGroup("a", "/m", 0, 1),
        TargetGroup("b", "/m", 1, 2),
        TargetGroup("b", "/ws", 0, 1),
    )
    assert down == ("i2", "n1")
