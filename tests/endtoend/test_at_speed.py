"""A minute of the fleet in a second: every fault is told, and its end, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.settings import KafkaSettings
from tests.endtoend.stack import Stack, metric, running_stack

pytestmark = [pytest.mark.parts, pytest.mark.timeout(360), pytest.mark.usefixtures("jars")]

TOLD_WITHIN = 45.0
PARTITIONS = KafkaSettings().partitions


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("at-speed")
    # At this speed the four minutes for which a report is valid would be four seconds: a worker
    # that is started again needs longer.
    more = {"WATCHKEEPER_WORKER_FIRING_VALID_FOR": "7200"}
    with running_stack(folder, speed=60, nodes=3, more=more) as stack:
        yield stack


@pytest.mark.parametrize(
    ("fault", "node", "alertnames"),
    [
        ("tps-drop", None, ("AnomalousThroughput", "LowTransactionThroughput")),
        ("latency", None, ("HighLatency",)),
        ("error-storm", "validator-000", ("HighErrorRate",)),
        ("websocket-drop", "business-000", ("WebSocketErrors",)),
        ("node-down", "channel-000", ("AurigraphServiceDown",)),
    ],
)
def test_fault_is_told_once_and_so_is_its_end(
    stack: Stack, fault: str, node: str | None, alertnames: tuple[str, ...]
):
    stack.receiver.posts.clear()
    with stack.fault(fault, node):
        fired = {
            name: stack.until_told("firing", {"alertname": name}, TOLD_WITHIN)
            for name in alertnames
        }
    for name, post in fired.items():
        (alert,) = post.notification.alerts
        ended = stack.until_told("resolved", alert.labels, TOLD_WITHIN)
        assert ended.notification.alerts[0].starts_at == alert.starts_at
        assert [p.key for p in stack.receiver.told("firing", alert.labels)] == [post.key], name
        assert [p.key for p in stack.receiver.told("resolved", alert.labels)] == [ended.key], name


def test_second_worker_takes_half_of_the_partitions_and_alerts_go_on(stack: Stack, tmp_path: Path):
    def assigned(worker: str) -> float:
        return metric(worker, "watchkeeper_partitions_assigned", topic="telemetry")

    with stack.second_worker(tmp_path) as second:
        stack.until(
            lambda: assigned(stack.worker) == assigned(second) == PARTITIONS / 2,
            "each worker has half of the partitions",
            within=90,
        )
        # A rule about each instance, and one about the network that needs what both workers have.
        stack.receiver.posts.clear()
        with stack.fault("tps-drop"), stack.fault("node-down", "channel-000"):
            fired = [
                stack.until_told("firing", wanted, TOLD_WITHIN)
                for wanted in (
                    {"alertname": "AurigraphServiceDown", "node": "channel-000"},
                    {"alertname": "LowTransactionThroughput"},
                )
            ]
        for post in fired:
            labels = post.notification.alerts[0].labels
            stack.until_told("resolved", labels, TOLD_WITHIN)
            assert len(stack.receiver.told("firing", labels)) == 1
            assert len(stack.receiver.told("resolved", labels)) == 1
