"""A small fleet for tests of the worker: one rule file, targets with two series, frames."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import numpy as np

from pipeline.detect.table import default_detector
from pipeline.model import Frame, Series, SeriesDictionary, Target, labels_from
from pipeline.rules.files import load_rules
from pipeline.rules.rule import RuleGroup
from pipeline.settings import DetectSettings, RulesSettings, Settings
from pipeline.stream.fleetwide import Fleetwide
from pipeline.stream.forward import Forwarding
from pipeline.stream.partition import Partition, PartitionSettings
from pipeline.stream.scoring import Scoring
from pipeline.stream.verdicts import Verdicts, select_rules

RULES = """\
groups:
  - name: local
    interval: 10s
    rules:
      - alert: TooMuch
        expr: load > 10
        labels: {severity: critical}
      - alert: TooLong
        expr: load > 10
        for: 5s
  - name: global
    interval: 10s
    rules:
      - alert: SumTooMuch
        expr: sum by (job) (load) > 25
"""
START_MS = 1_700_000_000_000
SETTINGS = msgspec.structs.replace(
    Settings(), detect=DetectSettings(warmup_samples=5), rules=RulesSettings(prometheus="2")
)


def groups(folder: Path, rules: str = RULES) -> tuple[RuleGroup, ...]:
    (folder / "rules.yml").write_text(rules, encoding="utf-8")
    # The name of the file is part of what gives a group's phase on the grid: let it be the same.
    with contextlib.chdir(folder):
        loaded, problems = load_rules(["rules.yml"], "2")
    assert problems == []
    return loaded


def dictionary(instance: str) -> SeriesDictionary:
    common = {"job": "node", "instance": instance}
    return SeriesDictionary(
        Target("node", instance, "/metrics"),
        (
            Series(labels_from({**common, "__name__": "load"}), "gauge"),
            Series(labels_from({**common, "__name__": "other"}), "gauge"),
        ),
    )


def frame(instance: str, at_s: float, load: float, other: float = 1.0) -> Frame:
    names = dictionary(instance)
    return Frame(names.target.id, names.id, START_MS + int(at_s * 1000), np.array([load, other]))


def partition(
    folder: Path,
    number: int = 0,
    settings: Settings = SETTINGS,
    rules: str = RULES,
    publish_above: float = 0.5,
) -> Partition:
    """A partition with the rules above; the global one is owned by partition 3."""
    loaded = groups(folder, rules)
    fleetwide = select_rules(loaded, "global", settings)
    return Partition(
        number,
        Scoring(default_detector(settings.detect), frozenset()),
        Verdicts(select_rules(loaded, "local", settings), settings),
        Forwarding({3: fleetwide.plans}),
        PartitionSettings("w", publish_above, resend_ms=30_000, tick_timeout_ms=30_000),
    )


def fleetwide(
    folder: Path, partitions: int = 2, settings: Settings = SETTINGS, rules: str = RULES
) -> Fleetwide:
    chosen = select_rules(groups(folder, rules), "global", settings)
    return Fleetwide(Verdicts(chosen, settings), partitions, 30_000)
