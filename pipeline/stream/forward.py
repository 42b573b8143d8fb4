"""What global rules select of a partition's frames, for the worker that owns the rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.detect.protocol import FlagArray, ScoreArray
from pipeline.model import (
    ABSENT_BITS,
    STALE_BITS,
    FloatArray,
    Frame,
    FrameBatch,
    Series,
    SeriesDictionary,
    is_stale,
)
from pipeline.promql.plan import Plan
from pipeline.promql.selection import (
    SelectorIndex,
    score_labels,
    selected_columns,
    selected_scores,
)


class _Selection(msgspec.Struct, frozen=True, eq=False):
    """What one owner wants of a dictionary's frames: columns as they are, then scores."""

    owner: int
    dictionary_id: int
    columns: npt.NDArray[np.uint32]
    scored: npt.NDArray[np.uint32]


class Forwarding:
    """Frames for the owners of global rules; `plans` are theirs, by partition of `signals`."""

    def __init__(self, plans: Mapping[int, Sequence[Plan]]) -> None:
        self._indexes = {owner: SelectorIndex(chosen) for owner, chosen in plans.items()}
        self._selections: dict[int, list[_Selection]] = {}

    def add_dictionary(self, dictionary: SeriesDictionary) -> list[SeriesDictionary]:
        """Find out what is to be forwarded; the dictionaries of the forwarded frames."""
        derived: list[SeriesDictionary] = []
        selections: list[_Selection] = []
        for owner, index in self._indexes.items():
            columns = selected_columns(dictionary, index)
            scored = selected_scores(dictionary, index)
            if not len(columns) and not len(scored):
                continue
            series = [dictionary.series[i] for i in columns]
            series += [Series(score_labels(dictionary.series[i].labels), "gauge") for i in scored]
            reduced = SeriesDictionary(dictionary.target, tuple(series))
            derived.append(reduced)
            selections.append(_Selection(owner, reduced.id, columns, scored))
        if selections:
            self._selections[dictionary.id] = selections
        return derived

    def drop_dictionary(self, dictionary_id: int) -> None:
        self._selections.pop(dictionary_id, None)

    def forward(
        self,
        batch: FrameBatch,
        keep: FlagArray,
        scores: ScoreArray,
        to: defaultdict[int, list[Frame]],
    ) -> None:
        """Append the reduced frames of `batch` to those of each owner."""
        if not self._selections:
            return
        for i, dictionary_id in enumerate(batch.dictionaries.tolist()):
            selections = self._selections.get(dictionary_id)
            if selections is None or not keep[i]:
                continue
            start, end = batch.offsets[i], batch.offsets[i + 1]
            for chosen in selections:
                values = np.concatenate(
                    [
                        batch.values[start:end][chosen.columns],
                        _as_samples(
                            scores[start:end][chosen.scored], batch.values[start:end][chosen.scored]
                        ),
                    ]
                )
                to[chosen.owner].append(
                    Frame(
                        int(batch.targets[i]), chosen.dictionary_id, int(batch.times_ms[i]), values
                    )
                )


def _as_samples(scores: ScoreArray, values: FloatArray) -> FloatArray:
    """Scores as samples: none where nothing was scored, and the end where its series ended."""
    bits = scores.astype(np.float64).view(np.uint64)
    none = np.isnan(scores)
    bits[none] = ABSENT_BITS
    bits[none & is_stale(values)] = STALE_BITS
    return bits.view(np.float64)
