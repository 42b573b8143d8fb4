"""The shipped heartbeat: it fires as long as all partitions are evaluated, and only so long."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from pipeline.model import Alert, Evaluated
from pipeline.rules.files import load_rules
from pipeline.settings import Settings
from pipeline.stream.fleetwide import Fleetwide
from pipeline.stream.main import owned_rules
from pipeline.stream.verdicts import Verdicts

SHIPPED = Path(__file__).parents[2] / "alert_rules/watchkeeper.yml"
START_MS, PARTITIONS = 1_763_900_000_000, 4


def owner() -> Fleetwide:
    settings = Settings()
    groups, problems = load_rules([str(SHIPPED)], "3")
    assert problems == []
    (rules,) = owned_rules(groups, settings).values()  # one group, one owner
    return Fleetwide(Verdicts(rules, settings), PARTITIONS, resend_ms=30_000)


def marks(subject: Fleetwide, second: int, partitions: range) -> list[Alert]:
    """What comes of marks of these partitions, of the heartbeat."""
    steps = [
        subject.mark(Evaluated("w", number, START_MS + second * 1000)) for number in partitions
    ]
    return [
        alert
        for step in steps
        for alert in step.alerts
        if dict(alert.labels)["alertname"] == "WatchkeeperHeartbeat"
    ]


def test_it_fires_at_the_first_instant_of_its_grid_and_is_repeated():
    subject = owner()
    told = [(second, marks(subject, second, range(PARTITIONS))) for second in range(120)]
    at = [second for second, alerts in told if alerts]
    assert at[0] <= 15
    assert {alert.state for _, alerts in told for alert in alerts} == {"firing"}
    gaps = [later - earlier for earlier, later in pairwise(at)]
    assert gaps, "it is repeated"
    assert max(gaps) <= 31
    (start,) = {alert.starts_at_ms for _, alerts in told for alert in alerts}
    assert START_MS <= start <= START_MS + 15_000


def test_it_stops_when_one_partition_is_no_longer_evaluated():
    subject = owner()
    for second in range(60):
        marks(subject, second, range(PARTITIONS))
    silent = [marks(subject, second, range(PARTITIONS - 1)) for second in range(60, 180)]
    assert not any(silent)
