"""What the dispatcher has to keep, and what of it has changed."""

from __future__ import annotations

import msgspec

from pipeline.alerts.group import Group, LogEntry
from pipeline.alerts.incident import Incident
from pipeline.alerts.notification import Intent
from pipeline.alerts.referee import Case


class Changes(msgspec.Struct):
    """What is new since the last call; None: deleted.

    Alerts and cases have their fingerprint as key, log entries `pipeline.alerts.board.log_key`;
    `offsets` say, for each topic, which record is to be read next.
    """

    alerts: dict[int, Incident | None] = msgspec.field(default_factory=dict)
    cases: dict[int, Case | None] = msgspec.field(default_factory=dict)
    groups: dict[str, Group | None] = msgspec.field(default_factory=dict)
    log: dict[str, LogEntry | None] = msgspec.field(default_factory=dict)
    outbox: dict[str, Intent | None] = msgspec.field(default_factory=dict)
    offsets: dict[str, int] = msgspec.field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__struct_fields__)


class Saved(msgspec.Struct):
    """The dispatcher's state as the store gives it back."""

    alerts: list[Incident] = msgspec.field(default_factory=list)
    cases: dict[int, Case] = msgspec.field(default_factory=dict)
    groups: list[Group] = msgspec.field(default_factory=list)
    log: dict[str, LogEntry] = msgspec.field(default_factory=dict)
    outbox: list[Intent] = msgspec.field(default_factory=list)
    offsets: dict[str, int] = msgspec.field(default_factory=dict)
