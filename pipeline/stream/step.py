"""What one step gives: everything that is to be sent before its record is committed."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from pipeline.codec import (
    alert_key,
    dictionary_key,
    encode_alert,
    encode_dictionary,
    encode_frames,
    encode_mark,
    encode_scores,
)
from pipeline.model import Alert, Evaluated, Frame, ScoreBatch, SeriesDictionary
from pipeline.stream.delivery import Record


class Rejected(msgspec.Struct, frozen=True):
    """A frame that can't be processed, and why (`reason` from a small fixed set)."""

    frame: Frame
    reason: str
    detail: str


class Step(msgspec.Struct):
    """The outputs of one step, in the order in which they arose."""

    dictionaries: list[SeriesDictionary] = []
    """New dictionaries of forwarded frames; acknowledged before anything else is sent."""
    scores: ScoreBatch | None = None
    forwarded: defaultdict[int, list[Frame]] = msgspec.field(
        default_factory=lambda: defaultdict(list)
    )
    """Frames for global rules, by the partition of `signals` that owns the rules."""
    marks: list[Evaluated] = []
    alerts: list[Alert] = []
    rejected: list[Rejected] = []

    def dictionary_records(self) -> list[Record]:
        return [
            Record("series", 0, encode_dictionary(dictionary), dictionary_key(dictionary.id))
            for dictionary in self.dictionaries
        ]

    def records(self, partition: int, partitions: int) -> list[Record]:
        """All but dictionaries: alerts first, for they are awaited by people.

        Scores go to `partition` of `signals`, a mark to every one, after the frames that it vouches
        for.
        """
        records = [
            Record("alerts", 0, encode_alert(alert), alert_key(alert)) for alert in self.alerts
        ]
        if self.scores is not None and len(self.scores):
            records.append(Record("signals", partition, encode_scores(self.scores)))
        records += [
            Record("signals", owner, encode_frames(frames))
            for owner, frames in self.forwarded.items()
        ]
        records += [
            Record("signals", to, encode_mark(mark))
            for mark in self.marks
            for to in range(partitions)
        ]
        return records
