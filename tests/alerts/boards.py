"""Driving a board: what goes in, and what of it is told when."""

from __future__ import annotations

from pipeline.alerts.board import Board
from pipeline.alerts.incident import Report
from pipeline.alerts.notification import Intent
from pipeline.alerts.saved import Saved

TREE = """
route:
  receiver: ops
  group_by: [alertname]
  group_wait: 1s
  group_interval: 2s
  repeat_interval: 5s
receivers: [{name: ops}]
"""


def accept(board: Board, now_ms: int, *reports: Report) -> None:
    for report in reports:
        board.report(report, now_ms)


def told(intents: list[Intent]) -> list[list[tuple[str, str]]]:
    """Of each message: the `instance` and the status of its alerts."""
    return [
        [(dict(alert.labels).get("instance", ""), alert.status) for alert in intent.message.alerts]
        for intent in intents
    ]


def flush(board: Board, now_ms: int, *, delivered: bool = True) -> list[list[tuple[str, str]]]:
    """Flush what is due, and end its deliveries at once."""
    intents = board.flush_due(now_ms)
    for intent in intents:
        board.finish(intent, delivered, now_ms)
    return told(intents)


def flushes(board: Board, until_ms: int) -> list[tuple[int, list[tuple[str, str]]]]:
    """Every notification up to `until_ms`, with its time."""
    notifications = []
    while (due_ms := board.next_due_ms()) <= until_ms:
        notifications += [(due_ms, message) for message in flush(board, due_ms)]
        board.clean_up(due_ms)
    return notifications


def saved_copy(board: Board) -> Saved:
    return Saved(
        alerts=list(board.alerts.values()),
        groups=list(board.groups.values()),
        log=dict(board.log),
        outbox=list(board.outbox.values()),
    )


FIRING = ("", "firing")
RESOLVED = ("", "resolved")
