"""What an alert table tells of its alerts."""

from __future__ import annotations

from typing import Literal

import msgspec

from pipeline.model import IntArray, Labels
from pipeline.rules.rule import AlertingRule
from pipeline.rules.state import Cells

Kind = Literal["pending", "firing", "resolved", "dropped"]


class Transition(msgspec.Struct, frozen=True):
    """An alert changed its state; `dropped` is the end of one that was only pending."""

    kind: Kind
    rule: AlertingRule
    instance: str
    series: Labels
    labels: Labels
    """Without external labels."""
    time_ms: int
    """Of the evaluation that brought it."""
    reported_at_ms: int
    """Newer than that of any report of this alert before."""
    frame: int
    """Index of the frame in its batch; -1 for an evaluation without one."""
    value: float
    active_at_ms: int
    starts_at_ms: int


class ActiveAlert(msgspec.Struct, frozen=True):
    """An alert that is pending or firing now."""

    state: Literal["pending", "firing"]
    rule: AlertingRule
    instance: str
    series: Labels
    labels: Labels
    value: float
    active_at_ms: int
    starts_at_ms: int


class NamedSlot(msgspec.Struct, frozen=True, array_like=True):
    """Whose alert a slot is, in a copy of all alerts."""

    slot: int
    rule: int
    instance: str
    series: Labels
    labels: Labels
    retired: bool
    """Its series are gone for good."""


class AlertsCut(msgspec.Struct, frozen=True, eq=False):
    """The state of all alerts at one moment."""

    rules: list[str]
    """`AlertingRule.identity` of each rule."""
    cells: Cells
    on_grid_ms: IntArray
    named: list[NamedSlot]
