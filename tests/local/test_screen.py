from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from pipeline.local.receiver import Arrival, Notification, NotifiedAlert
from pipeline.local.screen import line, render
from pipeline.local.snapshot import Numbers, ShownAlert, Snapshot, TargetGroup
from pipeline.local.supervisor import PartState

BUSY = Snapshot(
    event_time_s=1_700_000_000.0,
    speed=60.0,
    parts=(
        PartState("kafka", "running"),
        PartState("worker", "paused", 1, "ended with exit code 1; starts again after 1 s"),
    ),
    numbers=Numbers(
        samples=1.0, anomalies=12.0, lag=7.0, delivered=5.0, latency_p50_s=0.012, latency_p99_s=0.03
    ),
    samples_per_second=12345.6,
    targets=(TargetGroup("ledger", "/q/metrics", 24, 25), TargetGroup("node", "/metrics", 1, 1)),
    down=("validator-003",),
    pending=(ShownAlert("HighLatency", "validator-001", "medium", 42.0),),
    firing=(ShownAlert("AurigraphServiceDown", "validator-003", "critical", 65.0),),
    arrivals=(
        Arrival(
            0.0,
            Notification(
                "firing",
                (
                    NotifiedAlert(
                        "firing",
                        {"alertname": "AurigraphServiceDown", "node": "validator-003"},
                        {"summary": "no answer"},
                    ),
                    NotifiedAlert("firing"),
                ),
            ),
        ),
        Arrival(0.0, Notification("resolved", ())),
    ),
    missing=("prometheus is not installed",),
    hints=tuple((f"hint {i}", f"command {i}") for i in range(7)),
)


def shown(snapshot: Snapshot, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    assert isinstance(console.file, io.StringIO)
    console.print(render(snapshot, height))
    return console.file.getvalue().rstrip("\n").splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60)])
def test_everything_fits_and_the_essentials_are_there(width: int, height: int):
    lines = shown(BUSY, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for essential in (
        "2023-11-14T22:13:20 UTC", "speed 60", "● kafka", "worker: ended with exit code 1",
        "12,346 samples/s", "12 anomalies", "lag 7", "p50 12 p99 30 ms",
        "targets 25/26 up", "/q/metrics ledger", "24/25", "down: validator-003",
        "alerts: 1 firing, 1 pending", "for 1m05s", "AurigraphServi", "in 42s", "HighLatency",
        "notifications: 5 delivered", "AurigraphServiceDown on validator-003: no answer (+1)",
        "resolved", "prometheus is not installed", "hint 0", "command 0", "hint 1",
    ):  # fmt: skip
        assert essential in text


def test_more_alerts_than_fit_are_counted():
    many = msgspec.structs.replace(
        BUSY,
        firing=tuple(ShownAlert(f"A{i}", "x", "", float(i)) for i in range(30)),
        pending=(),
    )
    text = "\n".join(shown(many, 80, 24))
    assert "A0" in text
    assert "alerts: 30 firing" in text
    listed = sum(f" A{i} " in text for i in range(30))
    assert f"and {30 - listed} more" in text


def test_before_anything_answers_there_are_dashes_and_no_zeros():
    nothing = Snapshot(event_time_s=0.0, speed=1.0, parts=(PartState("kafka", "starting"),))
    text = "\n".join(shown(nothing, 80, 24))
    assert "– samples/s" in text
    assert "notifications: – delivered" in text
    assert "speed" not in text
    assert line(nothing) == (
        "time=1970-01-01T00:00:00 parts=0/1 targets=0/0 samples_per_s=– anomalies=– pending=0 "
        "firing=0 delivered=– p50_ms=– p99_ms=– lag=–"
    )


def test_the_line_has_the_same_figures():
    assert line(BUSY) == (
        "time=2023-11-14T22:13:20 parts=1/2 targets=25/26 samples_per_s=12346 anomalies=12 "
        "pending=1 firing=1 delivered=5 p50_ms=12 p99_ms=30 lag=7"
    )
