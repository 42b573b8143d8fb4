"""Prometheus rule files to rule groups, and every problem of every file in one report.

What promtool accepts is accepted, with a warning where it helps nobody; what it refuses is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from yaml.nodes import Node

from pipeline.durations import parse_duration
from pipeline.model import Labels
from pipeline.promql.parse import compile_expr
from pipeline.promql.plan import Plan, PromqlError, Version
from pipeline.rules.document import Document, Problem, Severity
from pipeline.rules.paths import rule_files as rule_files
from pipeline.rules.rule import AlertingRule, RecordingRule, RuleGroup
from pipeline.rules.templates import check_template

_GROUP_FIELDS = {
    "2": ("name", "interval", "limit", "rules"),
    "3": ("name", "interval", "query_offset", "limit", "labels", "rules"),
}
_RULE_FIELDS = (
    "record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations",
)  # fmt: skip
_ALERT_ONLY = ("for", "keep_firing_for", "annotations")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
_MAX_DURATION_MS = (2**63 - 1) // 1_000_000
"""Go counts durations in nanoseconds, in 64 bits."""


def load_rules(
    files: Sequence[str], prometheus: Version
) -> tuple[tuple[RuleGroup, ...], list[Problem]]:
    """The groups of all files, without the rules that can't be used, and every problem.

    The rules can be used as they are if no problem is an error.
    """
    groups: list[RuleGroup] = []
    problems: list[Problem] = []
    for file in files:
        try:
            content = Path(file).read_bytes()
        except OSError as error:
            problems.append(Problem(file, 0, "", f"can't be read: {error.strerror}"))
            continue
        found, wrong = read_rules(content, file, prometheus)
        groups += found
        problems += wrong
    return tuple(groups), problems


def read_rules(
    content: bytes, file: str, prometheus: Version
) -> tuple[list[RuleGroup], list[Problem]]:
    """The groups and problems of one file's content."""
    reader = _Reader(file, prometheus)
    groups = reader.groups(content)
    return groups, sorted(reader.document.problems)


class _Reader:
    """Walks one file; collects problems in `document`."""

    def __init__(self, file: str, prometheus: Version) -> None:
        self.document = Document(file)
        self._file = file
        self._prometheus: Version = prometheus

    def groups(self, content: bytes) -> list[RuleGroup]:
        root = self.document.parse(content)
        if root is None:
            return []
        entries = self.document.fields(root, "", ("groups",), "a mapping with the key groups")
        items = self.document.items(entries.get("groups"), "groups", "a list of groups")
        groups: list[RuleGroup] = []
        names: dict[str, int] = {}
        for index, node in enumerate(items):
            group = self._group(node, f"groups[{index}]")
            if group.name in names:
                self.document.fault(
                    node, f"groups[{index}].name",
                    f'group "{group.name}" stands twice (first: groups[{names[group.name]}])',
                )  # fmt: skip
                continue
            names[group.name] = index
            groups.append(group)
        self._warn_of_duplicates(groups)
        return groups

    def _group(self, node: Node, path: str) -> RuleGroup:
        document = self.document
        fields = document.fields(node, path, _GROUP_FIELDS[self._prometheus], "a group")
        name = document.text(fields.get("name"), f"{path}.name")
        if not name:
            document.fault(node, f"{path}.name", "expected a name, got nothing")
        labels = self._labels(fields.get("labels"), f"{path}.labels")
        limit = document.whole_number(fields.get("limit"), f"{path}.limit")
        offset_ms = self._duration(fields.get("query_offset"), f"{path}.query_offset")
        if limit > 0:
            document.warn(fields["limit"], f"{path}.limit", "is not applied yet")
        if offset_ms:
            document.warn(fields["query_offset"], f"{path}.query_offset", "is not applied yet")
        key = f"{self._file};{name}"
        rules: list[AlertingRule | RecordingRule] = []
        seen: dict[str, int] = {}
        items = document.items(fields.get("rules"), f"{path}.rules", "a list of rules")
        for index, item in enumerate(items):
            rule = self._rule(item, f"{path}.rules[{index}]", labels, key, seen)
            if rule is not None:
                rules.append(rule)
        return RuleGroup(
            file=self._file,
            name=name,
            interval_ms=self._duration(fields.get("interval"), f"{path}.interval"),
            limit=limit,
            query_offset_ms=offset_ms,
            rules=tuple(rules),
        )

    def _rule(
        self, node: Node, path: str, group_labels: dict[str, str], group: str, seen: dict[str, int]
    ) -> AlertingRule | RecordingRule | None:
        """A rule, or None when it can't be used (and a problem says why)."""
        document = self.document
        before = _errors(document.problems)
        fields = document.fields(node, path, _RULE_FIELDS, "a rule")
        alert = document.text(fields.get("alert"), f"{path}.alert")
        record = document.text(fields.get("record"), f"{path}.record")
        expr = document.text(fields.get("expr"), f"{path}.expr", "an expression")
        if bool(alert) == bool(record):
            came = f'"{alert}" and "{record}"' if alert else "neither"
            document.fault(node, path, f"expected either alert or record, got {came}")
        plan = self._plan(fields.get("expr") or node, f"{path}.expr", expr)
        labels = self._labels(fields.get("labels"), f"{path}.labels")
        merged = tuple(sorted({**group_labels, **labels}.items()))
        line = node.start_mark.line + 1
        rule: AlertingRule | RecordingRule | None = None
        if record and not alert:
            self._recording_only(fields, path, record)
            if plan is not None:
                rule = RecordingRule(
                    name=record, expr=expr, plan=plan, labels=merged, group=group, line=line
                )
        else:
            durations = [
                self._duration(fields.get(name), f"{path}.{name}")
                for name in ("for", "keep_firing_for")
            ]
            annotations = self._annotations(fields.get("annotations"), f"{path}.annotations")
            for kind, texts in (("labels", labels), ("annotations", annotations)):
                for name, text in texts.items():
                    place = f"{path}.{kind}.{name}"
                    self._template(fields[kind], place, text, alert)
            if plan is not None:
                number = seen[alert] = seen.get(alert, 0) + 1
                rule = AlertingRule(
                    name=alert, expr=expr, plan=plan, for_ms=durations[0],
                    keep_firing_for_ms=durations[1], labels=merged,
                    annotations=tuple(sorted(annotations.items())), group=group,
                    key=f"{group};{alert};{number}", line=line,
                )  # fmt: skip
        return rule if _errors(document.problems) == before else None

    def _plan(self, node: Node, path: str, expr: str) -> Plan | None:
        if not expr:
            self.document.fault(node, path, "expected an expression, got nothing")
            return None
        try:
            return compile_expr(expr, self._prometheus)
        except PromqlError as error:
            place = "" if error.position is None else f" at character {error.position + 1}"
            self.document.fault(node, path, f"{error.message}{place}, in {_shortened(expr)}")
            return None

    def _recording_only(self, fields: dict[str, Node], path: str, name: str) -> None:
        for field in _ALERT_ONLY:
            if field in fields and self._is_set(field, fields[field], f"{path}.{field}"):
                self.document.fault(
                    fields[field], f"{path}.{field}", "a recording rule can't have this field"
                )
        legacy = self._prometheus == "2"
        if legacy and not _METRIC_NAME.fullmatch(name):
            self.document.fault(
                fields["record"], f"{path}.record", f'expected a metric name, got "{name}"'
            )
        elif any(brace in name for brace in "{}"):
            self.document.fault(
                fields["record"], f"{path}.record",
                f'expected a metric name without braces, got "{name}"; labels belong under labels',
            )  # fmt: skip

    def _is_set(self, field: str, node: Node, path: str) -> bool:
        if field == "annotations":
            return bool(self._annotations(node, path))
        return self._duration(node, path) != 0

    def _labels(self, node: Node | None, path: str) -> dict[str, str]:
        return self._texts(node, path, "__name__")

    def _annotations(self, node: Node | None, path: str) -> dict[str, str]:
        return self._texts(node, path, None)

    def _texts(self, node: Node | None, path: str, reserved: str | None) -> dict[str, str]:
        """A mapping of label names to texts."""
        texts: dict[str, str] = {}
        if node is None:
            return texts
        entries = self.document.mapping(node, path, "a mapping of names to texts")
        for name, value in entries.items():
            text = self.document.text(value, f"{path}.{name}")
            if name == reserved or not self._is_label_name(name):
                self.document.fault(value, path, f'expected a label name, got "{name}"')
            else:
                texts[name] = text
        return texts

    def _is_label_name(self, name: str) -> bool:
        return bool(_LABEL_NAME.fullmatch(name) if self._prometheus == "2" else name)

    def _duration(self, node: Node | None, path: str) -> int:
        """Milliseconds; 0 when the field isn't there."""
        if node is None or node.tag.endswith(":null"):
            return 0
        before = len(self.document.problems)
        text = self.document.text(node, path, "a duration")
        if len(self.document.problems) > before:
            return 0
        try:
            value_ms = round(parse_duration(text) * 1000)
        except ValueError as error:
            self.document.fault(node, path, str(error))
            return 0
        if value_ms > _MAX_DURATION_MS:
            self.document.fault(node, path, f"expected at most 292 years, got {text!r}")
            return 0
        return value_ms

    def _template(self, node: Node, path: str, text: str, alert: str) -> None:
        wrong = check_template(text, f"__alert_{alert}", self._prometheus)
        if wrong:
            self.document.fault(node, path, wrong)

    def _warn_of_duplicates(self, groups: Iterable[RuleGroup]) -> None:
        """Prometheus accepts them; of two recorded series only one is kept."""
        seen: dict[tuple[str, Labels], RecordingRule | AlertingRule] = {}
        for group in groups:
            for rule in group.rules:
                first = seen.setdefault((rule.name, rule.labels), rule)
                if first is not rule:
                    self.document.problems.append(
                        Problem(
                            self._file, rule.line, group.name,
                            f'"{rule.name}" stands twice with the same labels '
                            f"(first in line {first.line})",
                            Severity.WARNING,
                        )
                    )  # fmt: skip


def _errors(problems: Sequence[Problem]) -> int:
    return sum(problem.severity is Severity.ERROR for problem in problems)


def _shortened(expr: str) -> str:
    text = " ".join(expr.split())
    return text if len(text) <= 80 else text[:79] + "…"
