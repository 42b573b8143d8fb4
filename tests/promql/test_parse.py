from __future__ import annotations

import pytest

from pipeline.model import Series, SeriesDictionary, Target, labels_from
from pipeline.promql.parse import compile_expr
from pipeline.promql.plan import PromqlError, Selector
from pipeline.promql.selection import (
    SelectorIndex,
    selected_columns,
    selected_scores,
    selects_scores,
)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("foo bar", None, "invalid promql query"),
        ("rate(x[5m", 9, "unexpected end of input"),
        ("a + sum(", 8, "unclosed left parenthesis"),
        ("a + nofunc(x)", 4, "unknown function"),
        ("rate(x)", 0, "expected type matrix"),
        ('x{a=~"("}', None, "illegal regex"),
        ('a + x{b=~"c{1001}"}', 10, "regular expression of b"),
        ("x[5m]", None, "a range vector is no result"),
        ('"text"', None, "a string is no result"),
        ("max_over_time(x[5m:1m])", 18, "subqueries are not supported"),
        ("(x[5m:1m])", 5, "subqueries are not supported"),
        ("x + y @ 5", 6, "the @ modifier is not supported"),
        ('x{a="1" or b="2"}', 8, "'or' between matchers"),
        ("1 + topk(1, x)", 4, "aggregation topk is not supported"),
        ("histogram_quantile(0.9, x)", 0, "function histogram_quantile is not supported"),
        ('x{hour="1"} + hour(x)', 14, "function hour is not supported"),
        ("x + fill(0) y", 4, "fill modifiers are not supported"),
        ("x and 1", 2, "not allowed"),
    ],
)
def test_what_is_refused_and_where(text, position, message) -> None:
    with pytest.raises(PromqlError, match=message) as caught:
        compile_expr(text)
    assert caught.value.position == position
    assert message in caught.value.message
    assert (f"at character {position}" in str(caught.value)) == (position is not None)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("up == 0", "local"),
        ("-rate(x[5m]) * 2 > 1", "local"),
        ("2 < x", "local"),
        ("clamp_max(x, 5)", "local"),
        ("clamp_max(x, scalar(y))", "global"),
        ("predict_linear(x[1h], 60) < 0", "local"),
        ("predict_linear(x[1h], scalar(y)) < 0", "global"),
        ("sum by (job, instance) (x)", "local"),
        ("sum by (job) (x)", "global"),
        ("sum(x)", "global"),
        ("avg without (cpu) (x)", "local"),
        ("avg without (instance) (x)", "global"),
        ("sum by (instance) (sum by (job) (x))", "global"),
        ("a / b", "local"),
        ("a / on (instance) b", "local"),
        ("a / on (job) b", "global"),
        ("a / ignoring (instance) b", "global"),
        ("a * on (instance) group_left (node) b", "local"),
        ("a and on (instance) b", "local"),
        ("a unless on () b", "global"),
        ("a or sum(b)", "global"),
        ("a or vector(0)", "global"),
        ("absent(a)", "global"),
        ("a > scalar(b)", "global"),
        ("a > time()", "local"),
        ("vector(1)", "global"),
        ("1 + 1", "global"),
        ("sum(a) / a", "global"),
    ],
)
def test_scope_is_local_if_every_element_keeps_its_instance(text, scope) -> None:
    assert compile_expr(text).scope == scope


@pytest.mark.parametrize(
    ("text", "history_s"),
    [
        ("x", 300),
        ("x offset 1h", 3900),
        ("x offset -10m", 0),
        ("rate(x[10m]) > rate(x[1h] offset 5m)", 3900),
        ("1", 0),
        ("rate(x[1m])", 60),
    ],
)
def test_history_is_the_longest_look_back(text, history_s) -> None:
    assert compile_expr(text).history_ms == history_s * 1000


def test_selectors_of_a_plan_are_distinct() -> None:
    plan = compile_expr('x > 1 and x < 5 and rate(y{a="b"}[5m] offset 90s) > 0')
    x, y = plan.selectors
    assert (x.range_ms, x.offset_ms) == (0, 0)
    assert isinstance(y, Selector)
    assert (y.range_ms, y.offset_ms) == (300_000, 90_000)
    assert [(m.name, m.operator, m.value) for m in y.matchers] == [
        ("__name__", "=", "y"),
        ("a", "=", "b"),
    ]


def test_kind() -> None:
    assert compile_expr("1 + time()").kind == "scalar"
    assert compile_expr("-scalar(x)").kind == "scalar"
    assert compile_expr("1 + x").kind == "vector"


def test_selected_columns_are_those_of_any_plan() -> None:
    series = tuple(
        Series(labels_from({"__name__": name, "d": d})) for name, d in ["ax", "bx", "by", "cx"]
    )
    known = SeriesDictionary(Target("j", "i", "/m"), series)
    plans = [compile_expr('b{d="y"}'), compile_expr("rate(c[5m])")]
    assert selected_columns(known, SelectorIndex(plans)).tolist() == [2, 3]
    assert selected_columns(known, SelectorIndex([])).tolist() == []
    assert not selects_scores(plans)
    scored = compile_expr('anomaly_score{for="a"} > 1')
    assert selects_scores([*plans, scored])
    assert selected_columns(known, SelectorIndex([scored])).tolist() == []
    assert selected_scores(known, SelectorIndex([scored])).tolist() == [0]
    assert selected_scores(known, SelectorIndex(plans)).tolist() == []
    assert selects_scores([compile_expr('{__name__=~"anomaly_.*"}')])
