"""Expression text to a `Plan`, by promql-parser's syntax tree."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal, cast

import promql_parser as syntax

from pipeline.promql.functions import (
    AGGREGATIONS,
    ELEMENTWISE,
    RANGE_FUNCTIONS,
    SET_OPERATORS,
)
from pipeline.promql.matchers import Matcher, MatchOperator, check_pattern
from pipeline.promql.plan import (
    Absent,
    Aggregate,
    Binary,
    Elementwise,
    Matching,
    Node,
    Now,
    Number,
    Plan,
    PromqlError,
    RangeCall,
    Select,
    Selector,
    SetOperation,
    ToScalar,
    ToVector,
    Version,
    is_scalar,
    make_plan,
)

_MATCH_OPERATORS: dict[str, MatchOperator] = {
    "MatchOp.Equal": "=",
    "MatchOp.NotEqual": "!=",
    "MatchOp.Re": "=~",
    "MatchOp.NotRe": "!~",
}


def compile_expr(text: str, version: Version = "3") -> Plan:
    """The plan of `text`.

    Raises
    ------
    PromqlError
        If `text` isn't PromQL, or uses what can't be evaluated here.

    >>> compile_expr("up == 0").scope
    'local'
    """
    try:
        tree = syntax.parse(text)
    except ValueError as error:
        raise PromqlError(str(error), _position(text, str(error))) from None
    return make_plan(text, _Compiler(text, version).node(tree), version)


def _position(text: str, message: str) -> int | None:
    """Where the thing that the parser's message quotes stands; the parser tells no positions."""
    quoted = re.search(r"'([^']+)'", message)
    if quoted is None:
        return len(text) if "unexpected end" in message or "unclosed" in message else None
    return _find(text, quoted[1])


def _find(text: str, word: str) -> int | None:
    """Offset of the first `word` in `text` outside strings and comments, and not as a label."""
    blanked = re.sub(
        r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`|#[^\n]*",
        lambda found: " " * len(found[0]),
        text,
    )
    pattern = re.escape(word)
    if word[0].isalpha():
        pattern = rf"(?<!\w){pattern}(?!\w)(?!\s*(?:=|!=|!~))"
    found = re.search(pattern, blanked)
    return found.start() if found else None


class _Compiler:
    def __init__(self, text: str, version: Version) -> None:
        self.text = text
        self.version = version

    def refusal(self, message: str, word: str) -> PromqlError:
        return PromqlError(message, _find(self.text, word))

    def node(self, tree: syntax.Expr) -> Node:
        match tree:
            case syntax.ParenExpr():
                return self.node(tree.expr)
            case syntax.NumberLiteral():
                return Number(tree.val)
            case syntax.VectorSelector():
                return Select(self.selector(tree))
            case syntax.UnaryExpr():
                return Elementwise("negate", self.node(tree.expr))
            case syntax.Call():
                return self.call(tree)
            case syntax.AggregateExpr():
                return self.aggregate(tree)
            case syntax.BinaryExpr():
                return self.binary(tree)
            case syntax.MatrixSelector():
                raise PromqlError("a range vector is no result: a function has to take it")
            case syntax.SubqueryExpr():
                raise self.refusal("subqueries are not supported", ":")
            case _:
                raise PromqlError("a string is no result")

    def selector(self, tree: syntax.VectorSelector, range_ms: int = 0) -> Selector:
        if tree.at is not None:
            raise self.refusal("the @ modifier is not supported", "@")
        if tree.matchers.or_matchers:
            raise self.refusal("'or' between matchers is not supported", "or")
        matchers = [
            self.matcher(_MATCH_OPERATORS[str(matcher.op)], matcher.name, matcher.value)
            for matcher in tree.matchers.matchers
        ]
        if tree.name is not None:
            matchers.insert(0, Matcher("__name__", "=", tree.name))
        offset = tree.offset if tree.offset is not None else timedelta()
        return Selector(tuple(matchers), range_ms, _milliseconds(offset))

    def matcher(self, operator: MatchOperator, name: str, value: str) -> Matcher:
        if operator in ("=~", "!~") and (reason := check_pattern(value)) is not None:
            raise PromqlError(f"regular expression of {name}: {reason}", self.text.find(value))
        return Matcher(name, operator, value, dot_matches_newline=self.version == "3")

    def call(self, tree: syntax.Call) -> Node:
        name: str = tree.func.name
        arguments = [_without_parentheses(argument) for argument in tree.args]
        if name in RANGE_FUNCTIONS:
            parameter = self.node(arguments[1]) if len(arguments) > 1 else None
            return RangeCall(name, self.range_selector(arguments[0]), parameter)
        if name in ELEMENTWISE:
            operand, *parameters = map(self.node, arguments)
            return Elementwise(name, operand, tuple(parameters))
        match name:
            case "time":
                return Now()
            case "vector":
                return ToVector(self.node(arguments[0]))
            case "scalar":
                return ToScalar(self.node(arguments[0]))
            case "absent":
                return Absent(self.node(arguments[0]), _fixed_labels(arguments[0]))
            case "absent_over_time":
                selector = self.range_selector(arguments[0])
                present = RangeCall("present_over_time", selector)
                return Absent(present, _fixed_labels(arguments[0]))
        raise self.refusal(f"function {name} is not supported", name)

    def range_selector(self, tree: syntax.Expr) -> Selector:
        if not isinstance(tree, syntax.MatrixSelector):
            raise self.refusal("subqueries are not supported", ":")
        return self.selector(tree.vector_selector, _milliseconds(tree.range))

    def aggregate(self, tree: syntax.AggregateExpr) -> Node:
        operator = str(tree.op)
        if operator not in AGGREGATIONS:
            raise self.refusal(f"aggregation {operator} is not supported", operator)
        modifier = tree.modifier
        return Aggregate(
            operator=operator,
            operand=self.node(tree.expr),
            labels=() if modifier is None else tuple(modifier.labels),
            without=modifier is not None and str(modifier.type).endswith("Without"),
        )

    def binary(self, tree: syntax.BinaryExpr) -> Node:
        operator = str(tree.op)
        left, right = self.node(tree.lhs), self.node(tree.rhs)
        matching = self.matching(tree.modifier)
        if operator in SET_OPERATORS:
            kind = cast("Literal['and', 'or', 'unless']", operator)  # SET_OPERATORS are these
            return SetOperation(kind, left, right, matching)
        return Binary(
            operator=operator,
            left=left,
            right=right,
            matching=None if is_scalar(left) or is_scalar(right) else matching,
            as_bool=tree.modifier is not None and tree.modifier.return_bool,
        )

    def matching(self, modifier: syntax.BinModifier | None) -> Matching:
        if modifier is None:
            return Matching()
        fill = modifier.fill_values
        if fill is not None and (fill.lhs is not None or fill.rhs is not None):
            raise self.refusal("fill modifiers are not supported", "fill")
        by = modifier.matching
        cardinality = str(modifier.card)
        return Matching(
            labels=() if by is None else tuple(by.labels),
            on=by is not None and str(by.type).endswith("Include"),
            group="left"
            if cardinality.endswith("ManyToOne")
            else "right"
            if cardinality.endswith("OneToMany")
            else "",
            include=tuple(modifier.group_labels or ()),
        )


def _milliseconds(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))


def _without_parentheses(tree: syntax.Expr) -> syntax.Expr:
    while isinstance(tree, syntax.ParenExpr):
        tree = tree.expr
    return tree


def _fixed_labels(tree: syntax.Expr) -> tuple[tuple[str, str], ...]:
    """The labels of `absent(tree)`: what its matchers say with `=`, once.

    References
    ----------
    prometheus/promql/functions.go: createLabelsForAbsentFunction.
    """
    if isinstance(tree, syntax.MatrixSelector):
        tree = tree.vector_selector
    if not isinstance(tree, syntax.VectorSelector):
        return ()
    labels: dict[str, str] = {}
    seen: set[str] = set()
    for matcher in tree.matchers.matchers:
        if matcher.name == "__name__":
            continue
        if _MATCH_OPERATORS[str(matcher.op)] == "=" and matcher.name not in seen:
            seen.add(matcher.name)
            labels[matcher.name] = matcher.value
        else:
            labels.pop(matcher.name, None)
    return tuple(sorted((name, value) for name, value in labels.items() if value))
