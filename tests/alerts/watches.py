"""A desk on a simulated night: sources that report, and what the on-call person is told."""

from __future__ import annotations

from collections import Counter

import msgspec

from pipeline.alerts.board import Board
from pipeline.alerts.config import load_config
from pipeline.alerts.desk import Desk
from pipeline.alerts.group import Group, LogEntry
from pipeline.alerts.incident import Incident, Report, Source
from pipeline.alerts.marks import Marks
from pipeline.alerts.notification import Integration, Intent
from pipeline.alerts.referee import Case, Jurisdiction, Referee
from pipeline.alerts.route import build_routes
from pipeline.alerts.saved import Changes, Saved
from pipeline.model import fingerprint, labels_from

TREE = """
route: {receiver: ops, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 9h}
receivers: [{name: ops}]
"""
LABELS = labels_from({"alertname": "Down", "job": "j"})
INTERVAL, PATIENCE, LIFETIME, VALID = 15, 30, 60, 240
"""Seconds: of the rule group, of two of them, of a mark, of a firing report."""


def word(source: Source, said: float, since: float, *, ended: float | None = None) -> Report:
    """A source's word at `said` on an alert that fires `since`; times in seconds."""
    return Report(
        fingerprint=fingerprint(LABELS),
        labels=LABELS,
        annotations=(("summary", "s"),),
        starts_at_ms=int(since * 1000),
        ends_at_ms=int((said + VALID if ended is None else ended) * 1000),
        time_ms=int(said * 1000),
        source=source,
    )


def new_desk(now: float) -> Desk:
    config = load_config(TREE, "test.yml")
    integrations = {"ops": (Integration("ops", "webhook", 0, True),)}
    board = Board(build_routes(config.route), integrations, int(now * 1000))
    marks = Marks(2, LIFETIME * 1000, int(now * 1000))
    return Desk(board, Referee(marks, Jurisdiction({}, INTERVAL * 1000)))


class Watch:
    """What happens to a dispatcher, second by second."""

    def __init__(self, start: float) -> None:
        self.desk = new_desk(start)
        self.told: list[tuple[float, str]] = []
        """When a notification went out, and what it said."""
        self.annotations: list[dict[str, str]] = []
        self.ruled: Counter[str] = Counter()
        self.handovers = 0
        self._keys: set[str] = set()
        self._shelf = Shelf()

    def until(self, now: float) -> None:
        """Let timers go off up to `now`."""
        while (due_ms := self.desk.next_due_ms()) <= now * 1000:
            self._work(due_ms)

    def hear(self, now: float, report: Report) -> None:
        self.until(now)
        self.ruled[self.desk.report(report, int(now * 1000))] += 1
        self._work(int(now * 1000))

    def mark(self, now: float, evaluated: float) -> None:
        self.until(now)
        for partition in (0, 1):
            self.desk.marks.hear(partition, int(evaluated * 1000), int(now * 1000))

    def killed(self, now: float) -> None:
        """Start again at `now` from what was stored, with deliveries that had not ended."""
        self.desk = new_desk(now)
        for intent in self.desk.restore(self._shelf.load(), int(now * 1000)):
            self._deliver(intent, int(now * 1000))
        self._work(int(now * 1000))

    def states(self) -> list[str]:
        return [state for _, state in self.told]

    def _work(self, now_ms: int) -> None:
        self.handovers += len(self.desk.marks.handovers(now_ms))
        self.ruled.update(self.desk.settle(now_ms))
        intents = self.desk.board.flush_due(now_ms)
        self._shelf.write(self.desk.take_changes())
        for intent in intents:
            self._deliver(intent, now_ms)
        self.desk.clean_up(now_ms)
        self._shelf.write(self.desk.take_changes())

    def _deliver(self, intent: Intent, now_ms: int) -> None:
        self.desk.board.finish(intent, True, now_ms)
        if intent.id in self._keys:  # the receiver takes each key once
            return
        self._keys.add(intent.id)
        for alert in intent.message.alerts:
            self.told.append((now_ms / 1000, alert.status))
            self.annotations.append(dict(alert.annotations))


class Shelf:
    """A store in memory: records as JSON, changed by changes alone."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[int | str, bytes]] = {
            name: {} for name in ("alerts", "cases", "groups", "log", "outbox")
        }

    def write(self, changes: Changes) -> None:
        for name, table in self._tables.items():
            for key, record in getattr(changes, name).items():
                if record is None:
                    table.pop(key, None)
                else:
                    table[key] = msgspec.json.encode(record)

    def load(self) -> Saved:
        read = msgspec.json.decode
        tables = self._tables
        return Saved(
            alerts=[read(record, type=Incident) for record in tables["alerts"].values()],
            cases={int(key): read(record, type=Case) for key, record in tables["cases"].items()},
            groups=[read(record, type=Group) for record in tables["groups"].values()],
            log={str(key): read(record, type=LogEntry) for key, record in tables["log"].items()},
            outbox=[read(record, type=Intent) for record in tables["outbox"].values()],
        )
