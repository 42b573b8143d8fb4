"""A target's windows by labels: what is left of them when the rules have changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.model import (
    ABSENT_BITS,
    STALE_BITS,
    FloatArray,
    IntArray,
    Labels,
    SeriesDictionary,
)
from pipeline.promql.cut import EvaluatorCut, blocks_of
from pipeline.promql.selection import score_labels
from pipeline.promql.windows import WindowStore


class BlockHistory(msgspec.Struct, frozen=True, eq=False):
    """Samples of some series at the same times: `values` [time, series], absent ones as ABSENT."""

    labels: tuple[Labels, ...]
    times_ms: IntArray
    values: FloatArray


class TargetHistory(msgspec.Struct, frozen=True, eq=False):
    target_id: int
    blocks: tuple[BlockHistory, ...]


def histories(
    cut: EvaluatorCut, dictionaries: Iterable[SeriesDictionary]
) -> Iterator[TargetHistory]:
    """The samples in `cut` by target and labels; `dictionaries` are those known there."""
    maps = cut.maps.by_owner()
    numbers = cut.windows.numbers.tolist()
    table = dict(zip(numbers, cut.windows.table, strict=True))
    labels: dict[int, dict[int, list[Labels]]] = {}
    for dictionary in dictionaries:
        own = labels.setdefault(dictionary.target.id, {})
        size = len(dictionary.series)
        for number, columns in blocks_of(maps[dictionary.id], table):
            of_block = own.setdefault(number, [()] * len(columns))
            for row in np.flatnonzero(columns >= 0):
                column = int(columns[row])
                series = dictionary.series[column % size].labels
                of_block[row] = series if column < size else score_labels(series)
    parts = dict(zip(numbers, cut.windows.parts(), strict=True))
    for target_id, of_target in labels.items():
        blocks = [
            BlockHistory(tuple(named), parts[number][0], parts[number][1].view(np.float64))
            for number, named in of_target.items()
        ]
        yield TargetHistory(target_id, tuple(blocks))


def load(store: WindowStore, history: TargetHistory) -> None:
    """Replace the samples of a target's series by those of `history`.

    Series are found by their labels, so the rules (and with them the blocks) may have changed.
    What only `history` has is left out; a series that it lacks has no samples.
    """
    target = store.targets[history.target_id]
    places = {
        labels: (block, row) for block in history.blocks for row, labels in enumerate(block.labels)
    }
    for number in target.blocks.values():
        rows = [row for row in target.rows.values() if row.block == number]
        found = {row.row: places[row.labels] for row in rows if row.labels in places}
        sources = {id(block): block.times_ms for block, _ in found.values()}
        times_ms = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *sources.values()]))
        bits = np.full((len(times_ms), len(rows)), ABSENT_BITS, dtype=np.int64)
        for row, (block, source) in found.items():
            at = np.searchsorted(times_ms, block.times_ms)
            bits[at, row] = block.values.view(np.int64)[:, source]
        store.replace_samples(number, times_ms, bits, marks_of(bits))


def marks_of(bits: IntArray) -> IntArray:
    """The marks that appending these samples one by one leaves behind: (series, 3)."""
    values = bits.view(np.float64)
    gap = (bits == ABSENT_BITS) | (bits == STALE_BITS)
    both = ~gap[1:] & ~gap[:-1]
    new, old = values[1:], values[:-1]
    with np.errstate(invalid="ignore"):
        fall = both & (new < old)
        change = both & (new != old) & ~(np.isnan(new) & np.isnan(old))
    return np.stack([_last(gap, 0), _last(fall, 1), _last(change, 1)], axis=1)


def _last(where: npt.NDArray[np.bool_], first: int) -> IntArray:
    """Index of the last true value of each column, counted from `first`; -1 if none."""
    index = np.arange(first, first + len(where), dtype=np.int64)
    newest: IntArray = np.where(where, index[:, None], -1).max(axis=0, initial=-1)
    return newest
