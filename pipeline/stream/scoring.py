"""Scoring a batch: each scored series has a slot in the detector's state; one call for all."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from pipeline.detect.counters import is_counter
from pipeline.detect.protocol import Detector, FlagArray, ScoreArray, SlotArray, State
from pipeline.model import FloatArray, IdArray, IntArray, Labels, Series, SeriesDictionary

_NOT_SCORED_KINDS = frozenset({"info", "stateset"})
NOT_SCORED = -1


class ScoringCut(msgspec.Struct, frozen=True, eq=False):
    """A copy of a detector's state; the slots of the columns of all dictionaries."""

    state: State
    dictionaries: IdArray
    columns: SlotArray


class Scoring:
    """The detector's state of one partition, with a slot for each series that is scored."""

    def __init__(self, detector: Detector, exclude: frozenset[str]) -> None:
        self._detector = detector
        self._exclude = exclude
        self._slots: dict[Labels, int] = {}
        self._columns: dict[int, SlotArray] = {}
        self._free: list[int] = []
        self._size = 0
        self._users = np.zeros(1024, dtype=np.int32)
        """How many dictionaries have the series of a slot."""
        self._copied: State | None = None
        self.state: State = detector.new_state()

    def add_dictionary(self, dictionary: SeriesDictionary) -> None:
        """Give every series of `dictionary` that is scored a slot; a known series keeps its own."""
        columns: list[int] = []
        again: list[int] = []
        counters: list[bool] = []
        for series in dictionary.series:
            if not self._is_scored(series):
                columns.append(NOT_SCORED)
                continue
            free = self._free[-1] if self._free else self._size
            slot = self._slots.setdefault(series.labels, free)
            if slot == free:
                counters.append(is_counter(series))
                if self._free:
                    again.append(self._free.pop())
                else:
                    self._size += 1
            columns.append(slot)
        self._make_room(np.array(again, dtype=np.int32), np.array(counters, dtype=np.bool_))
        slots = self._columns[dictionary.id] = np.array(columns, dtype=np.int32)
        np.add.at(self._users, slots[slots != NOT_SCORED], 1)

    def drop_dictionary(self, dictionary: SeriesDictionary) -> None:
        """Forget the series that no other dictionary has; their slots are for others."""
        slots = self._columns.pop(dictionary.id)
        np.subtract.at(self._users, slots[slots != NOT_SCORED], 1)
        for column in np.flatnonzero((slots != NOT_SCORED) & (self._users[slots] == 0)).tolist():
            slot = self._slots.pop(dictionary.series[column].labels, None)
            if slot is not None:  # else the dictionary has a series twice
                self._free.append(slot)

    def columns(self, dictionary_id: int) -> SlotArray:
        """The slot of each column of a dictionary, int32; -1: not scored."""
        return self._columns[dictionary_id]

    def score(
        self,
        dictionaries: list[int],
        times_ms: IntArray,
        offsets: IntArray,
        values: FloatArray,
        keep: FlagArray,
    ) -> ScoreArray:
        """Score each value, then learn from it; shapes as in `Detector.update`.

        NaN stands where there is nothing to score: no sample, or a series that isn't scored. To
        the rules that is no sample of `anomaly_score`, where a 0 would be "as always".
        """
        slots = np.concatenate([self._columns[dictionary] for dictionary in dictionaries])
        scores = self._detector.update(self.state, slots, times_ms, offsets, values, keep)
        scores[np.isnan(values) | (slots == NOT_SCORED)] = np.nan
        return scores

    def cut(self) -> ScoringCut:
        """A copy of everything as it is now; the next one takes its memory."""
        self._copied = self._detector.copy(self.state, self._copied)
        columns = [np.zeros(0, dtype=np.int32), *self._columns.values()]
        return ScoringCut(
            self._copied,
            np.fromiter(self._columns, dtype=np.uint64, count=len(self._columns)),
            np.concatenate(columns),
        )

    def content(self) -> Iterator[bytes]:
        """What is known of each series, by the dictionaries that have it; for comparing."""
        for dictionary_id, columns in sorted(self._columns.items()):
            yield dictionary_id.to_bytes(8, "little")
            scored = columns[columns != NOT_SCORED]
            own = self._detector.grow(
                self._detector.new_state(), np.zeros(len(scored), dtype=np.bool_)
            )
            here = np.arange(len(scored), dtype=np.int32)
            self._detector.transfer(self.state, scored, own, here)
            for array in own.values():
                yield array.tobytes()

    def restore(self, cut: ScoringCut) -> None:
        """Go on where another was at `cut`, for the series of the dictionaries given so far."""
        here = [self._columns[dictionary] for dictionary in cut.dictionaries.tolist()]
        slots = np.concatenate([np.zeros(0, dtype=np.int32), *here])
        both = (slots != NOT_SCORED) & (cut.columns != NOT_SCORED)
        self._detector.transfer(cut.state, cut.columns[both], self.state, slots[both])

    def _make_room(self, again: SlotArray, counters: FlagArray) -> None:
        """Slots for new series: free ones first, then further ones, in the order of `counters`."""
        self._detector.renew(self.state, again, counters[: len(again)])
        if len(counters) > len(again):
            self.state = self._detector.grow(self.state, counters[len(again) :])
        if self._size > len(self._users):
            users = np.zeros(2 * self._size, dtype=np.int32)
            users[: len(self._users)] = self._users
            self._users = users

    def _is_scored(self, series: Series) -> bool:
        if series.kind in _NOT_SCORED_KINDS:
            return False
        return not self._exclude or series.name not in self._exclude
