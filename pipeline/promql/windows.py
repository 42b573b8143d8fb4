"""The samples that rules look back on: sliding windows in flat arrays, one owner, no clock.

The selected series of a target that need the same history form a *block*: one time column and a
values array [time, series]: appending a frame and reading
the newest values touch neighbours in memory. `blocks` has a row of numbers for each (see
`pipeline.promql.kernel`). A dictionary has a *map*: the number of blocks, then for each block its
number and, for each of its rows, the column of the frame (-1: none; from the number of columns on:
the anomaly score of column - number of columns).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.model import ABSENT_BITS, FloatArray, IntArray, Labels, SeriesDictionary
from pipeline.promql import kernel
from pipeline.promql.arena import Arena
from pipeline.promql.memory import WindowMemory
from pipeline.promql.selection import SelectorIndex, score_labels

LATE_MS = 30_000
"""Kept beyond the history, because the grid is evaluated some time after the newest sample."""

_FIRST_CAPACITY = 16
_MOST_GROWTH = 4
_SPARE = 1.5
"""A window that is full moves to its front if it is at most three quarters full then."""


class Row(msgspec.Struct, frozen=True):
    """Where a stored series lies, and the matcher sets that select it."""

    labels: Labels
    block: int
    row: int
    selectors: tuple[int, ...]


class StoredTarget:
    """A target's blocks by their history, its rows by their labels, and its dictionaries."""

    def __init__(self, target_id: int) -> None:
        self.id = target_id
        self.blocks: dict[int, int] = {}
        self.rows: dict[Labels, Row] = {}
        self.places: dict[int, kernel.Int32Array] = {}
        """For each dictionary: (block, row, column) of each stored series."""
        self._ordered: list[Row] | None = None

    def ordered(self) -> list[Row]:
        """The rows by history and labels: an order that doesn't tell how they came about."""
        if self._ordered is None:
            histories = {number: history_ms for history_ms, number in self.blocks.items()}
            self._ordered = sorted(
                self.rows.values(), key=lambda row: (histories[row.block], row.labels)
            )
        return self._ordered

    def rows_changed(self) -> None:
        self._ordered = None


class WindowStore:
    """All windows of one partition."""

    def __init__(self, index: SelectorIndex) -> None:
        self.index = index
        self.targets: dict[int, StoredTarget] = {}
        self.blocks: IntArray = np.zeros((64, kernel.BLOCK_WIDTH), dtype=np.int64)
        self.maps: Arena[int | str, np.int32] = Arena(np.int32)
        self._memory = WindowMemory()
        self._free = list(range(64))[::-1]

    @property
    def values(self) -> FloatArray:
        """All blocks: for each its times (as int64), its values, and the marks of its series."""
        return self._memory.data

    def add_dictionary(self, dictionary: SeriesDictionary) -> bool:
        """Make room for the dictionary's selected series; whether the target has new ones."""
        target_id = dictionary.target.id
        target = self.targets.setdefault(target_id, StoredTarget(target_id))
        columns: dict[Labels, int] = {}
        fresh: dict[int, list[tuple[Labels, tuple[int, ...]]]] = {}
        for column, labels in self._offered(dictionary):
            selectors = self.index.select(labels)
            if not selectors or labels in columns:
                continue
            columns[labels] = column
            if labels not in target.rows:
                history_ms = self.index.history_ms(selectors)
                fresh.setdefault(history_ms, []).append((labels, selectors))
        for history_ms, series in fresh.items():
            block = self._widened(target, history_ms, len(series))
            first = int(self.blocks[block, kernel.ROWS]) - len(series)
            for row, (labels, selectors) in enumerate(series, start=first):
                target.rows[labels] = Row(labels, block, row, selectors)
        rows = target.rows
        places = [(rows[labels].block, rows[labels].row, columns[labels]) for labels in columns]
        target.places[dictionary.id] = np.array(places, dtype=np.int32).reshape(-1, 3)
        for dictionary_id in target.places if fresh else (dictionary.id,):
            self._write_map(target, dictionary_id)
        if fresh:
            target.rows_changed()
        return bool(fresh)

    def _offered(self, dictionary: SeriesDictionary) -> Iterator[tuple[int, Labels]]:
        """Every series, then every virtual one: scores that were forwarded come as series."""
        for column, series in enumerate(dictionary.series):
            yield column, series.labels
        if self.index.selects_scores:
            for column, series in enumerate(dictionary.series, start=len(dictionary.series)):
                yield column, score_labels(series.labels)

    def _write_map(self, target: StoredTarget, dictionary_id: int) -> None:
        places = target.places[dictionary_id]
        parts = [np.array([len(target.blocks)], dtype=np.int32)]
        for block in target.blocks.values():
            own = places[places[:, 0] == block]
            column_of_row = np.full(int(self.blocks[block, kernel.ROWS]), -1, dtype=np.int32)
            column_of_row[own[:, 1]] = own[:, 2]
            parts += [np.array([block], dtype=np.int32), column_of_row]
        self.maps.store(dictionary_id, np.concatenate(parts))

    def _widened(self, target: StoredTarget, history_ms: int, rows: int) -> int:
        """The target's block for this history, with `rows` more rows, empty so far."""
        number = target.blocks.get(history_ms)
        if number is None:
            number = target.blocks[history_ms] = self._new_block(history_ms)
        known = int(self.blocks[number, kernel.ROWS])
        self.blocks[number, kernel.ROWS] = known + rows
        self._resize(number, int(self.blocks[number, kernel.CAPACITY]), known)
        return number

    def _new_block(self, history_ms: int) -> int:
        if not self._free:
            size = len(self.blocks)
            self.blocks = np.concatenate([self.blocks, np.zeros_like(self.blocks)])
            self._free = list(range(size, 2 * size))[::-1]
        number = self._free.pop()
        self.blocks[number] = 0
        # Not all the same, so that the blocks of a fleet don't grow all at once.
        self.blocks[number, kernel.CAPACITY] = _FIRST_CAPACITY + number % _FIRST_CAPACITY
        self.blocks[number, kernel.HISTORY] = history_ms + LATE_MS
        return number

    def grow(self, number: int) -> None:
        """Give a block the capacity for its whole history, going by the pace of its samples."""
        rows, capacity, count, history_ms = self.blocks[
            number, [kernel.ROWS, kernel.CAPACITY, kernel.COUNT, kernel.HISTORY]
        ].tolist()
        times_ms, _ = self.samples(number)
        span_ms = int(times_ms[-1] - times_ms[0])
        wanted = int(_SPARE * history_ms * count / span_ms) if span_ms > 0 else 0
        grown = min(max(wanted, 3 * capacity // 2), _MOST_GROWTH * capacity)
        self._resize(number, grown, rows)

    def _resize(self, number: int, capacity: int, known: int) -> None:
        """Move a block to a new place with `capacity`; rows from `known` on are absent so far."""
        block = self.blocks[number]
        rows, count, start = block[[kernel.ROWS, kernel.COUNT, kernel.START]].tolist()
        old_at, old_size = int(block[kernel.TIMES_AT]), _size(int(block[kernel.CAPACITY]), known)
        old = self._parts(number, known) if known else None
        block[kernel.CAPACITY] = capacity
        self._allocate(number)
        block[kernel.BASE] += start
        block[kernel.START] = 0
        times, bits, marks = self._parts(number, rows)
        bits[:count, known:] = ABSENT_BITS
        marks[known:] = -1
        if old is not None:
            old_times, old_bits, old_marks = old
            window = slice(start, start + count)
            times[:count] = old_times[window]
            bits[:count, :known] = old_bits[window]
            marks[:known] = old_marks
            marks[known:, kernel.GAP] = block[kernel.BASE] + count - 1
            self._memory.release(old_at, old_size)

    def _parts(self, number: int, rows: int) -> tuple[IntArray, IntArray, IntArray]:
        """Times, values (as bits) [capacity, rows] and marks [rows, 3] of a block; views."""
        capacity = int(self.blocks[number, kernel.CAPACITY])
        at = int(self.blocks[number, kernel.TIMES_AT])
        part = self._memory.data[at : at + _size(capacity, rows)].view(np.int64)
        times, bits, marks = np.split(part, [capacity, capacity * (1 + rows)])
        return times, bits.reshape(capacity, rows), marks.reshape(rows, kernel.MARKS)

    def drop_target(self, target_id: int) -> None:
        """Forget a target with its series and dictionaries."""
        target = self.targets.pop(target_id)
        for dictionary_id in target.places:
            self.maps.release(dictionary_id)
        for number in target.blocks.values():
            self._release(number)

    def drop_dictionary(self, target_id: int, dictionary_id: int) -> bool:
        """Forget a dictionary, and the series that no other has; whether there were such."""
        target = self.targets[target_id]
        del target.places[dictionary_id]
        self.maps.release(dictionary_id)
        kept = np.concatenate([places[:, :2] for places in target.places.values()])
        fewer = False
        for history_ms, number in list(target.blocks.items()):
            rows = np.unique(kept[kept[:, 0] == number, 1])
            if len(rows) == int(self.blocks[number, kernel.ROWS]):
                continue
            fewer = True
            if len(rows):
                self._narrow(target, number, rows)
            else:
                self._release(target.blocks.pop(history_ms))
                self._keep_rows(target, number, {})
        if fewer:
            for left in target.places:
                self._write_map(target, left)
            target.rows_changed()
        return fewer

    def _narrow(self, target: StoredTarget, number: int, rows: npt.NDArray[np.int32]) -> None:
        """Keep of a block only `rows`, which are numbered anew."""
        times_ms, bits = self.samples(number)
        marks = self.marks(number)
        table = self.blocks[number].copy()
        table[kernel.ROWS] = len(rows)
        self.put(number, table, times_ms.copy(), bits[:, rows], marks[rows])
        new_row = {old: new for new, old in enumerate(rows.tolist())}
        self._keep_rows(target, number, new_row)
        for places in target.places.values():
            own = places[:, 0] == number
            places[own, 1] = np.searchsorted(rows, places[own, 1])

    def _keep_rows(self, target: StoredTarget, number: int, new_row: dict[int, int]) -> None:
        """Number the rows of a block anew; forget those that have no new number."""
        for labels, row in [pair for pair in target.rows.items() if pair[1].block == number]:
            if row.row in new_row:
                target.rows[labels] = msgspec.structs.replace(row, row=new_row[row.row])
            else:
                del target.rows[labels]

    def put(
        self, number: int, table: IntArray, times_ms: IntArray, bits: IntArray, marks: IntArray
    ) -> None:
        """Set a block's whole content, lying in its capacity as `table` has it."""
        self._memory.release(*self._place(number))
        block = self.blocks[number]
        for field in (kernel.CAPACITY, kernel.START, kernel.COUNT, kernel.ROWS, kernel.BASE):
            block[field] = table[field]
        self._allocate(number)
        own_times, own_bits, own_marks = self._parts(number, int(block[kernel.ROWS]))
        window = slice(int(block[kernel.START]), int(block[kernel.START] + block[kernel.COUNT]))
        own_times[window] = times_ms
        own_bits[window] = bits
        own_marks[:] = marks

    def _allocate(self, number: int) -> None:
        """A new place for a block, for the capacity and the rows that it has now."""
        block = self.blocks[number]
        capacity, rows = int(block[kernel.CAPACITY]), int(block[kernel.ROWS])
        at = self._memory.allocate(_size(capacity, rows))
        block[kernel.TIMES_AT] = at
        block[kernel.VALUES_AT] = at + capacity
        block[kernel.MARKS_AT] = at + capacity * (1 + rows)

    def numbers(self) -> IntArray:
        """The numbers of the blocks that are in use."""
        return np.setdiff1d(np.arange(len(self.blocks)), self._free, assume_unique=True)

    def _place(self, number: int) -> tuple[int, int]:
        """Where a block begins, and how many items it has."""
        block = self.blocks[number]
        return int(block[kernel.TIMES_AT]), _size(
            int(block[kernel.CAPACITY]), int(block[kernel.ROWS])
        )

    def _release(self, number: int) -> None:
        self._memory.release(*self._place(number))
        self._free.append(number)

    def samples(self, number: int) -> tuple[IntArray, IntArray]:
        """Times and values (as bits) [time, series] of a block; views."""
        block = self.blocks[number]
        times_ms, bits, _ = self._parts(number, int(block[kernel.ROWS]))
        window = slice(int(block[kernel.START]), int(block[kernel.START] + block[kernel.COUNT]))
        return times_ms[window], bits[window]

    def marks(self, number: int) -> IntArray:
        """Marks [series, 3] of a block; a view."""
        return self._parts(number, int(self.blocks[number, kernel.ROWS]))[2]

    def replace_samples(
        self, number: int, times_ms: IntArray, bits: IntArray, marks: IntArray
    ) -> None:
        """Set a block's whole content: `bits` [time, series], `marks` [series, 3]."""
        block = self.blocks[number]
        block[[kernel.START, kernel.COUNT, kernel.BASE]] = 0
        capacity = _FIRST_CAPACITY
        while capacity <= len(times_ms):
            capacity = 2 * capacity
        self._resize(number, capacity, int(block[kernel.ROWS]))
        own_times, own_bits, own_marks = self._parts(number, int(block[kernel.ROWS]))
        own_times[: len(times_ms)] = times_ms
        own_bits[: len(times_ms)] = bits
        own_marks[:] = marks
        block[kernel.COUNT] = len(times_ms)


def _size(capacity: int, rows: int) -> int:
    """Items of a block: a time and the rows' values for each frame, and the rows' marks."""
    return capacity * (1 + rows) + rows * kernel.MARKS
