"""What an alert table tells of its alerts."""

from __future__ import annotations

from typing import Literal

import msgspec

from pipeline.model import Labels
from pipeline.rules.rule import AlertingRule

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


class SavedTimer(msgspec.Struct, frozen=True):
    state: int
    active_at: int
    keep_since: int
    seen: int


class SavedAlert(msgspec.Struct, frozen=True):
    """One alert in a snapshot, independent of slots and of the order of rules."""

    rule: str
    """`AlertingRule.key`."""
    instance: str
    series: Labels
    labels: Labels
    state: int
    value: float
    starts_at: int
    ended_at: int
    reported_at: int
    timers: tuple[SavedTimer, SavedTimer]
