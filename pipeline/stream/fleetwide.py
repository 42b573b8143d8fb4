"""Global rules: forwarded series of all partitions, evaluated where `signals` has their owner."""

from __future__ import annotations

import numpy as np

from pipeline.model import Evaluated, FrameBatch, SeriesDictionary
from pipeline.stream.step import Step
from pipeline.stream.verdicts import Verdicts


class Fleetwide:
    """The state of the global rules that one partition of `signals` owns.

    The rules are evaluated as of the lowest mark of all partitions: up to there every partition has
    forwarded what it has. While one is silent, nothing is evaluated.
    """

    EVERYTHING = ""
    """The one instance that all series belong to here."""

    def __init__(self, verdicts: Verdicts, partitions: int, resend_ms: int) -> None:
        self.verdicts = verdicts
        self._marks: dict[int, int] = {}
        self._partitions = partitions
        self._resend_ms = resend_ms
        self._resend_at_ms: int | None = None
        self._newest: dict[int, int] = {}
        self.time_ms: int | None = None
        verdicts.evaluator.ensure_instance(self.EVERYTHING)

    def resend_now(self) -> None:
        """Let the next mark send every firing alert."""
        self._resend_at_ms = 0

    def unknown(self, batch: FrameBatch) -> list[int]:
        """The ids of dictionaries in `batch` that have not been given."""
        return [
            i
            for i in np.unique(batch.dictionaries).tolist()
            if not self.verdicts.evaluator.knows(i)
        ]

    def learn(self, dictionary: SeriesDictionary) -> None:
        self.verdicts.add_dictionary(dictionary, self.EVERYTHING)

    def frames(self, batch: FrameBatch) -> None:
        """Take in forwarded frames; a repeated one (after a restart of its sender) is dropped."""
        keep = np.ones(len(batch), dtype=np.bool_)
        for i, (target, dictionary_id, time_ms) in enumerate(
            zip(
                batch.targets.tolist(),
                batch.dictionaries.tolist(),
                batch.times_ms.tolist(),
                strict=True,
            )
        ):
            known = self.verdicts.evaluator.knows(dictionary_id)
            if not known or time_ms <= self._newest.get(target, -1):
                keep[i] = False
            else:
                self._newest[target] = time_ms
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
        step.alerts = self.verdicts.advance(before, lowest) + self.verdicts.at(lowest)
        if self._resend_at_ms is None:
            self._resend_at_ms = lowest + self._resend_ms
        elif lowest >= self._resend_at_ms:
            self._resend_at_ms = lowest + self._resend_ms
            step.alerts += self.verdicts.firing(lowest)
        return step
