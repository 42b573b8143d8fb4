"""Operators, matching, set operations, aggregations and functions of single values."""

from __future__ import annotations

import math

import pytest

NAN, INF = math.nan, math.inf


def labels(**pairs: str) -> tuple[tuple[str, str], ...]:
    pairs = {"__name__" if name == "name" else name: value for name, value in pairs.items()}
    return tuple(sorted({"instance": "i", **pairs}.items()))


PAIR = {'a{d="x"}': [6.0], 'a{d="y"}': [-7.0], 'b{d="x"}': [4.0], 'b{d="z"}': [1.0]}
MANY = {
    'disk{d="x",k="1"}': [1.0],
    'disk{d="x",k="2"}': [2.0],
    'disk{d="y",k="1"}': [3.0],
    'team{d="x",owner="red"}': [10.0],
    'team{d="y",owner="blue"}': [20.0],
}


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("+", 10),
        ("-", 2),
        ("*", 24),
        ("/", 1.5),
        ("%", 2),
        ("^", 1296),
        ("atan2", math.atan2(6, 4)),
    ],
)
def test_arithmetic_matches_equal_labels_and_drops_the_name(ask, operator, expected) -> None:
    assert ask(PAIR, f"a {operator} b", 0) == {labels(d="x"): expected}


@pytest.mark.parametrize(
    ("operator", "holds"),
    [("==", False), ("!=", True), (">", True), ("<", False), (">=", True), ("<=", False)],
)
def test_comparison_keeps_the_left_element_or_says_so(ask, operator, holds) -> None:
    kept = {labels(name="a", d="x"): 6.0} if holds else {}
    assert ask(PAIR, f"a {operator} b", 0) == kept
    assert ask(PAIR, f"a {operator} bool b", 0) == {labels(d="x"): float(holds)}


def test_comparison_of_equals(ask) -> None:
    for operator, holds in [("==", 1), ("!=", 0), (">", 0), ("<", 0), (">=", 1), ("<=", 1)]:
        assert ask({}, f"2 {operator} bool 2", 0) == {(): holds}


def test_scalar_sides(ask) -> None:
    assert ask(PAIR, "b / 2", 0) == {labels(d="x"): 2, labels(d="z"): 0.5}
    assert ask(PAIR, "2 / b", 0) == {labels(d="x"): 0.5, labels(d="z"): 2}
    assert ask(PAIR, "b > 2", 0) == {labels(name="b", d="x"): 4}
    # The vector's value is kept, wherever it stands.
    assert ask(PAIR, "2 < b", 0) == {labels(name="b", d="x"): 4}
    assert ask(PAIR, "2 < bool b", 0) == {labels(d="x"): 1, labels(d="z"): 0}
    assert ask({}, "7 - 2 * 3", 0) == {(): 1}
    assert ask(PAIR, "nothing > 1", 0) == {}


def test_division_by_zero_and_sign_of_modulo(ask) -> None:
    assert ask({}, "1 / 0", 0) == {(): INF}
    assert ask({}, "-1 / 0", 0) == {(): -INF}
    assert math.isnan(ask({}, "0 / 0", 0)[()])
    assert ask({}, "-7 % 4", 0) == {(): -3}


def test_nan_compares_as_false_but_is_present(ask) -> None:
    series = {"a": [NAN]}
    assert list(ask(series, "a", 0)) == [labels(name="a")]
    assert ask(series, "a == a", 0) == {}
    assert list(ask(series, "a != a", 0)) == [labels(name="a")]


def test_on_and_ignoring_decide_match_and_result_labels(ask) -> None:
    assert ask(MANY, 'disk{k="1"} * on(d) team', 0) == {(("d", "x"),): 10, (("d", "y"),): 60}
    assert ask(MANY, 'disk{k="1"} * ignoring(k, owner) team', 0) == {
        labels(d="x"): 10,
        labels(d="y"): 60,
    }
    assert ask(MANY, 'disk{k="1"} < on(d) team', 0) == {(("d", "x"),): 1, (("d", "y"),): 3}


def test_group_left_takes_labels_of_the_one_side(ask) -> None:
    expected = {
        labels(d="x", k="1", owner="red"): 10,
        labels(d="x", k="2", owner="red"): 20,
        labels(d="y", k="1", owner="blue"): 60,
    }
    assert ask(MANY, "disk * on(d) group_left(owner) team", 0) == expected
    assert ask(MANY, "team * on(d) group_right(owner) disk", 0) == expected
    # A label that the one side lacks is removed; the sides keep their places in the operation.
    assert ask(MANY, 'team{d="y"} - on(d) group_right(nothing) disk', 0) == {
        labels(d="y", k="1"): 17
    }
    assert ask(MANY, 'team{d="y"} > on(d) group_right disk', 0) == {
        labels(name="disk", d="y", k="1"): 20
    }


def test_several_on_the_one_side_are_an_error(ask) -> None:
    text = "several series on the 'one' side of an operator match"
    assert ask(MANY, "team * on(d) disk", 0) == text
    assert ask(MANY, "disk * on(d) group_right team", 0) == text
    # Only if they are there, and the other side has anything.
    assert ask(MANY, "team * on(d) (disk != 2)", 0) == {(("d", "x"),): 10, (("d", "y"),): 60}
    assert ask(MANY, "(team > 100) * on(d) disk", 0) == {}


def test_several_on_the_left_need_group_left(ask) -> None:
    text = (
        "several series on both sides of an operator match: "
        "many-to-one matching must be explicit (group_left, group_right)"
    )
    assert ask(MANY, "disk * on(d) team", 0) == text
    assert ask(MANY, "disk * ignoring(k, owner) team", 0) == text
    assert ask(MANY, "(disk != 2) * on(d) team", 0) == {(("d", "x"),): 10, (("d", "y"),): 60}


def test_version_3_finds_several_matches_before_it_filters(ask) -> None:
    assert ask(MANY, "disk > on(d) team", 0, version="2") == {}
    assert "many-to-one" in ask(MANY, "disk > on(d) team", 0, version="3")


def test_group_left_must_leave_labels_unique(ask) -> None:
    several = "several elements of a result have the same labels"
    assert ask(MANY, "disk * on(d) group_left(k) team", 0) == several


def test_an_error_below_spoils_what_stands_on_it(ask) -> None:
    assert isinstance(ask(MANY, "sum(team * on(d) disk) + 1", 0), str)


def test_set_operations(ask) -> None:
    a_x, a_y = labels(name="a", d="x"), labels(name="a", d="y")
    b_x, b_z = labels(name="b", d="x"), labels(name="b", d="z")
    assert ask(PAIR, "a and b", 0) == {a_x: 6}
    assert ask(PAIR, "a unless b", 0) == {a_y: -7}
    assert ask(PAIR, "a or b", 0) == {a_x: 6, a_y: -7, b_z: 1}
    assert ask(PAIR, "a and on() b", 0) == {a_x: 6, a_y: -7}
    assert ask(PAIR, "a unless on() b", 0) == {}
    assert ask(PAIR, "(a > 100) or on() b", 0) == {b_x: 4, b_z: 1}
    assert ask(PAIR, "a and (b > 100)", 0) == {}
    assert ask(PAIR, "a unless nothing", 0) == {a_x: 6, a_y: -7}
    assert ask(PAIR, "nothing or b", 0) == {b_x: 4, b_z: 1}
    assert ask(PAIR, "a and nothing", 0) == {}


def test_unary_minus_drops_the_name(ask) -> None:
    assert ask(PAIR, "-a", 0) == {labels(d="x"): -6, labels(d="y"): 7}
    assert ask({}, "-2 ^ 2", 0) == {(): -4}
    assert ask(PAIR, "-nothing", 0) == {}


GROUPS = {'g{d="x",k="1"}': [1.0], 'g{d="x",k="2"}': [4.0], 'g{d="y",k="1"}': [10.0]}


@pytest.mark.parametrize(
    ("operator", "x", "y"),
    [
        ("sum", 5, 10),
        ("avg", 2.5, 10),
        ("min", 1, 10),
        ("max", 4, 10),
        ("count", 2, 1),
        ("group", 1, 1),
        ("stdvar", 2.25, 0),
        ("stddev", 1.5, 0),
    ],
)
def test_aggregation_by_and_without(ask, operator, x, y) -> None:
    assert ask(GROUPS, f"{operator} by (d) (g)", 0) == {(("d", "x"),): x, (("d", "y"),): y}
    assert ask(GROUPS, f"{operator} without (k) (g)", 0) == {labels(d="x"): x, labels(d="y"): y}


def test_aggregation_of_what_is_left(ask) -> None:
    assert ask(GROUPS, "count by (d) (g > 3)", 0) == {(("d", "x"),): 1, (("d", "y"),): 1}
    assert ask(GROUPS, "sum(g > 100)", 0) == {}
    assert ask(GROUPS, "sum(nothing)", 0) == {}
    assert ask(GROUPS, "sum by (nolabel) (g)", 0) == {(): 15}


def test_aggregation_with_nan_and_infinity(ask) -> None:
    series = {'g{d="1"}': [NAN], 'g{d="2"}': [2.0], 'g{d="3"}': [1.0]}
    assert ask(series, "max(g)", 0) == {(): 2}
    assert ask(series, "min(g)", 0) == {(): 1}
    assert math.isnan(ask(series, "sum(g)", 0)[()])
    same = {'g{d="1"}': [INF], 'g{d="2"}': [1.0], 'g{d="3"}': [INF]}
    assert ask(same, "avg(g)", 0) == {(): INF}
    both = {'g{d="1"}': [INF], 'g{d="2"}': [-INF]}
    assert math.isnan(ask(both, "avg(g)", 0)[()])


def test_sum_is_compensated_in_version_3_only(ask) -> None:
    series = {f'g{{d="{i}"}}': [v] for i, v in enumerate([1.0, 1e100, 1.0, -1e100])}
    assert ask(series, "sum(g)", 0, version="3") == {(): 2}
    assert ask(series, "sum(g)", 0, version="2") == {(): 0}


def test_absent(ask) -> None:
    assert ask({}, 'absent(x{a="1",b=~"2",c!="3"})', 0) == {(("a", "1"),): 1}
    assert ask({}, 'absent(x{a="1",a="2"})', 0) == {(): 1}
    assert ask({}, 'absent({__name__="x",a="1"})', 0) == {(("a", "1"),): 1}
    assert ask({}, 'absent((x{a="1"}))', 0) == {(("a", "1"),): 1}
    assert ask({}, "absent(sum(x))", 0) == {(): 1}
    assert ask({"x": [1.0]}, "absent(x)", 0) == {}
    assert ask({"x": [1.0]}, "absent(x > 1)", 0) == {(): 1}
    assert ask({"x": [1.0]}, "absent(x)", 600) == {(): 1}
    assert ask({"x": [1.0]}, 'absent_over_time(x{a=""}[15m])', 600) == {}
    assert ask({}, 'absent_over_time(x{a="b"}[5m])', 0) == {(("a", "b"),): 1}


def test_scalar_vector_and_time(ask) -> None:
    assert ask({}, "time()", 90.5) == {(): 90.5}
    assert ask({}, "vector(time() + 1)", 60) == {(): 61}
    assert ask({"x": [3.0]}, "scalar(x) * 2", 0) == {(): 6}
    assert math.isnan(ask(PAIR, "scalar(a)", 0)[()])
    assert math.isnan(ask({}, "scalar(x)", 0)[()])
    assert ask(PAIR, "b * scalar(sum(b))", 0) == {labels(d="x"): 20, labels(d="z"): 5}


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("abs(-2.5)", 2.5),
        ("ceil(-2.5)", -2),
        ("floor(-2.5)", -3),
        ("sqrt(9)", 3),
        ("exp(0)", 1),
        ("ln(1)", 0),
        ("log2(8)", 3),
        ("log10(1000)", 3),
        ("sgn(-3)", -1),
        ("sgn(0)", 0),
        ("sgn(7)", 1),
        ("round(2.5)", 3),
        ("round(-2.5)", -2),
        ("round(7, 5)", 5),
        ("clamp(7, 1, 5)", 5),
        ("clamp(0, 1, 5)", 1),
        ("clamp(3, 1, 5)", 3),
        ("clamp_min(3, 5)", 5),
        ("clamp_max(7, 5)", 5),
        ("ln(0)", -INF),
    ],
)
def test_functions_of_single_values(ask, expr, expected) -> None:
    name, _, rest = expr.partition("(")
    number, *parameters = rest.rstrip(")").split(",")
    call = f"{name}(vector({number}){''.join(',' + p for p in parameters)})"
    assert ask({}, call, 0) == {(): expected}


def test_functions_of_nan(ask) -> None:
    for call in ("clamp(x, 1, 5)", "clamp_min(x, 5)", "clamp_max(x, 5)", "sgn(x)", "sqrt(-x * 0)"):
        assert math.isnan(next(iter(ask({"x": [NAN]}, call, 0).values())))


def test_clamp_between_crossed_limits_is_empty(ask) -> None:
    assert ask({"x": [3.0]}, "clamp(x, 2, 1)", 0) == {}
    assert ask({"x": [3.0]}, "abs(nothing)", 0) == {}


def test_version_2_differs_in_the_name_after_atan2_and_the_spread_of_one_infinity(ask) -> None:
    assert list(ask(PAIR, "a atan2 b", 0, version="2")) == [labels(name="a", d="x")]
    assert ask({"g": [INF]}, "stddev(g)", 0, version="2") == {(): 0}
    assert math.isnan(ask({"g": [INF]}, "stddev(g)", 0, version="3")[()])
