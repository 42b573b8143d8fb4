"""Instances of one shape: bound once, and then only given their own labels.

A fleet has many instances with the same kinds of series, which differ in the label pairs that all
series of an instance have in common (`instance`, `node`, …). Binding compares the labels of an
instance's series with each other, never with a constant: matchers have been applied before, and
`absent` is not shared. So what is bound for one instance, with a hole in place of the value of each
common pair, holds for every other of its shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec

from pipeline.model import Labels
from pipeline.promql.binding import bind
from pipeline.promql.graph import Graph
from pipeline.promql.library import Program, ProgramLibrary
from pipeline.promql.matchers import Matcher
from pipeline.promql.plan import Absent, Version
from pipeline.promql.program import Assembler
from pipeline.promql.windows import Row

_HOLE = "\ufffe"
"""Stands for the value of a common pair; recognised by identity."""

Pairs = Mapping[str, tuple[str, str]]


class Shape:
    """What instances of one shape share."""

    def __init__(
        self,
        key: bytes,
        program: Program,
        assembler: Assembler,
        results: Mapping[int, list[Labels]],
    ) -> None:
        self.key = key
        self.program = program
        self.results = results
        """The label sets that each plan can put out, with holes."""
        self.registers = assembler.registers
        self.operations = len(assembler.operations)
        self.groups = assembler.groups
        self.cache_size = assembler.cache_size
        self.users = 0

    def outputs(self, common: Pairs) -> dict[int, list[Labels]]:
        """The label sets of each plan for an instance with these common pairs."""
        filled: dict[Labels, Labels] = {}
        outputs: dict[int, list[Labels]] = {}
        for plan, results in self.results.items():
            own = outputs[plan] = []
            for labels in results:
                known = filled.get(labels)
                if known is None:
                    known = filled[labels] = tuple(
                        [common[pair[0]] if pair[1] is _HOLE else pair for pair in labels]
                    )
                own.append(known)
        return outputs


class Shapes:
    """The shapes in use, for the plans of one graph."""

    def __init__(
        self, graph: Graph, numbers: Mapping[tuple[Matcher, ...], int], version: Version
    ) -> None:
        self.library = ProgramLibrary()
        self._graph = graph
        self._numbers = numbers
        self._version: Version = version
        self._shared = not any(isinstance(node, Absent) for node in graph.nodes)
        self._known: dict[bytes, Shape] = {}

    def take(self, rows: Sequence[Row], blocks: int) -> tuple[Shape, dict[int, list[Labels]]]:
        """The shape of an instance with `rows` in `blocks` blocks, and its own outputs.

        The rows' blocks are numbered within the instance.
        """
        common = _common_pairs(rows) if self._shared else {}
        reduced = [_with_holes(row.labels, common) for row in rows]
        key = _key(rows, reduced)
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = self._new(key, rows, reduced, blocks)
        shape.users += 1
        return shape, shape.outputs(common)

    def release(self, shape: Shape) -> None:
        """An instance doesn't have the shape any more."""
        shape.users -= 1
        if shape.users == 0:
            del self._known[shape.key]
            self.library.release(shape.program)

    def _new(
        self, key: bytes, rows: Sequence[Row], reduced: Sequence[Labels], blocks: int
    ) -> Shape:
        selected: dict[int, list[Row]] = {}
        for row, labels in zip(rows, reduced, strict=True):
            for number in row.selectors:
                selected.setdefault(number, []).append(msgspec.structs.replace(row, labels=labels))
        assembler, vectors = bind(self._graph, selected, self._numbers, self._version)
        results = {
            plan: vectors[root] for plan, root in enumerate(self._graph.roots) if vectors[root]
        }
        program = self.library.adopt(assembler, results, slots_at=blocks)
        outputs = {plan: list(vector.labels) for plan, vector in results.items()}
        return Shape(key, program, assembler, outputs)


def _common_pairs(rows: Sequence[Row]) -> Pairs:
    if not rows:
        return {}
    common = set(rows[0].labels)
    for row in rows:
        common.intersection_update(row.labels)
    return {pair[0]: pair for pair in common}


def _with_holes(labels: Labels, common: Pairs) -> Labels:
    return tuple([(pair[0], _HOLE) if pair[0] in common else pair for pair in labels])


def _key(rows: Sequence[Row], reduced: Sequence[Labels]) -> bytes:
    content = [
        (labels, row.block, row.row, row.selectors)
        for row, labels in zip(rows, reduced, strict=True)
    ]
    return blake2b(msgspec.msgpack.encode(content), digest_size=16).digest()
