"""Plans: what a PromQL expression means, as frozen structs, without any data.

`pipeline.promql.parse` makes them, `pipeline.promql.binding` lays them over the series of an
instance. Equal nodes of several plans are evaluated once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from pipeline.promql.matchers import Matcher

Version = Literal["2", "3"]
"""Whose semantics: Prometheus 2 (ranges closed at both ends) or 3 (left-open)."""

Scope = Literal["local", "global"]

LOOKBACK_MS = 300_000
"""An instant selector sees the newest sample of the last five minutes (Prometheus' default)."""


class PromqlError(ValueError):
    """An expression that can't be compiled; `position` is an offset in characters, if known."""

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message if position is None else f"at character {position}: {message}")
        self.message = message
        self.position = position


class Selector(msgspec.Struct, frozen=True):
    """Series by matchers; an instant selector if `range_ms` is 0."""

    matchers: tuple[Matcher, ...]
    range_ms: int = 0
    offset_ms: int = 0

    @property
    def history_ms(self) -> int:
        return max(0, (self.range_ms or LOOKBACK_MS) + self.offset_ms)


class Number(msgspec.Struct, frozen=True):
    value: float


class Now(msgspec.Struct, frozen=True):
    """`time()`."""


class Select(msgspec.Struct, frozen=True):
    selector: Selector


class RangeCall(msgspec.Struct, frozen=True):
    """A function over a range vector; `parameter` is a scalar (predict_linear's seconds)."""

    function: str
    selector: Selector
    parameter: Node | None = None


class Elementwise(msgspec.Struct, frozen=True):
    """A function of each value by itself, with scalar parameters; unary minus is `negate`."""

    function: str
    operand: Node
    parameters: tuple[Node, ...] = ()


class Matching(msgspec.Struct, frozen=True):
    """How the two sides of a vector operator find each other."""

    labels: tuple[str, ...] = ()
    on: bool = False
    """`on(labels)` if true, else `ignoring(labels)`."""
    group: Literal["", "left", "right"] = ""
    include: tuple[str, ...] = ()

    @property
    def keeps_instance(self) -> bool:
        return ("instance" in self.labels) == self.on


class Binary(msgspec.Struct, frozen=True):
    """An arithmetic or comparison operator; `matching` is None where a side is a scalar."""

    operator: str
    left: Node
    right: Node
    matching: Matching | None
    as_bool: bool = False


class SetOperation(msgspec.Struct, frozen=True):
    operator: Literal["and", "or", "unless"]
    left: Node
    right: Node
    matching: Matching


class Aggregate(msgspec.Struct, frozen=True):
    operator: str
    operand: Node
    labels: tuple[str, ...]
    without: bool


class Absent(msgspec.Struct, frozen=True):
    """1 where `operand` has no element, with the `labels` that its matchers fix."""

    operand: Node
    labels: tuple[tuple[str, str], ...]


class ToScalar(msgspec.Struct, frozen=True):
    operand: Node


class ToVector(msgspec.Struct, frozen=True):
    operand: Node


Node = (
    Number
    | Now
    | Select
    | RangeCall
    | Elementwise
    | Binary
    | SetOperation
    | Aggregate
    | Absent
    | ToScalar
    | ToVector
)


class Plan(msgspec.Struct, frozen=True):
    """A compiled expression."""

    text: str
    root: Node
    version: Version
    selectors: tuple[Selector, ...]
    history_ms: int
    """The longest look-back of a selector: what the window store has to hold."""
    scope: Scope
    kind: Literal["vector", "scalar"]


def make_plan(text: str, root: Node, version: Version) -> Plan:
    """The plan of `root`, with what follows from its nodes."""
    selectors = tuple(dict.fromkeys(_selectors(root)))
    return Plan(
        text=text,
        root=root,
        version=version,
        selectors=selectors,
        history_ms=max((selector.history_ms for selector in selectors), default=0),
        scope="local" if keeps_instance(root) else "global",
        kind="scalar" if is_scalar(root) else "vector",
    )


def children(node: Node) -> tuple[Node, ...]:
    """The nodes whose values `node` needs."""
    match node:
        case Number() | Now() | Select():
            return ()
        case RangeCall():
            return () if node.parameter is None else (node.parameter,)
        case Elementwise():
            return (node.operand, *node.parameters)
        case Binary() | SetOperation():
            return (node.left, node.right)
        case Aggregate() | Absent() | ToScalar() | ToVector():
            return (node.operand,)


def is_scalar(node: Node) -> bool:
    match node:
        case Number() | Now() | ToScalar():
            return True
        case Binary():
            return is_scalar(node.left) and is_scalar(node.right)
        case Elementwise():
            return is_scalar(node.operand)
        case _:
            return False


def keeps_instance(node: Node) -> bool:
    """Whether every element of `node` comes from series of one `instance`, and carries it.

    Then a worker that has all series of an instance computes the same as one that has all series
    of all instances.
    """
    match node:
        case Number() | Now() | Absent() | ToScalar() | ToVector():
            return False
        case Select():
            return True
        case RangeCall():
            return node.parameter is None or _is_free_of_series(node.parameter)
        case Elementwise():
            return keeps_instance(node.operand) and all(map(_is_free_of_series, node.parameters))
        case Aggregate():
            named = "instance" in node.labels
            return named != node.without and keeps_instance(node.operand)
        case SetOperation():
            return (
                node.matching.keeps_instance
                and keeps_instance(node.left)
                and keeps_instance(node.right)
            )
        case Binary(matching=Matching() as matching):
            return (
                matching.keeps_instance and keeps_instance(node.left) and keeps_instance(node.right)
            )
        case Binary():
            return not is_scalar(node) and all(
                _is_free_of_series(side) if is_scalar(side) else keeps_instance(side)
                for side in (node.left, node.right)
            )


def _is_free_of_series(node: Node) -> bool:
    return next(_selectors(node), None) is None


def _selectors(node: Node) -> Iterator[Selector]:
    if isinstance(node, Select | RangeCall):
        yield node.selector
    for child in children(node):
        yield from _selectors(child)
