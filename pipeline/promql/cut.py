"""All windows at one moment, copied in one go for a snapshot, and put back.

A cut is taken between two records, so it has to be quick: a copy of flat arrays. Encoding it is
the business of whoever keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.model import IntArray, Labels
from pipeline.promql import kernel
from pipeline.promql.arena import Stretches, gather
from pipeline.promql.windows import WindowStore

Int32Array = npt.NDArray[np.int32]


class WindowsCut(msgspec.Struct, frozen=True, eq=False):
    """A copy of all windows.

    `table` has the row of `WindowStore.blocks` for each of the `numbers`; `items` holds for each
    its times, its values (as bits) [time, series] and its marks, without unused capacity.
    """

    numbers: IntArray
    table: IntArray
    items: IntArray

    def parts(self) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
        """Times, values [time, series] and marks [series, 3] of each block; views."""
        at = 0
        for count, rows in self.table[:, [kernel.COUNT, kernel.ROWS]].tolist():
            values_at, marks_at = at + count, at + count * (1 + rows)
            end = marks_at + rows * kernel.MARKS
            yield (
                self.items[at:values_at],
                self.items[values_at:marks_at].reshape(count, rows),
                self.items[marks_at:end].reshape(rows, kernel.MARKS),
            )
            at = end


class InstanceCut(msgspec.Struct, frozen=True, array_like=True):
    """An instance that was bound to its series."""

    name: str
    number: int


class LooseSlot(msgspec.Struct, frozen=True, array_like=True):
    """An output of an instance that got new series and has not been evaluated since."""

    instance: str
    plan: int
    labels: Labels
    slot: int


class EvaluatorCut(msgspec.Struct, frozen=True, eq=False):
    """Everything that an evaluator knows beside its plans and dictionaries.

    `maps` has a stretch for each dictionary, by its id, and one for each instance, by its name,
    which ends with the slots of the instance's outputs; `caches` has one for each instance, by its
    number.
    """

    windows: WindowsCut
    maps: Stretches[int | str, np.int32]
    caches: Stretches[int, np.float64]
    bound: list[InstanceCut]
    loose: list[LooseSlot]


class WindowsCopier:
    """Copies windows into memory that is used again by the next copy.

    Getting memory from the system can take ten times as long as copying into it, and while a cut
    is taken everybody waits.
    """

    def __init__(self) -> None:
        self._items: IntArray = np.zeros(0, dtype=np.int64)

    def cut(self, store: WindowStore) -> WindowsCut:
        """A copy of all windows as they are now; it holds until the next one is made."""
        numbers = store.numbers()
        table = store.blocks[numbers]
        start, count, rows = table[:, kernel.START], table[:, kernel.COUNT], table[:, kernel.ROWS]
        starts = (
            table[:, kernel.TIMES_AT] + start,
            table[:, kernel.VALUES_AT] + start * rows,
            table[:, kernel.MARKS_AT],
        )
        sizes = np.stack((count, count * rows, rows * kernel.MARKS), axis=1).ravel()
        wanted = int(sizes.sum())
        if wanted > len(self._items):
            self._items = np.empty(wanted * 5 // 4, dtype=np.int64)
        bits = store.values.view(np.int64)
        items = gather(bits, np.stack(starts, axis=1).ravel(), sizes, self._items)
        return WindowsCut(numbers, table, items)


def restore_windows(
    store: WindowStore, cut: WindowsCut, maps: Mapping[int | str, Int32Array]
) -> None:
    """Give `store` the windows of one with the same selectors and the same dictionaries.

    `maps` are that store's. Series are found by their columns, so blocks and rows may be numbered
    differently there.
    """
    parts = dict(zip(cut.numbers.tolist(), cut.parts(), strict=True))
    table = dict(zip(cut.numbers.tolist(), cut.table, strict=True))
    for target in store.targets.values():
        there: dict[int, int] = {}
        row_there = {
            number: np.zeros(int(store.blocks[number, kernel.ROWS]), dtype=np.int64)
            for number in target.blocks.values()
        }
        for dictionary_id, places in target.places.items():
            row_of_column = np.zeros(int(places[:, 2].max(initial=-1)) + 1, dtype=np.int64)
            for number, columns in blocks_of(maps[dictionary_id], table):
                there[int(table[number][kernel.HISTORY])] = number
                rows = np.flatnonzero(columns >= 0)
                row_of_column[columns[rows]] = rows
            for number, rows in row_there.items():
                own = places[places[:, 0] == number]
                rows[own[:, 1]] = row_of_column[own[:, 2]]
        for number, rows in row_there.items():
            saved = there[int(store.blocks[number, kernel.HISTORY])]
            times_ms, bits, marks = parts[saved]
            store.put(number, table[saved], times_ms, bits[:, rows], marks[rows])


def blocks_of(
    dictionary_map: Int32Array, table: Mapping[int, IntArray]
) -> Iterator[tuple[int, Int32Array]]:
    """Each block in a dictionary's map: its number, and the column of each of its rows."""
    at = 1
    for _ in range(int(dictionary_map[0])):
        number = int(dictionary_map[at])
        rows = int(table[number][kernel.ROWS])
        yield number, dictionary_map[at + 1 : at + 1 + rows]
        at += 1 + rows
