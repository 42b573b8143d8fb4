"""One partition of `telemetry`: detection and local rules as pure steps over its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from pipeline.detect.protocol import FlagArray
from pipeline.detect.publish import merged, select_scores
from pipeline.model import Alert, Evaluated, Frame, FrameBatch, ScoreBatch, SeriesDictionary, Tick
from pipeline.stream.forward import Forwarding
from pipeline.stream.scoring import Scoring, ScoringCut
from pipeline.stream.seen import FORGOTTEN_AT_ONCE, Seen, SeenCut
from pipeline.stream.step import Rejected, Step
from pipeline.stream.verdicts import Verdicts, VerdictsCut
from pipeline.stream.watermark import Watermark, WatermarkCut

_SCORED_FRAMES_AT_ONCE = 1024
"""With so many, scores don't wait for the next tick."""


class Counts(msgspec.Struct):
    """What happened to frames and samples: in = processed + late + duplicate + rejected."""

    frames: int = 0
    samples: int = 0
    anomalies: int = 0
    late: int = 0
    duplicate: int = 0
    forgotten: int = 0
    """Series of dictionaries that have ended."""
    rejected: Counter[str] = msgspec.field(default_factory=Counter)


class PartitionCut(msgspec.Struct, frozen=True, eq=False):
    """A copy of everything that a partition's next steps depend on."""

    watermark: WatermarkCut
    seen: SeenCut
    scoring: ScoringCut
    verdicts: VerdictsCut
    derived: list[SeriesDictionary]
    scores: ScoreBatch
    resend_at_ms: int | None

    @property
    def dictionaries(self) -> list[int]:
        """The ids of the dictionaries that have to be known to go on from here."""
        return list(map(int, self.scoring.dictionaries))


class PartitionSettings(msgspec.Struct, frozen=True):
    """What a partition needs to know of the settings."""

    worker: str
    publish_above: float
    resend_ms: int
    tick_timeout_ms: int


class Partition:
    """The state of one partition of `telemetry`; each method is one step in event time."""

    def __init__(
        self,
        number: int,
        scoring: Scoring,
        verdicts: Verdicts,
        forwarding: Forwarding,
        settings: PartitionSettings,
    ) -> None:
        self.number = number
        self.verdicts = verdicts
        self.counts = Counts()
        self._scoring = scoring
        self._forwarding = forwarding
        self._settings = settings
        self._watermark = Watermark(settings.tick_timeout_ms)
        self._dictionaries: dict[int, SeriesDictionary] = {}
        self._derived: list[SeriesDictionary] = []
        self._seen = Seen(verdicts.forget_after_ms, verdicts.late_after_ms)
        self._resend_at_ms: int | None = None
        self._scores: list[ScoreBatch] = []
        """Those since the last tick; they are for people to look at, one record has them all."""

    @property
    def watermark_ms(self) -> int | None:
        return self._watermark.time_ms

    @property
    def targets(self) -> int:
        return self._seen.targets

    def firing(self) -> list[Alert]:
        """Every firing alert, as a report of now."""
        now = self._watermark.time_ms
        return [] if now is None else self.verdicts.firing(now)

    def take_counts(self) -> Counts:
        """What was counted since the last call."""
        counts, self.counts = self.counts, Counts()
        return counts

    def unknown(self, batch: FrameBatch) -> list[int]:
        """The ids of dictionaries in `batch` that this partition has not been given."""
        return [i for i in np.unique(batch.dictionaries).tolist() if i not in self._dictionaries]

    def learn(self, dictionary: SeriesDictionary) -> None:
        """Take in a dictionary; the next step gives those that go with its forwarded frames."""
        self._dictionaries[dictionary.id] = dictionary
        self._seen.learn(dictionary.id)
        self._scoring.add_dictionary(dictionary)
        self.verdicts.add_dictionary(dictionary, dictionary.target.instance)
        self._derived += self._forwarding.add_dictionary(dictionary)

    def frames(self, batch: FrameBatch, *, unknown: Mapping[int, str]) -> Step:
        """Score every sample of `batch`, then evaluate the rules that its frames touch.

        Frames whose dictionary is in `unknown` (id -> why) are rejected.
        """
        step = Step()
        batch = self._admissible(batch, unknown, step)
        if not len(batch):
            return step
        keep = self._newer(batch)
        dictionaries = batch.dictionaries.tolist()
        scores = self._scoring.score(
            dictionaries, batch.times_ms, batch.offsets, batch.values, keep
        )
        step.alerts = self.verdicts.frames(batch, keep, scores)
        chosen = select_scores(batch, scores, self._settings.publish_above)
        if len(chosen):
            self._scores.append(chosen)
            if sum(map(len, self._scores)) >= _SCORED_FRAMES_AT_ONCE:
                step.scores = self._take_scores()
        self._forwarding.forward(batch, keep, scores, step.forwarded)
        step.dictionaries, self._derived = self._derived, []
        kept = int(np.count_nonzero(keep))
        self.counts.frames += kept
        self.counts.samples += int(np.diff(batch.offsets)[keep].sum())
        self.counts.anomalies += int(np.count_nonzero(scores > 1.0))
        return step

    def tick(self, tick: Tick) -> Step:
        """Let event time go on: grid evaluations, the mark, and firing alerts again."""
        step = Step()
        before = self._watermark.time_ms
        if not self._watermark.advance(tick):
            return step
        now = self._watermark.time_ms
        assert now is not None, "the watermark has just advanced"
        if before is not None:
            step.alerts = self.verdicts.advance(before, now)
        self._forget_ended(before, now)
        if self._resend_at_ms is None:
            self._resend_at_ms = now + self._settings.resend_ms
        elif now >= self._resend_at_ms:
            self._resend_at_ms = now + self._settings.resend_ms
            step.alerts += self.verdicts.firing(now)
        step.scores = self._take_scores()
        step.marks = [Evaluated(self._settings.worker, self.number, now)]
        return step

    def cut(self) -> PartitionCut:
        """A copy of everything as it is now, between two records; the next one takes its memory."""
        return PartitionCut(
            self._watermark.cut(),
            self._seen.cut(),
            self._scoring.cut(),
            self.verdicts.cut(),
            list(self._derived),
            merged(self._scores),
            self._resend_at_ms,
        )

    def content(self) -> Iterator[bytes]:
        """Everything that later steps depend on, whatever its numbering; for comparing."""
        yield msgspec.msgpack.encode((self._watermark.cut(), self._resend_at_ms, self._derived))
        for column in msgspec.structs.astuple(merged(self._scores)):
            yield column.tobytes()
        yield from self._seen.content()
        yield from self._scoring.content()
        yield from self.verdicts.content()

    def restore(self, cut: PartitionCut, dictionaries: Sequence[SeriesDictionary]) -> None:
        """Go on where another was at `cut`; this one is new, `dictionaries` are those of `cut`."""
        for dictionary in dictionaries:
            self.learn(dictionary)
        self._watermark.restore(cut.watermark)
        self._seen.restore(cut.seen)
        self._scoring.restore(cut.scoring)
        self.verdicts.restore(cut.verdicts, dictionaries)
        self._derived = list(cut.derived)
        self._scores = [cut.scores]
        self._resend_at_ms = cut.resend_at_ms

    def _take_scores(self) -> ScoreBatch:
        scores, self._scores = merged(self._scores), []
        return scores

    def _admissible(self, batch: FrameBatch, unknown: Mapping[int, str], step: Step) -> FrameBatch:
        """`batch` without the frames that don't fit their dictionary; those go to `step`."""
        wrong: list[int] = []
        sizes = np.diff(batch.offsets)
        for i, (dictionary_id, size) in enumerate(
            zip(batch.dictionaries.tolist(), sizes.tolist(), strict=True)
        ):
            dictionary = self._dictionaries.get(dictionary_id)
            if dictionary is None:
                reason, detail = "dictionary", unknown.get(dictionary_id, "not known")
            elif size != len(dictionary.series):
                reason = "columns"
                detail = f"expected {len(dictionary.series)} values, got {size}"
            elif dictionary.target.id != int(batch.targets[i]):
                reason, detail = "target", "the dictionary is another target's"
            else:
                continue
            wrong.append(i)
            self.counts.rejected[reason] += 1
            step.rejected.append(Rejected(batch.frame(i), reason, detail))
        return _without(batch, wrong) if wrong else batch

    def _newer(self, batch: FrameBatch) -> FlagArray:
        """Which frames are newer than all before of their target; the others are counted."""
        keep = np.ones(len(batch), dtype=np.bool_)
        watermark_ms = self._watermark.time_ms
        columns = (batch.targets.tolist(), batch.dictionaries.tolist(), batch.times_ms.tolist())
        for i, frame in enumerate(zip(*columns, strict=True)):
            age = self._seen.note(*frame, watermark_ms)
            if age == "new":
                continue
            keep[i] = False
            if age == "duplicate":
                self.counts.duplicate += 1
            else:
                self.counts.late += 1
        return keep

    def _forget_ended(self, before_ms: int | None, now_ms: int) -> None:
        """Drop the state of series that have ended, a small part at a time."""
        series = 0
        for dictionary_id in self._seen.ended(before_ms, now_ms):
            dictionary = self._dictionaries.pop(dictionary_id)
            self._seen.forget(dictionary.target.id, dictionary_id)
            self._scoring.drop_dictionary(dictionary)
            self.verdicts.drop_dictionary(dictionary_id)
            self._forwarding.drop_dictionary(dictionary_id)
            series += len(dictionary.series)
            self.counts.forgotten += len(dictionary.series)
            if series >= FORGOTTEN_AT_ONCE:
                return


def _without(batch: FrameBatch, wrong: list[int]) -> FrameBatch:
    frames = [batch.frame(i) for i in range(len(batch)) if i not in set(wrong)]
    return batch_of(frames)


def batch_of(frames: list[Frame]) -> FrameBatch:
    """Frames put into columns."""
    offsets = np.zeros(len(frames) + 1, dtype=np.int64)
    np.cumsum([len(frame.values) for frame in frames], out=offsets[1:])
    return FrameBatch(
        np.array([frame.target_id for frame in frames], dtype=np.uint64),
        np.array([frame.dictionary_id for frame in frames], dtype=np.uint64),
        np.array([frame.time_ms for frame in frames], dtype=np.int64),
        offsets,
        np.concatenate([frame.values for frame in frames]) if frames else np.empty(0),
    )
