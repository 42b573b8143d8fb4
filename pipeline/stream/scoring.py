"""Scoring a batch: each scored series has a slot in the detector's state; one call for all."""

from __future__ import annotations

import numpy as np

from pipeline.detect.counters import is_counter
from pipeline.detect.protocol import Detector, FlagArray, ScoreArray, SlotArray, State
from pipeline.model import FloatArray, IntArray, Labels, Series, SeriesDictionary

_NOT_SCORED_KINDS = frozenset({"info", "stateset"})
NOT_SCORED = -1


class Scoring:
    """The detector's state of one partition, with a slot for each series that is scored."""

    def __init__(self, detector: Detector, exclude: frozenset[str]) -> None:
        self._detector = detector
        self._exclude = exclude
        self._slots: dict[Labels, int] = {}
        self._columns: dict[int, SlotArray] = {}
        self.state: State = detector.new_state()

    def add_dictionary(self, dictionary: SeriesDictionary) -> None:
        """Give every series of `dictionary` that is scored a slot; a known series keeps its own."""
        counters: list[bool] = []
        columns = np.full(len(dictionary.series), NOT_SCORED, dtype=np.int32)
        for i, series in enumerate(dictionary.series):
            if not self._is_scored(series):
                continue
            slot = self._slots.get(series.labels)
            if slot is None:
                slot = self._slots[series.labels] = len(self._slots)
                counters.append(is_counter(series))
            columns[i] = slot
        if counters:
            self.state = self._detector.grow(self.state, np.array(counters, dtype=np.bool_))
        self._columns[dictionary.id] = columns

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

    def _is_scored(self, series: Series) -> bool:
        return series.kind not in _NOT_SCORED_KINDS and series.name not in self._exclude
