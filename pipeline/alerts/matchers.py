"""Label matchers: `severity="critical"`, `team=~"a|b"`, as Alertmanager reads and writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec
import re2

Operator = Literal["=", "!=", "=~", "!~"]

_FORM = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|=|!=|!~)\s*(.*?)\s*", re.DOTALL)
_OPERATORS: dict[str, Operator] = {"=": "=", "!=": "!=", "=~": "=~", "!~": "!~"}
_ORDER = ("=", "!=", "=~", "!~")
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


class MatcherError(ValueError):
    """A text that is no matcher."""


def compile_pattern(pattern: str) -> Any:  # Any: re2 publishes no types
    """`pattern`, anchored at both ends, as the RE2 object that has `search`.

    Raises
    ------
    MatcherError
        It is not an RE2 expression.
    """
    try:
        return re2.compile(f"^(?:{pattern})$", _OPTIONS)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise MatcherError(f"expected an RE2 expression, got {pattern!r}: {text}") from error


class Matcher(msgspec.Struct, frozen=True, dict=True):
    """One condition on a label; a label that is not there has the value ""."""

    name: str
    operator: Operator
    value: str

    @cached_property
    def _pattern(self) -> Any:  # Any: see compile_pattern
        return compile_pattern(self.value)

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.name, "")
        if self.operator == "=":
            return value == self.value
        if self.operator == "!=":
            return value != self.value
        return (self._pattern.search(value) is not None) == (self.operator == "=~")

    def __str__(self) -> str:
        return f'{self.name}{self.operator}"{_escape(self.value)}"'


def new_matcher(name: str, operator: Operator, value: str) -> Matcher:
    """A matcher whose pattern, if it has one, compiles.

    Raises
    ------
    MatcherError
        It does not.
    """
    if operator in ("=~", "!~"):
        compile_pattern(value)
    return Matcher(name, operator, value)


def sort_matchers(matchers: Iterable[Matcher]) -> tuple[Matcher, ...]:
    """In Alertmanager's order, which its group keys show: name, value, operator."""
    return tuple(sorted(matchers, key=lambda m: (m.name, m.value, _ORDER.index(m.operator))))


def parse_matcher(text: str) -> Matcher:
    """One matcher; its value may be quoted.

    Raises
    ------
    MatcherError
        The text is not of the form name, operator, value, or its pattern does not compile.

    References
    ----------
    alertmanager 0.25, pkg/labels/parse.go: ParseMatcher.

    >>> str(parse_matcher('team=~"a|b"'))
    'team=~"a|b"'
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise MatcherError(f"bad matcher format: {text}")
    name, operator, raw = found.groups()
    return new_matcher(name, _OPERATORS[operator], _unquote(raw))


def parse_matchers(text: str) -> list[Matcher]:
    """Matchers separated by commas, in braces or without.

    Raises
    ------
    MatcherError
        As `parse_matcher`.
    """
    return [parse_matcher(part) for part in _split(text.removeprefix("{").removesuffix("}"))]


def _split(text: str) -> list[str]:
    """The parts between the commas that are outside quotes."""
    parts, part = [], ""
    quoted = escaped = False
    for character in text:
        if character == "," and not quoted:
            parts.append(part)
            part = ""
            continue
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
        part += character
    if part.strip():
        parts.append(part.strip())
    return parts


def _unquote(raw: str) -> str:
    """The value that `raw` writes; a backslash before anything but n, " or itself stays."""
    quoted = raw.startswith('"')
    text = raw[1:] if quoted else raw
    value, i, closed = "", 0, not quoted
    while i < len(text):
        character, last = text[i], i == len(text) - 1
        if character == "\\" and not last:
            i += 1
            value += _ESCAPES.get(text[i], "\\" + text[i])
        elif character != '"':
            value += character
        elif quoted and last:
            closed = True
        else:
            raise MatcherError(f"matcher value contains unescaped double quote: {raw}")
        i += 1
    if not closed:
        raise MatcherError(f"matcher value contains unescaped double quote: {raw}")
    return value


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
