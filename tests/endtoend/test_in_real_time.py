"""One slow path as an engineer lives it, beside a real Prometheus that has the same rules."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from tests.endtoend.stack import Fault, Stack, fleet_metric, lowest, metric, running_stack

pytestmark = [pytest.mark.parts, pytest.mark.timeout(360), pytest.mark.usefixtures("jars")]

NODES = ("validator-000", "business-000", "channel-000")
DOWN_NODE = "channel-000"
SERVICE_DOWN = {"alertname": "AurigraphServiceDown", "node": DOWN_NODE}
SCRAPE_INTERVAL = 5.0
HOLD = 60.0
"""The rule's `for`."""
GRID_INTERVAL = 15.0
"""Of the rule's group: how often Prometheus evaluates it."""
WARMUP_SAMPLES = 30
"""Half the default, so that the tests need not wait for a minute."""
NETWORK_FEED = "/api/v11/live/stream"
MESSAGES_A_SECOND = 2
"""At most, of that feed; one of them has the throughput."""
SLACK = 3.0
"""Seconds that a busy machine may add to what is written in the rules."""


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]
) -> Iterator[Stack]:
    program("prometheus")
    folder = tmp_path_factory.mktemp("real-time")
    more = {"WATCHKEEPER_DETECT_WARMUP_SAMPLES": str(WARMUP_SAMPLES)}
    with running_stack(folder, speed=1, nodes=len(NODES), more=more) as stack:
        yield stack


@pytest.fixture(scope="module")
def node_down(stack: Stack) -> Fault:
    """Begun by the first test that asks for it, ended by the last one."""
    return stack.begin_fault("node-down", DOWN_NODE)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_drop_of_throughput_is_told_within_ten_seconds(stack: Stack):
    enough = (WARMUP_SAMPLES + 5) * MESSAGES_A_SECOND

    def warm() -> bool:
        messages = [
            fleet_metric(stack.collector, "websocket_messages_total", feed=NETWORK_FEED, node=node)
            for node in NODES
        ]
        watermark = lowest(stack.worker, "watchkeeper_watermark_timestamp_seconds")
        return min(messages) > enough and abs(time.time() - watermark) < SLACK

    stack.until(warm, "the worker knows the network's throughput", within=120)
    wanted = {"alertname": "AnomalousThroughput"}
    assert not stack.receiver.told("firing", wanted)
    with stack.fault("tps-drop") as fault:
        post = stack.until_told("firing", wanted, within=30)
    assert post.time_s - fault.started_at <= 10.0
    assert post.notification.alerts[0].starts_at.timestamp() - fault.started_at <= 10.0


def test_service_down_is_pending_as_soon_as_a_scrape_fails(stack: Stack, node_down: Fault):
    (alert,) = stack.until(
        lambda: stack.worker_alerts(SERVICE_DOWN), "pending", SCRAPE_INTERVAL + SLACK
    )
    assert alert.state == "pending"
    assert 0.0 <= seconds(alert.active_at) - node_down.started_at <= SCRAPE_INTERVAL + 0.5
    assert not stack.receiver.told("firing", SERVICE_DOWN)


@pytest.mark.usefixtures("node_down")
def test_prometheus_has_the_same_labels_and_annotations(stack: Stack):
    (theirs,) = stack.until(
        lambda: stack.worker_alerts(SERVICE_DOWN, stack.prometheus),
        "Prometheus has the alert",
        SCRAPE_INTERVAL + GRID_INTERVAL + SLACK,
    )
    (ours,) = stack.worker_alerts(SERVICE_DOWN)
    assert ours.labels == theirs.labels
    assert ours.annotations == theirs.annotations


@pytest.mark.usefixtures("node_down")
def test_it_fires_a_minute_after_the_scrape_that_failed(stack: Stack):
    post = stack.until_told("firing", SERVICE_DOWN, HOLD + 2 * SCRAPE_INTERVAL + SLACK)
    (alert,) = post.notification.alerts
    (ours,) = stack.worker_alerts(SERVICE_DOWN)
    assert ours.state == "firing"
    assert HOLD <= alert.starts_at.timestamp() - seconds(ours.active_at) <= HOLD + SCRAPE_INTERVAL
    assert post.time_s - alert.starts_at.timestamp() <= SLACK


@pytest.mark.usefixtures("node_down")
def test_what_prometheus_reports_too_is_one_alert_and_one_notification(stack: Stack):
    stack.until(
        lambda: metric(
            stack.dispatcher, "watchkeeper_alerts_received_total", source="backstop"
        ) > 0,
        "Prometheus reports the alert",
        HOLD + SCRAPE_INTERVAL + GRID_INTERVAL + SLACK,
    )  # fmt: skip
    assert len(stack.dispatcher_alerts(SERVICE_DOWN)) == 1
    assert len(stack.receiver.told("firing", SERVICE_DOWN)) == 1


@pytest.mark.usefixtures("node_down")
def test_killed_worker_comes_back_and_the_alert_is_still_the_same(stack: Stack):
    (before,) = stack.worker_alerts(SERVICE_DOWN)
    stack.kill_worker()
    reports = functools.partial(
        metric, stack.dispatcher, "watchkeeper_alerts_received_total", source="worker"
    )
    heard = reports()
    (after,) = stack.until(
        lambda: stack.worker_alerts(SERVICE_DOWN), "the next worker has the alert", within=90
    )
    assert after == before
    stack.until(lambda: reports() > heard, "the next worker reports it", within=30)
    assert len(stack.dispatcher_alerts(SERVICE_DOWN)) == 1
    assert len(stack.receiver.told("firing", SERVICE_DOWN)) == 1


@pytest.mark.usefixtures("node_down")
def test_the_end_is_told_once_prometheus_would_say_so_too(stack: Stack):
    (fired,) = stack.receiver.told("firing", SERVICE_DOWN)
    stack.end_fault("node-down")
    ended = stack.until_told("resolved", SERVICE_DOWN, SCRAPE_INTERVAL + GRID_INTERVAL + SLACK)
    assert ended.notification.alerts[0].starts_at == fired.notification.alerts[0].starts_at
    assert stack.dispatcher_alerts(SERVICE_DOWN) == []
    stack.until(
        lambda: not stack.worker_alerts(SERVICE_DOWN, stack.prometheus),
        "Prometheus sees the end",
        SCRAPE_INTERVAL + GRID_INTERVAL + SLACK,
    )
    assert len(stack.receiver.told("firing", SERVICE_DOWN)) == 1
    assert len(stack.receiver.told("resolved", SERVICE_DOWN)) == 1
