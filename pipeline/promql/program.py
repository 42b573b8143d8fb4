"""Assembling a program: operations and the lists they refer to, as one array for the kernel.

A program is relocatable: every place in it counts from its own beginning. First come the
operations (`kernel.OPERATION_WIDTH` integers each), then their lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from pipeline.model import Labels
from pipeline.promql import kernel

_LISTS = {
    kernel.OP_SELECT: kernel.A0,
    kernel.OP_RANGE: kernel.A1,
    kernel.OP_PAIRS: kernel.A4,
    kernel.OP_AND: kernel.A4,
    kernel.OP_OR: kernel.A4,
    kernel.OP_UNLESS: kernel.A4,
    kernel.OP_AGGREGATE: kernel.A3,
    kernel.OP_UNIQUE: kernel.A1,
    kernel.OP_MERGE: kernel.A1,
}
"""The field of an operation that holds the place of its list."""

EMPTY_LABELS: Labels = ()


class Vector(msgspec.Struct, frozen=True):
    """What an operation leaves behind: a label set for each row, in registers from `at` on.

    `operation` is -1 for a vector that has no rows in this instance. A scalar has one row without
    labels.
    """

    operation: int
    at: int
    labels: tuple[Labels, ...]

    def __len__(self) -> int:
        return len(self.labels)


NOTHING = Vector(-1, 0, ())


class Assembler:
    """Collects the operations of one instance."""

    def __init__(self) -> None:
        self.registers = 0
        self.cache_size = 0
        self.groups = 0
        self.operations: list[list[int]] = []
        self.dependencies: list[tuple[int, ...]] = []
        self._lists: list[int] = []

    def emit(
        self,
        opcode: int,
        labels: Sequence[Labels],
        operands: Iterable[Vector | int],
        *fields: int,
        listed: Sequence[int] = (),
    ) -> Vector:
        """Add an operation with a row for each of `labels`; `operands` have to run before it."""
        dependencies = tuple(
            number
            for operand in operands
            if (number := operand.operation if isinstance(operand, Vector) else operand) >= 0
        )
        operation = [opcode, self.registers, len(labels), len(self._lists), len(dependencies)]
        self._lists += dependencies
        operation += [*fields, *[0] * (kernel.OPERATION_WIDTH - len(operation) - len(fields))]
        if opcode in _LISTS:
            operation[_LISTS[opcode]] = len(self._lists)
            self._lists += listed
        vector = Vector(len(self.operations), self.registers, tuple(labels))
        self.operations.append(operation)
        self.dependencies.append(dependencies)
        self.registers += len(labels)
        return vector

    def reserve_cache(self, rows: int, width: int) -> int:
        at = self.cache_size
        self.cache_size += rows * width
        return at

    def merged(self, vector: Vector) -> Vector:
        """`vector` with one row for each label set; several present ones are an error."""
        rows: dict[Labels, list[int]] = {}
        for row, labels in enumerate(vector.labels):
            rows.setdefault(labels, []).append(row)
        if len(rows) == len(vector):
            return vector
        listed = _counted(rows.values())
        return self.emit(
            kernel.OP_MERGE, tuple(rows), [vector], vector.at, 0, listed=listed
        )  # fmt: skip

    def only_one(
        self,
        vector: Vector,
        groups: Iterable[Sequence[int]],
        error: int,
        unless_empty: Vector | None,
    ) -> int:
        """Demand that of each group of rows at most one is present; the operation, -1 if none.

        With `unless_empty` only while that vector has an element.
        """
        doubtful = [rows for rows in groups if len(rows) > 1]
        if not doubtful:
            return -1
        needs = [vector] if unless_empty is None else [vector, unless_empty]
        other, size = (-1, 0) if unless_empty is None else (unless_empty.at, len(unless_empty))
        fields = (vector.at, 0, other, size, len(doubtful), error)
        check = self.emit(kernel.OP_UNIQUE, (), needs, *fields, listed=_counted(doubtful))
        return check.operation

    def assemble(self) -> kernel.Int32Array:
        """The finished code."""
        lists_at = len(self.operations) * kernel.OPERATION_WIDTH
        code: list[int] = []
        for operation in self.operations:
            placed = list(operation)
            placed[kernel.DEPENDENCIES] += lists_at
            if placed[kernel.OPCODE] in _LISTS:
                placed[_LISTS[placed[kernel.OPCODE]]] += lists_at
            code += placed
        return np.array(code + self._lists, dtype=np.int32)


def _counted(groups: Iterable[Sequence[int]]) -> list[int]:
    return [number for rows in groups for number in (len(rows), *rows)]
