"""Relabelling: the cases of Prometheus' own tests (relabel_test.go, 2.42) and the errors."""

import pytest

from pipeline.collect.relabel import Relabel, RelabelConfig, relabel

ABC = {"a": "foo", "b": "bar", "c": "baz"}


@pytest.mark.parametrize(
    ("labels", "config", "expected"),
    [
        (
            ABC,
            RelabelConfig(("a",), regex="f(.*)", target_label="d", replacement="ch${1}-ch${1}"),
            ABC | {"d": "choo-choo"},
        ),
        (
            ABC,
            RelabelConfig(
                ("a", "b"), regex="f(.*);(.*)r", target_label="a", replacement="b${1}${2}m"
            ),
            ABC | {"a": "boobam"},
        ),
        (ABC, RelabelConfig(("a",), regex="no-match", target_label="a", replacement="x"), ABC),
        ({"a": "foo"}, RelabelConfig(("a",), regex=".*o.*", action="drop"), None),
        ({"a": "foo"}, RelabelConfig(("a",), regex="no", action="drop"), {"a": "foo"}),
        ({"a": "foo"}, RelabelConfig(("a",), regex="f|o", action="keep"), None),
        ({"a": "foo"}, RelabelConfig(("a",), regex="foo", action="keep"), {"a": "foo"}),
        ({"a": "boo"}, RelabelConfig(("a",), target_label="a", replacement=""), {}),
        (
            ABC,
            RelabelConfig(("c",), target_label="d", action="hashmod", modulus=1000),
            ABC | {"d": "976"},
        ),
        (
            {"a": "foo\nbar"},
            RelabelConfig(("a",), target_label="b", action="hashmod", modulus=1000),
            {"a": "foo\nbar", "b": "734"},
        ),
        (
            {"a": "foo", "b1": "bar", "b2": "baz"},
            RelabelConfig(regex="(b.*)", replacement="bar_${1}", action="labelmap"),
            {"a": "foo", "b1": "bar", "b2": "baz", "bar_b1": "bar", "bar_b2": "baz"},
        ),
        (
            {"__meta_my_bar": "aaa", "a": "x"},
            RelabelConfig(regex="__meta_(my.*)", replacement="${1}", action="labelmap"),
            {"__meta_my_bar": "aaa", "a": "x", "my_bar": "aaa"},
        ),
        ({"a": "x", "b1": "y"}, RelabelConfig(regex="(b.*)", action="labeldrop"), {"a": "x"}),
        ({"a": "x", "b1": "y"}, RelabelConfig(regex="(b.*)", action="labelkeep"), {"b1": "y"}),
        (
            {"a": "some-name-value"},
            RelabelConfig(
                ("a",), regex="some-([^-]+)-([^,]+)", target_label="${1}", replacement="${2}"
            ),
            {"a": "some-name-value", "name": "value"},
        ),
        (
            {"a": "some-0name-value"},
            RelabelConfig(
                ("a",), regex="some-([^-]+)-([^,]+)", target_label="${1}", replacement="${2}"
            ),
            {"a": "some-0name-value"},
        ),
        (
            {"a": "BaR"},
            RelabelConfig(("a",), target_label="b", action="lowercase"),
            {"a": "BaR", "b": "bar"},
        ),
        (
            {"a": "BaR"},
            RelabelConfig(("a",), target_label="b", action="uppercase"),
            {"a": "BaR", "b": "BAR"},
        ),
        (
            {"a": "1", "b": "1"},
            RelabelConfig(("a",), target_label="b", action="keepequal"),
            {"a": "1", "b": "1"},
        ),
        ({"a": "1", "b": "2"}, RelabelConfig(("a",), target_label="b", action="keepequal"), None),
        ({"a": "1", "b": "1"}, RelabelConfig(("a",), target_label="b", action="dropequal"), None),
        (
            {"a": "1", "b": "2"},
            RelabelConfig(("a",), target_label="b", action="dropequal"),
            {"a": "1", "b": "2"},
        ),
        (
            {"a": "x"},
            RelabelConfig(("a",), regex="(?P<l>.)", target_label="b", replacement="$l$$1$9${zz}"),
            {"a": "x", "b": "x$1"},
        ),
    ],
)
def test_an_action(
    labels: dict[str, str], config: RelabelConfig, expected: dict[str, str] | None
) -> None:
    assert relabel(labels, [Relabel(config)]) == expected


def test_rules_follow_one_another_until_one_drops() -> None:
    rules = [
        Relabel(RelabelConfig(("a",), target_label="b")),
        Relabel(RelabelConfig(("b",), regex="foo", action="drop")),
    ]

    assert relabel({"a": "foo"}, rules) is None
    assert relabel({"a": "bar"}, rules) == {"a": "bar", "b": "bar"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RelabelConfig(), "target_label: expected one for action replace, got none"),
        (
            RelabelConfig(target_label="a", action="hashmod"),
            "modulus: expected 1 or more for hashmod, got 0",
        ),
        (RelabelConfig(regex="(", action="keep"), "regex: expected RE2 syntax, got '('"),
        (
            RelabelConfig(regex="(?=a)", action="keep"),
            r"regex: expected RE2 syntax, got '\(\?=a\)'",
        ),
    ],
)
def test_a_rule_that_can_t_work_is_refused(config: RelabelConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("'('", r"'\('")):
        Relabel(config)
