"""The interval at which each alert's rule group is evaluated, by the alert's name.

Read from the same rule files that worker and Prometheus have, but without compiling a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import yaml

from pipeline.durations import parse_duration


class _Rule(msgspec.Struct):
    alert: str = ""


class _Group(msgspec.Struct):
    interval: str = ""
    rules: list[_Rule] = []


class _File(msgspec.Struct):
    groups: list[_Group] = []


def read_intervals_ms(files: Sequence[str], default_ms: int, problems: list[str]) -> dict[str, int]:
    """Of groups with an alert of the same name the longest interval; what can't be read is noted.

    `watchkeeper check` says what is wrong with a file, and the worker refuses it.
    """
    intervals: dict[str, int] = {}
    for file in files:
        try:
            document = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
            groups = msgspec.convert(document, _File).groups
            for group in groups:
                interval_ms = _interval_ms(group.interval, default_ms)
                for rule in group.rules:
                    if rule.alert:
                        known_ms = intervals.get(rule.alert, 0)
                        intervals[rule.alert] = max(known_ms, interval_ms)
        except (OSError, ValueError, yaml.YAMLError) as error:
            problems.append(f"{file}: expected rules: {error}")
    return intervals


def _interval_ms(text: str, default_ms: int) -> int:
    return round(parse_duration(text) * 1000) if text else default_ms
