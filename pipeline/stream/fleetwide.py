"""Global rules: forwarded series of all partitions, evaluated where `signals` has their owner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from pipeline.model import Alert, Evaluated, FrameBatch, SeriesDictionary
from pipeline.stream.seen import FORGOTTEN_AT_ONCE, Seen, SeenCut
from pipeline.stream.step import Step
from pipeline.stream.verdicts import Verdicts, VerdictsCut


class FleetwideCut(msgspec.Struct, frozen=True, eq=False):
    """A copy of everything that the next steps depend on."""

    time_ms: int | None
    marks: dict[int, int]
    seen: SeenCut
    verdicts: VerdictsCut
    dictionaries: list[int]
    touched: list[int]
    resend_at_ms: int | None


class Fleetwide:
    """The state of the global rules that one partition of `signals` owns.

    The rules are evaluated up to the lowest mark of all partitions: up to there every partition has
    forwarded what it has. While one is silent, nothing is evaluated. They are evaluated on their
    groups' grids, and where frames have come, at the next multiple of `TOUCH_MS` of each: instants
    that depend on the frames alone, not on how marks and frames of several partitions interleave.
    """

    TOUCH_MS = 100
    EVERYTHING = ""
    """The one instance that all series belong to here."""

    def __init__(self, verdicts: Verdicts, partitions: int, resend_ms: int) -> None:
        self.verdicts = verdicts
        self._marks: dict[int, int] = {}
        self._partitions = partitions
        self._resend_ms = resend_ms
        self._resend_at_ms: int | None = None
        self._seen = Seen(verdicts.forget_after_ms, verdicts.late_after_ms)
        self._dictionaries: dict[int, SeriesDictionary] = {}
        self._touched: set[int] = set()
        """Instants to evaluate at, once all marks are there."""
        self.time_ms: int | None = None
        verdicts.evaluator.ensure_instance(self.EVERYTHING)

    def firing(self) -> list[Alert]:
        """Every firing alert, as a report of now."""
        now = self.time_ms
        return [] if now is None else self.verdicts.firing(now)

    def unknown(self, batch: FrameBatch) -> list[int]:
        """The ids of dictionaries in `batch` that have not been given."""
        return [i for i in np.unique(batch.dictionaries).tolist() if i not in self._dictionaries]

    def learn(self, dictionary: SeriesDictionary) -> None:
        self._dictionaries[dictionary.id] = dictionary
        self._seen.learn(dictionary.id)
        self.verdicts.add_dictionary(dictionary, self.EVERYTHING)

    def frames(self, batch: FrameBatch) -> None:
        """Take in forwarded frames; a repeated one (after a restart of its sender) is dropped."""
        keep = np.ones(len(batch), dtype=np.bool_)
        columns = (batch.targets.tolist(), batch.dictionaries.tolist(), batch.times_ms.tolist())
        for i, (target_id, dictionary_id, time_ms) in enumerate(zip(*columns, strict=True)):
            known = dictionary_id in self._dictionaries
            keep[i] = known and (
                self._seen.note(target_id, dictionary_id, time_ms, self.time_ms) == "new"
            )
            if keep[i]:
                self._touched.add(-(-time_ms // self.TOUCH_MS) * self.TOUCH_MS)
        self.verdicts.ingest(batch, keep)

    def mark(self, mark: Evaluated) -> Step:
        """A partition has come to `mark.time_ms`: evaluate if the lowest mark has moved."""
        step = Step()
        if mark.time_ms <= self._marks.get(mark.partition, -1):
            return step
        self._marks[mark.partition] = mark.time_ms
        if len(self._marks) < self._partitions:
            return step
        lowest = min(self._marks.values())
        before, self.time_ms = self.time_ms, lowest
        if before is None or lowest <= before:
            return step
        step.alerts = self._advance(before, lowest)
        self._forget_ended(before, lowest)
        if self._resend_at_ms is None:
            self._resend_at_ms = lowest + self._resend_ms
        elif lowest >= self._resend_at_ms:
            self._resend_at_ms = lowest + self._resend_ms
            step.alerts += self.verdicts.firing(lowest)
        return step

    def _advance(self, after_ms: int, until_ms: int) -> list[Alert]:
        """Evaluate all instants in (after, until], in their order."""
        alerts: list[Alert] = []
        due = sorted(instant for instant in self._touched if instant <= until_ms)
        self._touched.difference_update(due)
        for instant in due:
            if instant > after_ms:
                alerts += self.verdicts.advance(after_ms, instant) + self.verdicts.at(instant)
                after_ms = instant
        return alerts + self.verdicts.advance(after_ms, until_ms)

    def cut(self) -> FleetwideCut:
        """A copy of everything as it is now, between two records; the next one takes its memory."""
        return FleetwideCut(
            self.time_ms,
            dict(self._marks),
            self._seen.cut(),
            self.verdicts.cut(),
            list(self._dictionaries),
            sorted(self._touched),
            self._resend_at_ms,
        )

    def content(self) -> Iterator[bytes]:
        """Everything that later steps depend on, whatever its numbering; for comparing."""
        marks = sorted(self._marks.items())
        touched = sorted(self._touched)
        yield msgspec.msgpack.encode((self.time_ms, marks, touched, self._resend_at_ms))
        yield from self._seen.content()
        yield from self.verdicts.content()

    def restore(self, cut: FleetwideCut, dictionaries: Sequence[SeriesDictionary]) -> None:
        """Go on where another was at `cut`; this one is new, `dictionaries` are those of `cut`."""
        for dictionary in dictionaries:
            self.learn(dictionary)
        self.time_ms, self._marks = cut.time_ms, dict(cut.marks)
        self._touched = set(cut.touched)
        self._seen.restore(cut.seen)
        self.verdicts.restore(cut.verdicts, dictionaries)
        self._resend_at_ms = cut.resend_at_ms

    def _forget_ended(self, before_ms: int | None, now_ms: int) -> None:
        """Drop the state of series that have ended, a part at a time."""
        series = 0
        for dictionary_id in self._seen.ended(before_ms, now_ms):
            dictionary = self._dictionaries.pop(dictionary_id)
            self._seen.forget(dictionary.target.id, dictionary_id)
            self.verdicts.drop_dictionary(dictionary_id)
            series += len(dictionary.series)
            if series >= FORGOTTEN_AT_ONCE:
                return
