"""Whose word on an alert counts: the worker's, or that of Prometheus, its backstop.

While the worker is there (its marks are fresh) it decides. What the backstop says then is
  an agreement   the worker says the same: it only lengthens the alert's validity;
  an echo        the worker closed the episode less than two group intervals ago;
  doubted        the worker doesn't know of it, since less than two group intervals;
  a disagreement the worker still doesn't know of it: delivered, marked, and counted.
Without the worker the backstop decides. An episode that the backstop opened stays the same one when
the worker is back and reports it; one that the worker doesn't know lasts as long as the backstop
repeats it. Everybody else's reports pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from pipeline.alerts.incident import Report
from pipeline.alerts.marks import Marks
from pipeline.model import Labels, partition_of

SOURCE_ANNOTATION = "watchkeeper_source"
"""Marks what only the backstop reports. An annotation: labels are the alert's identity."""

Believed = Literal["worker", "backstop", "api", "agreement", "disagreement"]
BELIEVED: frozenset[str] = frozenset(get_args(Believed))
Ignored = Literal["old", "late", "unknown", "echo", "doubted", "overruled"]
"""Why a report changes nothing: not newer than what its source said before; true so long ago that
nobody knows what is now; the end of what doesn't fire; the backstop's word while the worker decides
(see above); the word of the one who doesn't decide against the one who does."""


class Ruling(msgspec.Struct, frozen=True):
    """What a report is, and what of it the board is to take in; None: nothing."""

    reason: Believed | Ignored
    report: Report | None = None


class Word(msgspec.Struct, frozen=True):
    """The newest word of one source: `since_ms` is when it began to say that the alert fires."""

    time_ms: int
    ends_at_ms: int
    since_ms: int

    @property
    def says_end(self) -> bool:
        return self.ends_at_ms <= self.time_ms

    def fires(self, now_ms: int) -> bool:
        return self.ends_at_ms > now_ms


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What worker and backstop say of one alert.

    `doubted` is the backstop's report that waits for the worker's word; `disputed` says that this
    disagreement was counted.
    """

    worker: Word | None = None
    backstop: Word | None = None
    doubted: Report | None = None
    disputed: bool = False


class Jurisdiction(msgspec.Struct, frozen=True):
    """What has to be known of the rules: the interval of an alert's group, by the alert's name."""

    intervals_ms: Mapping[str, int]
    default_interval_ms: int

    def patience_ms(self, labels: Labels) -> int:
        """Two group intervals: so long the backstop may lag behind the worker, or ahead of it."""
        name = dict(labels).get("alertname", "")
        return 2 * self.intervals_ms.get(name, self.default_interval_ms)


class Referee:
    """The cases of all alerts. Changed in place, by one owner."""

    def __init__(self, marks: Marks, rules: Jurisdiction) -> None:
        self.marks = marks
        self._rules = rules
        self.cases: dict[int, Case] = {}
        self._doubted: set[int] = set()
        self._changes: dict[int, Case | None] = {}

    def restore(self, cases: Mapping[int, Case]) -> None:
        self.cases = dict(cases)
        self._doubted = {number for number, case in cases.items() if case.doubted is not None}

    def hear(self, report: Report, now_ms: int, *, firing: bool) -> Ruling:
        """Rule on a report of an alert that fires at the moment, or doesn't."""
        if report.source == "api":
            return Ruling("api", report)
        held = self.cases.get(report.fingerprint, Case())
        if report.source == "worker":
            case, ruling = self._hear_worker(held, report, now_ms, firing)
        else:
            case, ruling = self._hear_backstop(held, report, now_ms, firing)
        if case != held:
            self._keep(report.fingerprint, case)
        return ruling

    def next_due_ms(self) -> int | None:
        """When `settle` has something to do."""
        return min((self._due_ms(self.cases[number]) for number in self._doubted), default=None)

    def settle(self, now_ms: int) -> list[Ruling]:
        """The doubts whose time has come: the worker has not spoken, so the backstop is right."""
        rulings = []
        for number in sorted(self._doubted):
            case = self.cases[number]
            report = case.doubted
            assert report is not None, "only doubted cases are in the set"
            if self._due_ms(case) > now_ms and report.ends_at_ms > now_ms:
                continue
            case = msgspec.structs.replace(case, doubted=None)
            if report.ends_at_ms > now_ms:
                case, ruling = self._believe_backstop(case, report, now_ms)
                rulings.append(ruling)
            self._keep(number, case)
        return rulings

    def forget(self, before_ms: int) -> None:
        """Drop the cases in which nobody has claimed anything for the time since `before_ms`."""
        for number, case in list(self.cases.items()):
            words = [word for word in (case.worker, case.backstop) if word is not None]
            if all(max(word.time_ms, word.ends_at_ms) < before_ms for word in words):
                del self.cases[number]
                self._doubted.discard(number)
                self._changes[number] = None

    def take_changes(self) -> dict[int, Case | None]:
        changes, self._changes = self._changes, {}
        return changes

    def _hear_worker(
        self, case: Case, report: Report, now_ms: int, firing: bool
    ) -> tuple[Case, Ruling]:
        if case.worker is not None and report.time_ms <= case.worker.time_ms:
            return case, Ruling("old")
        backstop = case.backstop
        case = Case(worker=_word(case.worker, report, now_ms), backstop=backstop)
        if report.says_end:
            if not firing:
                return case, Ruling("unknown")
            if backstop is not None and self._is_old_end(report, backstop, now_ms):
                return case, Ruling("overruled")
            return case, Ruling("worker", report)
        if backstop is not None and self._is_old_start(report, backstop, now_ms):
            return case, Ruling("overruled")
        if report.ends_at_ms <= now_ms and not firing:
            return case, Ruling("late")
        # Its validity counts from now: a worker that lags more and more has not come to an end yet.
        valid_ms = report.ends_at_ms - report.time_ms
        return case, Ruling("worker", msgspec.structs.replace(report, ends_at_ms=now_ms + valid_ms))

    def _is_old_end(self, report: Report, backstop: Word, now_ms: int) -> bool:
        """Whether the worker, which lags, tells an end and the backstop knows that it fires now."""
        if not backstop.fires(now_ms):
            return False
        return report.time_ms < backstop.since_ms or not self._present(report.labels, now_ms)

    def _is_old_start(self, report: Report, backstop: Word, now_ms: int) -> bool:
        """Whether the worker, which lags, tells of what the backstop has seen end since."""
        if not backstop.says_end:
            return False
        patience_ms = self._rules.patience_ms(report.labels)
        lags = now_ms - report.time_ms > patience_ms
        # The two see an end at instants of their own.
        return report.time_ms <= backstop.ends_at_ms + (patience_ms if lags else 0)

    def _hear_backstop(
        self, case: Case, report: Report, now_ms: int, firing: bool
    ) -> tuple[Case, Ruling]:
        word = _word(case.backstop, report, now_ms)
        case = msgspec.structs.replace(case, backstop=word, doubted=None)
        present = self._present(report.labels, now_ms)
        worker = case.worker
        claim = worker if worker is not None and worker.fires(now_ms) else None
        if not word.fires(now_ms):
            case = msgspec.structs.replace(case, disputed=False)
            if not firing:
                return case, Ruling("unknown")
            if claim is not None and (present or claim.time_ms >= report.ends_at_ms):
                return case, Ruling("overruled")
            return case, Ruling("backstop", report)
        if firing and claim is not None:
            return case, Ruling("agreement", msgspec.structs.replace(report, supports=True))
        patience_ms = self._rules.patience_ms(report.labels)
        closed_ms = worker.ends_at_ms if worker is not None and worker.says_end else None
        if not firing and closed_ms is not None and now_ms < closed_ms + patience_ms:
            return case, Ruling("echo")
        repeated = closed_ms is not None and word.since_ms <= closed_ms
        if not firing and present and not repeated:
            waiting = msgspec.structs.replace(case, doubted=report)
            if self._due_ms(waiting) > now_ms:
                return waiting, Ruling("doubted")
        return self._believe_backstop(case, report, now_ms)

    def _believe_backstop(self, case: Case, report: Report, now_ms: int) -> tuple[Case, Ruling]:
        """The backstop alone says that it fires: is that because the worker is gone?"""
        assert case.backstop is not None, "it has just been heard"
        annotations = dict(report.annotations) | {SOURCE_ANNOTATION: "backstop"}
        marked = msgspec.structs.replace(report, annotations=tuple(sorted(annotations.items())))
        partitions = self._partitions(report.labels)
        known_ms = max(case.backstop.since_ms, self.marks.since_ms(partitions))
        if (
            case.disputed
            or not self.marks.heard(partitions, now_ms)
            or now_ms < known_ms + self._rules.patience_ms(report.labels)
        ):
            return case, Ruling("backstop", marked)
        return msgspec.structs.replace(case, disputed=True), Ruling("disagreement", marked)

    def _due_ms(self, case: Case) -> int:
        """When a doubt ends: after the patience, or when the worker is gone."""
        assert case.doubted is not None, "a doubted case has its report"
        assert case.backstop is not None, "the report is the backstop's"
        labels = case.doubted.labels
        since_ms = max(case.backstop.since_ms, self.marks.awake_ms)
        lapse_ms = self.marks.lapse_ms(self._partitions(labels))
        return min(since_ms + self._rules.patience_ms(labels), lapse_ms)

    def _present(self, labels: Labels, now_ms: int) -> bool:
        return self.marks.fresh(self._partitions(labels), now_ms)

    def _partitions(self, labels: Labels) -> tuple[int, ...] | range:
        """Where the worker has to be for its word on this alert: an instance's partition, or all.

        Local rules keep `instance`, global ones need every partition's data.
        """
        instance = dict(labels).get("instance")
        if instance is None:
            return self.marks.partitions
        return (partition_of(instance, len(self.marks.partitions)),)

    def _keep(self, number: int, case: Case) -> None:
        self.cases[number] = case
        self._changes[number] = case
        if case.doubted is None:
            self._doubted.discard(number)
        else:
            self._doubted.add(number)


def _word(before: Word | None, report: Report, now_ms: int) -> Word:
    goes_on = before is not None and not before.says_end and before.fires(now_ms)
    since_ms = before.since_ms if before is not None and goes_on else now_ms
    return Word(report.time_ms, report.ends_at_ms, since_ms)
