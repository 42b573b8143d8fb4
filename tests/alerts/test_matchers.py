from __future__ import annotations

import pytest

from pipeline.alerts.matchers import (
    Matcher,
    MatcherError,
    parse_matcher,
    parse_matchers,
    sort_matchers,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", Matcher("a", "=", "b")),
        (' a != "b" ', Matcher("a", "!=", "b")),
        ("a=~b.*", Matcher("a", "=~", "b.*")),
        ('a!~"b|c"', Matcher("a", "!~", "b|c")),
        ("a=", Matcher("a", "=", "")),
        ('a=""', Matcher("a", "=", "")),
        ("a:b_1=c", Matcher("a:b_1", "=", "c")),
        ("a=b c", Matcher("a", "=", "b c")),
        ("a==b", Matcher("a", "=", "=b")),
        (r'a="x\ny\"z\\"', Matcher("a", "=", 'x\ny"z\\')),
        (r"a=x\dy", Matcher("a", "=", r"x\dy")),
        ("a=x\\", Matcher("a", "=", "x\\")),
        ('a="x\ny"', Matcher("a", "=", "x\ny")),
    ],
)
def test_matcher_is_read(text: str, expected: Matcher) -> None:
    assert parse_matcher(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "a", "1a=b", "a-b=c", 'a="b', 'a=b"', 'a="b"c"', 'a="', "=b", 'a="b\\"'],
)
def test_text_that_is_no_matcher_is_refused(text: str) -> None:
    with pytest.raises(MatcherError):
        parse_matcher(text)


def test_pattern_that_does_not_compile_is_refused_with_its_text() -> None:
    with pytest.raises(MatcherError, match=r"expected an RE2 expression, got 'b\('"):
        parse_matcher("a=~b(")


def test_value_that_looks_like_a_broken_pattern_is_fine_for_equality() -> None:
    assert parse_matcher("a=b(").value == "b("


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", []),
        ("a=b", ["a=b"]),
        ("{a=b,c=d}", ["a=b", "c=d"]),
        ('{a="b,c", d!=e}', ['a="b,c"', "d!=e"]),
        (r'a="b\",c",d=e', [r'a="b\",c"', "d=e"]),
        (r'a="b\\",d=e', [r'a="b\\"', "d=e"]),
        ("a=b,", ["a=b"]),
    ],
)
def test_list_is_split_at_commas_outside_quotes(text: str, expected: list[str]) -> None:
    assert parse_matchers(text) == [parse_matcher(part) for part in expected]


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("a=b", "b", True),
        ("a=b", "bb", False),
        ("a!=b", "b", False),
        ("a!=b", "c", True),
        ("a=~b|c", "c", True),
        ("a=~b|c", "bc", False),
        ("a=~b|c", "xb", False),
        ("a!~b|c", "c", False),
        ("a!~b|c", "d", True),
        ("a=~b.*", "b\n", False),
    ],
)
def test_matching(text: str, value: str, expected: bool) -> None:
    assert parse_matcher(text).matches({"a": value}) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [("a=", True), ("a!=", False), ("a=~.*", True), ("a!=b", True)]
)
def test_absent_label_counts_as_empty(text: str, expected: bool) -> None:
    assert parse_matcher(text).matches({}) is expected


def test_matcher_is_written_quoted_and_escaped() -> None:
    assert str(Matcher("a", "=~", 'x"\\\n')) == r'a=~"x\"\\\n"'


def test_order_is_name_then_value_then_operator() -> None:
    texts = ["b=1", "a=~2", "a=2", "a!=2", "a!~1"]
    ordered = sort_matchers([parse_matcher(text) for text in texts])
    assert [str(m) for m in ordered] == ['a!~"1"', 'a="2"', 'a!="2"', 'a=~"2"', 'b="1"']
