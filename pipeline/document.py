"""A YAML document in which every value knows its file, line and path.

Reading goes on after a mistake: each one is added to the document's problems, and a neutral value
takes its place, so that one report names them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import yaml

from pipeline.durations import parse_duration

Parsed = TypeVar("Parsed")
Neutral = TypeVar("Neutral")

_NULL, _BOOL, _INT = (f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int"))
_TRUE = ("true", "yes", "on")
_UNDER_WAY = -1

MAX_VALUES = 100_000
"""Of one document, aliases counted as often as they are followed."""


class ConfigError(ValueError):
    """A configuration that can't be used; `problems` has one line for each, with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Value:
    """One node of the document."""

    def __init__(self, node: yaml.Node, place: tuple[str, str], problems: list[str]) -> None:
        self._node = node
        self._file, self.path = place
        self._problems = problems

    def problem(self, message: str) -> None:
        """Add a problem with this value's place."""
        line = self._node.start_mark.line + 1
        where = f"{self._file}:{line}: {self.path}" if self.path else f"{self._file}:{line}"
        self._problems.append(f"{where}: {message}")

    def fields(
        self, known: tuple[str, ...], later: tuple[str, ...] = (), unknown: str = "unknown field"
    ) -> dict[str, Value]:
        """The fields of a mapping that are not null; those of `later` and unknown ones refused."""
        fields: dict[str, Value] = {}
        for name, value in self.entries():
            if name in later:
                value.problem("not supported yet")
            elif name not in known:
                value.problem(f"{unknown}; expected one of {', '.join(known)}")
            elif name in fields:
                value.problem("given twice")
            else:
                fields[name] = value
        return fields

    def entries(self) -> Iterator[tuple[str, Value]]:
        """The entries of a mapping, null values left out."""
        if not isinstance(self._node, yaml.MappingNode):
            self.problem(f"expected a mapping, got {self._described()}")
            return
        for key, node in self._node.value:
            name = str(key.value)
            path = f"{self.path}.{name}" if self.path else name
            if node.tag != _NULL:
                yield name, Value(node, (self._file, path), self._problems)

    def items(self) -> list[Value]:
        """The items of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            self.problem(f"expected a list, got {self._described()}")
            return []
        return [
            Value(node, (self._file, f"{self.path}[{i}]"), self._problems)
            for i, node in enumerate(self._node.value)
        ]

    def text(self) -> str:
        if isinstance(self._node, yaml.ScalarNode) and self._node.tag != _NULL:
            return str(self._node.value)
        self.problem(f"expected a text, got {self._described()}")
        return ""

    def boolean(self) -> bool:
        if self._node.tag == _BOOL:
            return str(self._node.value).lower() in _TRUE
        self.problem(f"expected true or false, got {self._described()}")
        return False

    def count(self) -> int:
        """A whole number >= 0."""
        if self._node.tag == _INT and str(self._node.value).isdecimal():
            return int(self._node.value)
        self.problem(f"expected a whole number >= 0, got {self._described()}")
        return 0

    def duration_ms(self) -> int | None:
        """Milliseconds of a duration; None, and a problem, when it is none."""
        seconds = self.parsed(parse_duration, None)
        return None if seconds is None else round(1000 * seconds)

    def parsed(self, parse: Callable[[str], Parsed], neutral: Neutral) -> Parsed | Neutral:
        """What `parse` makes of the text; `neutral`, and a problem, when it raises ValueError."""
        if not isinstance(self._node, yaml.ScalarNode):
            self.problem(f"expected a text, got {self._described()}")
            return neutral
        try:
            return parse(str(self._node.value))
        except ValueError as error:
            self.problem(str(error))
            return neutral

    def _described(self) -> str:
        if isinstance(self._node, yaml.ScalarNode):
            return "nothing" if self._node.tag == _NULL else repr(self._node.value)
        return "a list" if isinstance(self._node, yaml.SequenceNode) else "a mapping"


def read_document(text: str, file: str, problems: list[str]) -> Value | None:
    """The root of the YAML document `text`; None, and a problem, when it is none."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problems.append(f"{file}:{line}: expected YAML: {error.problem}")
        return None
    except yaml.YAMLError as error:
        problems.append(f"{file}: expected YAML: {' '.join(str(error).split())}")
        return None
    except RecursionError:
        problems.append(f"{file}: expected less nesting")
        return None
    if node is None:
        problems.append(f"{file}: expected a configuration, got an empty file")
        return None
    try:
        size = _size(node, {})
    except _ContainsItselfError as error:
        line = error.node.start_mark.line + 1
        problems.append(f"{file}:{line}: expected no alias to what contains it")
        return None
    if size > MAX_VALUES:
        problems.append(f"{file}: expected at most {MAX_VALUES} values, got {size} by aliases")
        return None
    return Value(node, (file, ""), problems)


class _ContainsItselfError(Exception):
    def __init__(self, node: yaml.Node) -> None:
        super().__init__()
        self.node = node


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a reader meets that follows every alias; `sizes` has those counted before.

    A few aliases to lists of aliases can stand for more values than there is memory.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    known = sizes.get(id(node))
    if known == _UNDER_WAY:
        raise _ContainsItselfError(node)
    if known is None:
        sizes[id(node)] = _UNDER_WAY
        parts = node.value if isinstance(node, yaml.SequenceNode) else [v for _, v in node.value]
        known = sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return known
