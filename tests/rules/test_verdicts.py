"""The same rules and samples through a real Prometheus' unit tests and through evaluator and table.

Evaluated on the grid alone, every alert has the same labels, annotations and times of change; on
arrival none is later.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml

from pipeline.model import (
    ABSENT,
    STALE,
    FrameBatch,
    Labels,
    Series,
    SeriesDictionary,
    Target,
    labels_from,
)
from pipeline.promql.evaluate import Evaluator
from pipeline.promql.history import histories
from pipeline.rules.alerting import report_active
from pipeline.rules.files import read_rules
from pipeline.rules.rendering import Expander
from pipeline.rules.rule import AlertingRule
from pipeline.rules.table import AlertTable, Transition

STEP_S = 15
STEPS = 80

RULES = """
groups:
- name: g
  rules:
  - {alert: Down, expr: up == 0, for: 1m, labels: {severity: high, alertname: Other},
     annotations: {summary: '{{ $labels.instance }} {{ $labels.__name__ }} is {{ $value }}'}}
  - {alert: AtOnce, expr: x > 2, annotations: {summary: '{{ $value | humanize }}'}}
  - {alert: Kept, expr: x > 3, for: 30s, keep_firing_for: 1m, labels: {a: ''}}
  - {alert: Level, expr: x > 3, labels: {level: '{{ $value }}'}}
  - {alert: Slope, expr: 'rate(n[1m]) < 5', for: 45s, labels: {of: '{{ $labels.instance }}'}}
  - {alert: Missing, expr: 'up == 1 unless on (instance) x', for: 30s}
"""

SERIES = {
    'up{instance="a:1"}': "1x5 0x11 1x20 0 1 0x2 1x40",
    'up{instance="b:1"}': "1x10 0x3 stale _x20 0x15 1x30",
    'x{instance="a:1",a="1"}': "0 1 2 3 4 5 4 3 2 1 0x10 _x3 3 4 stale _x3 4x8 0x2 4x20 1x30",
    'n{instance="a:1"}': "0+150x20 0+30x20 0+150x20",
}


def expanded(notation: str) -> list[float | None]:
    """Values of promtool's notation, as far as it is used above; `stale` as -1."""
    values: list[float | None] = []
    for item in notation.split():
        first, _, times = item.partition("x")
        count = int(times) + 1 if times else 1
        if first == "_":
            values += [None] * (int(times) if times else 1)
        elif first == "stale":
            values.append(-1.0)
        else:
            start, _, step = first.partition("+")
            values += [float(start) + float(step or 0) * i for i in range(count)]
    return [*values, *([None] * STEPS)][:STEPS]


class Shown(NamedTuple):
    """A firing alert as promtool compares it."""

    name: str
    labels: Labels
    annotations: Labels


def targets() -> dict[str, SeriesDictionary]:
    """One dictionary for each instance."""
    found: dict[str, list[Series]] = {}
    for text in SERIES:
        name, _, rest = text.partition("{")
        pairs = dict(pair.split("=") for pair in rest.rstrip("}").split(","))
        labels = {key: value.strip('"') for key, value in pairs.items()}
        series = Series(labels_from({"__name__": name, **labels}))
        found.setdefault(labels["instance"], []).append(series)
    return {
        instance: SeriesDictionary(Target("j", instance, "/metrics"), tuple(series))
        for instance, series in found.items()
    }


def batch_at(step: int, dictionaries: dict[str, SeriesDictionary]) -> FrameBatch:
    columns = [expanded(notation) for notation in SERIES.values()]
    names = list(SERIES)
    values, offsets = [], [0]
    for instance in dictionaries:
        for name, column in zip(names, columns, strict=True):
            if f'instance="{instance}"' in name:
                value = column[step]
                bits = ABSENT if value is None else STALE if value == -1.0 else np.array([value])
                values.append(bits)
        offsets.append(len(values))
    return FrameBatch(
        np.array([d.target.id for d in dictionaries.values()], dtype=np.uint64),
        np.array([d.id for d in dictionaries.values()], dtype=np.uint64),
        np.full(len(dictionaries), step * STEP_S * 1000, dtype=np.int64),
        np.array(offsets, dtype=np.int64),
        np.concatenate(values),
    )


class Run:
    """All steps: on the grid at each of them, and before that on arrival if asked to.

    At the step `restart_at` everything is replaced by what a snapshot of it gives.
    """

    def __init__(self, arrival: bool, restart_at: int = -1, same_rules: bool = True) -> None:
        groups, problems = read_rules(RULES.encode(), "r.yml", "2")
        assert problems == []
        self.rules = [rule for rule in groups[0].rules if isinstance(rule, AlertingRule)]
        self.names = [rule.name for rule in self.rules]
        self.firing: list[list[Shown]] = []
        self.transitions: list[Transition] = []
        self._expander = Expander({}, "", "2")
        self._dictionaries = targets()
        self._start()
        for step in range(STEPS):
            if step == restart_at:
                self._restart(same_rules)
            self._step(step, arrival)

    def _start(self) -> None:
        self._table = AlertTable(self.rules, self._expander)
        self._evaluator = Evaluator([rule.plan for rule in self.rules], self._table, "2")

        for instance, dictionary in self._dictionaries.items():
            self._evaluator.add_dictionary(dictionary, instance)

    def _restart(self, same_rules: bool) -> None:
        alerts, evaluated = self._table.cut(), self._evaluator.cut()
        self._start()
        if same_rules:
            self._table.restore(alerts, *self._evaluator.restore(evaluated))
            return
        self._table.restore(alerts)
        for history in histories(evaluated, self._dictionaries.values()):
            self._evaluator.load_target(history)

    def _step(self, step: int, arrival: bool) -> None:
        time_ms = step * STEP_S * 1000
        batch = batch_at(step, self._dictionaries)
        table, evaluator = self._table, self._evaluator
        if arrival:
            outcome = evaluator.ingest_and_evaluate(batch)
            self.transitions += table.advance(outcome, evaluator.instances, on_grid=False)
        else:
            evaluator.ingest(batch)
        outcome = evaluator.evaluate_at(time_ms)
        self.transitions += table.advance(outcome, evaluator.instances, on_grid=True)
        self.transitions += table.expire(time_ms)
        reports = [
            report_active(alert, self._expander, time_ms, 0) for alert in table.report(time_ms)
        ]
        self.firing.append(
            [Shown(dict(r.labels)["alertname"], r.labels, r.annotations) for r in reports]
        )


def promtool_test(run: Run) -> dict[str, object]:
    """A unit test that expects at every step exactly what `run` shows as firing."""
    cases = []
    for step, firing in enumerate(run.firing):
        for name in run.names:
            alerts = [
                {
                    "exp_labels": {k: v for k, v in alert.labels if k != "alertname"},
                    "exp_annotations": dict(alert.annotations),
                }
                for alert in firing
                if alert.name == name
            ]
            case = {"alertname": name, "eval_time": f"{step * STEP_S}s", "exp_alerts": alerts}
            cases.append(case)
    series = [{"series": name, "values": values} for name, values in SERIES.items()]
    return {
        "rule_files": ["r.yml"],
        "evaluation_interval": f"{STEP_S}s",
        "tests": [{"interval": f"{STEP_S}s", "input_series": series, "alert_rule_test": cases}],
    }


@pytest.mark.parts
def test_promtool_sees_the_same_alerts_fire_at_the_same_instants(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    run = Run(arrival=False)
    fired = {alert.name for step in run.firing for alert in step}
    assert fired == set(run.names), "each rule has to fire some time, else this compares nothing"
    (tmp_path / "r.yml").write_text(RULES, encoding="utf-8")
    (tmp_path / "t.yml").write_text(yaml.safe_dump(promtool_test(run)), encoding="utf-8")
    done = subprocess.run(
        [program("promtool"), "test", "rules", "t.yml"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_on_arrival_no_alert_fires_later_than_on_the_grid() -> None:
    on_grid, on_arrival = Run(arrival=False), Run(arrival=True)
    for step in range(STEPS):
        missing = set(on_grid.firing[step]) - set(on_arrival.firing[step])
        assert not missing, f"step {step}"


@pytest.mark.parametrize("restart_at", [7, 13, 31, 48, 60])
@pytest.mark.parametrize("same_rules", [True, False])
def test_a_restart_from_a_snapshot_changes_no_verdict(restart_at: int, same_rules: bool) -> None:
    through, restarted = Run(arrival=True), Run(True, restart_at, same_rules)
    assert [(t.kind, t.time_ms, t.labels) for t in restarted.transitions] == [
        (t.kind, t.time_ms, t.labels) for t in through.transitions
    ]
    assert [set(step) for step in restarted.firing] == [set(step) for step in through.firing]
