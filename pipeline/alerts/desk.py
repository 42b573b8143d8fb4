"""The alert desk: what the sources say comes in, what receivers are to be told goes out.

It joins the referee, who rules on every report, and the board, which tells what is believed. Like
them it knows no clock and no network.
"""

from __future__ import annotations

import msgspec

from pipeline.alerts.board import RESOLVED_KEPT_MS, Board
from pipeline.alerts.incident import Report
from pipeline.alerts.notification import Intent
from pipeline.alerts.referee import Believed, Ignored, Referee, Ruling
from pipeline.alerts.saved import Changes, Saved


class Desk:
    """Referee and board as one state machine. Changed in place, by one owner."""

    def __init__(self, board: Board, referee: Referee) -> None:
        self.board = board
        self.marks = referee.marks
        self._referee = referee

    def restore(self, saved: Saved, now_ms: int) -> list[Intent]:
        """Take in what was saved before a restart; the intents whose delivery had not ended."""
        self._referee.restore(saved.cases)
        intents = self.board.restore(saved, now_ms)
        self.wake(now_ms)
        return intents

    def wake(self, now_ms: int) -> None:
        """After a time in which nobody could be heard: be patient with everybody."""
        self.marks.wake(now_ms)
        self.board.wake(now_ms)

    def report(self, report: Report, now_ms: int) -> Believed | Ignored:
        """Rule on a report, and take it in if it is believed."""
        firing = self.board.fires(report.fingerprint, now_ms)
        ruling = self._referee.hear(report, now_ms, firing=firing)
        self._take(ruling, now_ms)
        return ruling.reason

    def settle(self, now_ms: int) -> list[Believed | Ignored]:
        """Take in the backstop's reports whose doubt has ended; how they were ruled."""
        rulings = self._referee.settle(now_ms)
        for ruling in rulings:
            self._take(ruling, now_ms)
        return [ruling.reason for ruling in rulings]

    def next_due_ms(self) -> int:
        """When `settle`, `flush_due`, `clean_up` or `marks.handovers` has something to do."""
        times = (self.board.next_due_ms(), self._referee.next_due_ms(), self.marks.next_lapse_ms())
        return min(time_ms for time_ms in times if time_ms is not None)

    def clean_up(self, now_ms: int) -> None:
        """Drop what is over, when it is time to."""
        if self.board.clean_up(now_ms):
            self._referee.forget(now_ms - RESOLVED_KEPT_MS)

    def take_changes(self) -> Changes:
        """Everything that changed since the last call."""
        return msgspec.structs.replace(
            self.board.take_changes(), cases=self._referee.take_changes()
        )

    def _take(self, ruling: Ruling, now_ms: int) -> None:
        if ruling.report is not None:
            self.board.report(ruling.report, now_ms)
