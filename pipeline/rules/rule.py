"""Rule groups as they stand in files, checked and compiled."""

from __future__ import annotations

from itertools import chain
from typing import Literal

import msgspec

from pipeline.model import Labels, hash64
from pipeline.promql.plan import Plan


class AlertingRule(msgspec.Struct, frozen=True, kw_only=True):
    """An `alert:` of a rule file. Durations are 0 when the file doesn't name them."""

    name: str
    expr: str
    plan: Plan
    for_ms: int
    keep_firing_for_ms: int
    labels: Labels
    """The rule's own over those of its group, unrendered, sorted by name."""
    annotations: Labels
    group: str
    """`file;group`."""
    key: str
    """Names the rule across restarts and edits elsewhere in its file: `file;group;alert;n`, the
    n-th of this name in the group."""
    line: int

    @property
    def identity(self) -> str:
        """What has to be the same for a rule's alerts to go on: place, name, expression, labels."""
        return f"{self.key};{hash64(self.expr, self.plan.version, *chain(*self.labels)):016x}"

    @property
    def scope(self) -> Literal["local", "global"]:
        """Whether one instance's data decides it.

        A rule that sets `instance` itself lets alerts of several instances fall together; that can
        only be seen where all of them are.
        """
        names = {name for name, _ in self.labels}
        return "global" if "instance" in names else self.plan.scope


class RecordingRule(msgspec.Struct, frozen=True, kw_only=True):
    """A `record:` of a rule file."""

    name: str
    expr: str
    plan: Plan
    labels: Labels
    group: str
    line: int


class RuleGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Rules that are evaluated together, in order."""

    file: str
    name: str
    interval_ms: int
    """0: the default interval."""
    limit: int
    query_offset_ms: int
    rules: tuple[AlertingRule | RecordingRule, ...]

    @property
    def key(self) -> str:
        return f"{self.file};{self.name}"
