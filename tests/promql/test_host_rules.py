"""The rules that the benchmarks use: all of them compile, bind, and are evaluated."""

from __future__ import annotations

import numpy as np
import yaml

from pipeline.model import FrameBatch, Series, SeriesDictionary, Target, labels_from
from pipeline.promql.evaluate import Evaluator
from pipeline.promql.parse import compile_expr


def test_every_host_rule_compiles_and_is_local(shared) -> None:
    path = shared / "data/rules/host-and-hardware/node-exporter.yml"
    groups = yaml.safe_load(path.read_text())["groups"]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    assert len(expressions) >= 35
    for version in ("2", "3"):
        plans = [compile_expr(text, version) for text in expressions]
        assert {plan.scope for plan in plans} == {"local"}


def test_host_rules_on_a_machine_in_trouble(shared, slots) -> None:
    path = shared / "data/rules/host-and-hardware/node-exporter.yml"
    groups = yaml.safe_load(path.read_text())["groups"]
    rules = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
    fs = {"device": "/dev/sda1", "mountpoint": "/", "fstype": "ext4"}
    ram = {"device": "tmpfs", "mountpoint": "/run", "fstype": "tmpfs"}
    columns = [
        ("node_memory_MemAvailable_bytes", {}, 5.0),
        ("node_memory_MemTotal_bytes", {}, 100.0),
        *(("node_filesystem_avail_bytes", labels, 5.0) for labels in (fs, ram)),
        *(("node_filesystem_size_bytes", labels, 100.0) for labels in (fs, ram)),
        *(("node_filesystem_readonly", labels, 0.0) for labels in (fs, ram)),
        *(("node_cpu_seconds_total", {"cpu": c, "mode": "idle"}, None) for c in "01"),
        ("node_hwmon_temp_crit_alarm_celsius", {"chip": "c", "sensor": "t"}, 1.0),
        ("node_systemd_unit_state", {"name": "a.service", "state": "failed"}, 1.0),
        ("node_systemd_unit_state", {"name": "b.service", "state": "failed"}, 0.0),
    ]
    target = Target("node", "h:9100", "/metrics")
    known = SeriesDictionary(
        target,
        tuple(
            Series(labels_from({"__name__": name, "job": "node", "instance": "h:9100", **labels}))
            for name, labels, _ in columns
        ),
    )
    evaluator = Evaluator([compile_expr(text) for text in rules.values()], slots)
    evaluator.add_dictionary(known, "h:9100")
    for k in range(40):
        # The processors are idle a tenth of the time.
        values = np.array([1.5 * k if value is None else value for _, _, value in columns])
        outcome = evaluator.ingest_and_evaluate(
            FrameBatch(
                np.array([target.id], dtype=np.uint64),
                np.array([known.id], dtype=np.uint64),
                np.array([15_000 * k]),
                np.array([0, len(columns)]),
                values,
            )
        )
    names = list(rules)
    firing = {
        names[outcome.plans[i]]: outcome.present[outcome.starts[i] :][: outcome.counts[i]].sum()
        for i in range(len(outcome.plans))
    }
    assert {name: count for name, count in firing.items() if count} == {
        "HostOutOfMemory": 1,
        "HostOutOfDiskSpace": 1,
        "HostHighCpuLoad": 1,
        "HostNodeOvertemperatureAlarm": 1,
        "HostSystemdServiceCrashed": 1,
    }
