"""Laying plans over the series of one instance: which rows each operator reads, matches, groups.

This is the slow path in Python, run when an instance gets new series. What depends only on labels
is decided here; the kernel then works on row numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.model import Labels
from pipeline.promql import kernel
from pipeline.promql.functions import (
    AGGREGATIONS,
    ARITHMETIC,
    COMPARISONS,
    ELEMENTWISE,
    RANGE_FUNCTIONS,
)
from pipeline.promql.graph import Graph
from pipeline.promql.matchers import Matcher
from pipeline.promql.plan import (
    Absent,
    Aggregate,
    Binary,
    Elementwise,
    Matching,
    Node,
    Now,
    Number,
    RangeCall,
    Select,
    SetOperation,
    ToScalar,
    ToVector,
    Version,
    is_scalar,
)
from pipeline.promql.program import EMPTY_LABELS, NOTHING, Assembler, Vector
from pipeline.promql.windows import Row

_OPERATORS = ARITHMETIC | COMPARISONS
_SET_OPCODES = {"and": kernel.OP_AND, "or": kernel.OP_OR, "unless": kernel.OP_UNLESS}
_CACHED = {kernel.DERIV, kernel.PREDICT_LINEAR, kernel.MIN_OVER_TIME, kernel.MAX_OVER_TIME}


def bind(
    graph: Graph,
    matcher_rows: Mapping[int, Sequence[Row]],
    matcher_numbers: Mapping[tuple[Matcher, ...], int],
    version: Version,
) -> tuple[Assembler, list[Vector]]:
    """The operations of all nodes over these rows, and the vector that each node leaves.

    `matcher_rows`: the series of the instance for each matcher set, by its number in
    `matcher_numbers`; their blocks are numbered within the instance, so that instances with the
    same kinds of series have the same program.
    """
    binder = _Binder(graph, matcher_rows, matcher_numbers, version)
    for node, operands in zip(graph.nodes, graph.operands, strict=True):
        vectors = [binder.vectors[number] for number in operands]
        binder.vectors.append(binder.bind(node, vectors))
    return binder.assembler, binder.vectors


def without_name(labels: Labels) -> Labels:
    return tuple(pair for pair in labels if pair[0] != "__name__")


class _Binder:
    def __init__(
        self,
        graph: Graph,
        matcher_rows: Mapping[int, Sequence[Row]],
        matcher_numbers: Mapping[tuple[Matcher, ...], int],
        version: Version,
    ) -> None:
        self.assembler = Assembler()
        self.vectors: list[Vector] = []
        self._durations = graph.durations
        self._literals = len(graph.durations)
        self._rows = matcher_rows
        self._numbers = matcher_numbers
        self._version3 = version == "3"

    def bind(self, node: Node, operands: list[Vector]) -> Vector:  # noqa: C901  a case each
        match node:
            case Number():
                place = self._literals
                self._literals += 1
                return self._one(kernel.OP_NUMBER, [], place)
            case Now():
                return self._one(kernel.OP_NOW, [])
            case Select():
                return self._select(node)
            case RangeCall():
                return self._range(node, operands)
            case Elementwise():
                return self._elementwise(node, operands)
            case Binary(matching=Matching() as matching):
                return self._matched(node, matching, *operands)
            case Binary():
                return self._with_scalar(node, *operands)
            case SetOperation():
                return self._set_operation(node, *operands)
            case Aggregate():
                return self._aggregate(node, operands[0])
            case Absent():
                vector = operands[0]
                fields = (vector.at, len(vector))
                return self.assembler.emit(kernel.OP_ABSENT, (node.labels,), operands, *fields)
            case ToScalar():
                return self._one(kernel.OP_SCALAR, operands, operands[0].at, len(operands[0]))
            case ToVector():
                return operands[0]

    def _one(self, opcode: int, operands: Sequence[Vector], *fields: int) -> Vector:
        return self.assembler.emit(opcode, (EMPTY_LABELS,), operands, *fields)

    def _stored(self, node: Select | RangeCall) -> Sequence[Row]:
        return self._rows.get(self._numbers[node.selector.matchers], ())

    def _select(self, node: Select) -> Vector:
        rows = self._stored(node)
        if not rows:
            return NOTHING
        vector = self.assembler.emit(
            kernel.OP_SELECT,
            [row.labels for row in rows],
            [],
            0,
            self._durations[node.selector.offset_ms],
            listed=_references(rows),
        )
        return self.assembler.merged(vector)

    def _range(self, node: RangeCall, operands: list[Vector]) -> Vector:
        rows = self._stored(node)
        if not rows:
            return NOTHING
        function = RANGE_FUNCTIONS[node.function]
        width = kernel.CACHE_WIDTH if function in _CACHED else 0
        labels = [row.labels for row in rows]
        if function != kernel.LAST_OVER_TIME:
            labels = list(map(without_name, labels))
        vector = self.assembler.emit(
            kernel.OP_RANGE,
            labels,
            operands,
            function,
            0,
            self._durations[node.selector.range_ms],
            self._durations[node.selector.offset_ms],
            operands[0].at if operands else -1,
            self.assembler.reserve_cache(len(rows), width),
            width,
            listed=_references(rows),
        )
        return self.assembler.merged(vector)

    def _elementwise(self, node: Elementwise, operands: list[Vector]) -> Vector:
        vector, *parameters = operands
        if not vector:
            return NOTHING
        places = [parameter.at for parameter in parameters] + [-1, -1]
        fields = (ELEMENTWISE[node.function], vector.at, *places[:2])
        labels = [without_name(labels) for labels in vector.labels]
        return self.assembler.merged(
            self.assembler.emit(kernel.OP_ELEMENTWISE, labels, operands, *fields)
        )

    def _with_scalar(self, node: Binary, left: Vector, right: Vector) -> Vector:
        left_scalar, right_scalar = is_scalar(node.left), is_scalar(node.right)
        vector = right if left_scalar else left
        if not vector:
            return NOTHING
        filters = node.operator in COMPARISONS and not node.as_bool
        flags = kernel.SCALAR_LEFT * left_scalar + kernel.SCALAR_RIGHT * right_scalar
        flags += kernel.AS_BOOL * node.as_bool
        flags += kernel.KEEP_RIGHT * (filters and left_scalar)
        labels = vector.labels
        if self._drops_name(node):
            labels = tuple(map(without_name, labels))
        fields = (_OPERATORS[node.operator], flags, left.at, right.at)
        return self.assembler.merged(
            self.assembler.emit(kernel.OP_BINARY, labels, (left, right), *fields)
        )

    def _drops_name(self, node: Binary) -> bool:
        """As shouldDropMetricName in prometheus/promql/engine.go; atan2 was left out in 2."""
        if node.operator == "atan2":
            return self._version3
        return node.as_bool or node.operator in ARITHMETIC

    def _matched(self, node: Binary, matching: Matching, left: Vector, right: Vector) -> Vector:
        """Both sides vectors: a row for each pair of rows that could meet.

        References
        ----------
        prometheus/promql/engine.go: VectorBinop, resultMetric.
        """
        if not left or not right:
            return NOTHING
        swapped = matching.group == "right"
        many, one = (right, left) if swapped else (left, right)
        partners = _by_signature(one, matching)
        drop_name = self._drops_name(node)
        labels: list[Labels] = []
        pairs: list[int] = []
        same_match: dict[Labels, list[int]] = {}
        for row, own in enumerate(many.labels):
            signature = _signature(own, matching)
            for partner in partners.get(signature, ()):
                same_match.setdefault(signature, []).append(len(labels))
                labels.append(_result_labels(own, one.labels[partner], matching, drop_name))
                pairs += (partner, row) if swapped else (row, partner)
        if not labels:
            return NOTHING
        unique = self.assembler.only_one(
            one, partners.values(), kernel.ERROR_DUPLICATE_MATCH, unless_empty=many
        )
        operator, places = _OPERATORS[node.operator], (left.at, right.at)
        operands = (left, right, unique)
        flags = kernel.AS_BOOL * node.as_bool
        vector = self.assembler.emit(
            kernel.OP_PAIRS, labels, operands, operator, flags, *places, listed=pairs
        )
        if matching.group:
            return self.assembler.merged(vector)
        met = vector
        if self._version3 and max(map(len, same_match.values())) > 1:
            # Prometheus 2 looks for several matches among the results, 3 before it filters.
            met = self.assembler.emit(
                kernel.OP_PAIRS, labels, operands, operator, kernel.AS_BOOL, *places, listed=pairs
            )
        check = self.assembler.only_one(
            met, same_match.values(), kernel.ERROR_MANY_TO_MANY, unless_empty=None
        )
        merged = self.assembler.merged(vector)
        return merged if check < 0 else self._guarded(merged, check)

    def _guarded(self, vector: Vector, check: int) -> Vector:
        """`vector`, to be used only where `check` raises no error: a copy that depends on both."""
        listed = [number for row in range(len(vector)) for number in (1, row)]
        operands = (vector, check)
        return self.assembler.emit(
            kernel.OP_MERGE, vector.labels, operands, vector.at, 0, listed=listed
        )  # fmt: skip

    def _set_operation(self, node: SetOperation, left: Vector, right: Vector) -> Vector:
        matching = node.matching
        lefts = [_signature(labels, matching) for labels in left.labels]
        rights = [_signature(labels, matching) for labels in right.labels]
        known = set(rights)
        rows = [
            row for row, signature in enumerate(lefts)
            if node.operator != "and" or signature in known
        ]  # fmt: skip
        groups: dict[Labels, int] = {}
        listed: list[int] = []
        for row in rows:
            listed += (row, groups.setdefault(lefts[row], len(groups)))
        for row, signature in enumerate(rights):
            listed += (row, groups.setdefault(signature, len(groups)))
        labels = [left.labels[row] for row in rows]
        if node.operator == "or":
            labels += right.labels
        if not labels:
            return NOTHING
        self.assembler.groups = max(self.assembler.groups, len(groups))
        fields = (left.at, right.at, len(rows), len(right), 0, len(groups))
        opcode = _SET_OPCODES[node.operator]
        return self.assembler.merged(
            self.assembler.emit(opcode, labels, (left, right), *fields, listed=listed)
        )

    def _aggregate(self, node: Aggregate, vector: Vector) -> Vector:
        if not vector:
            return NOTHING
        grouping = Matching(labels=node.labels, on=not node.without)
        groups: dict[Labels, int] = {}
        listed = [
            groups.setdefault(_signature(labels, grouping), len(groups)) for labels in vector.labels
        ]
        self.assembler.groups = max(self.assembler.groups, len(groups))
        fields = (AGGREGATIONS[node.operator], vector.at, len(vector))
        opcode = kernel.OP_AGGREGATE
        return self.assembler.emit(opcode, tuple(groups), [vector], *fields, listed=listed)


def _references(rows: Sequence[Row]) -> list[int]:
    return [number for row in rows for number in (row.block, row.row)]


def _signature(labels: Labels, matching: Matching) -> Labels:
    """The labels that two series have to share to meet; of an aggregation, those it keeps."""
    if matching.on:
        return tuple(pair for pair in labels if pair[0] in matching.labels)
    return tuple(
        pair for pair in labels if pair[0] != "__name__" and pair[0] not in matching.labels
    )


def _by_signature(vector: Vector, matching: Matching) -> dict[Labels, list[int]]:
    rows: dict[Labels, list[int]] = {}
    for row, labels in enumerate(vector.labels):
        rows.setdefault(_signature(labels, matching), []).append(row)
    return rows


def _result_labels(many: Labels, one: Labels, matching: Matching, drop_name: bool) -> Labels:
    labels = dict(many)
    if drop_name:
        labels.pop("__name__", None)
    if not matching.group:
        labels = {
            name: value
            for name, value in labels.items()
            if (name in matching.labels) == matching.on
        }
    source = dict(one)
    for name in matching.include:
        labels[name] = source.get(name, "")
    return tuple(sorted((name, value) for name, value in labels.items() if value))
