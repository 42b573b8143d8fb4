"""The text of a series in an exposition, `name{label="value",…}`, to its labels.

Most series that are new differ from known ones in the values of their labels only. Their *shape*,
the text without those values, tells which values there are and how they are sorted, so that such a
series costs a look-up instead of a parse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

from pipeline.ingest.readings import PayloadError
from pipeline.model import Labels

_LABEL = re.compile(
    rb'[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]|\\.)*+)"[ \t]*+(?:,|$)'
)
_ESCAPE = re.compile(r'\\([\\"n])')


class ParseError(PayloadError):
    """A body that is no exposition; `line` counts from 1."""

    def __init__(self, line: int, expected: str, got: bytes) -> None:
        shown = got[:60].decode("utf-8", "backslashreplace")
        super().__init__("exposition", f"line {line}: expected {expected}, got {shown!r}")
        self.line = line


class _Shape(NamedTuple):
    """What series have in common whose text differs in the values of labels only."""

    name: str
    names: tuple[str, ...]
    """Of the labels, with `__name__`, sorted."""
    sorted_values: Callable[[list[str]], tuple[str, ...]]
    """Puts the values as they stand in the text, with the name behind them, in that order."""


class Shapes:
    """The shapes of the series that were parsed."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        self._last: tuple[list[str], _Shape | None] = ([], None)
        """The shape that was read last: mostly the next one too."""

    def __len__(self) -> int:
        return len(self._shapes)

    def clear(self) -> None:
        self._shapes.clear()
        self._last = ([], None)

    def learn(self, text: bytes, labels: dict[str, str]) -> None:
        """Remember the shape of `text`, which was parsed to `labels`: the name, then as it stands.

        A text with an escape or an empty value has none, nor has a name alone.
        """
        pieces = _pieces(text)
        if len(labels) < 2 or len(pieces) != 2 * len(labels) - 1 or "" in labels.values():
            return
        (_, name), *_ = labels.items()
        names = [*list(labels)[1:], "__name__"]
        order = sorted(range(len(names)), key=names.__getitem__)
        sorted_names = tuple(names[position] for position in order)
        self._shapes[tuple(pieces[::2])] = _Shape(name, sorted_names, itemgetter(*order))
        self._last = ([], None)

    def read(self, text: bytes) -> tuple[str, Labels] | None:
        """Name and labels of a series of known shape; None: it has to be parsed."""
        pieces = _pieces(text)
        between = pieces[::2]
        last, shape = self._last
        if between != last:
            shape = self._shapes.get(tuple(between))
            self._last = (between, shape)
        if shape is None:
            return None
        values = pieces[1::2]
        if "" in values:
            return None
        values.append(shape.name)
        pairs = zip(shape.names, shape.sorted_values(values))  # noqa: B905  # as long by the shape
        return shape.name, tuple(pairs)


def _pieces(text: bytes) -> list[str]:
    """What stands between the quotes, from before the first; the odd ones are labels' values."""
    if b"\\" in text:
        return []
    try:
        return text.decode().split('"')
    except UnicodeDecodeError:
        return []


def parse_labels(name: str, text: bytes, line: int) -> dict[str, str]:
    """The labels in `text`, which stood between braces behind `name`; `__name__` comes first.

    Raises
    ------
    ParseError
        With the line, what was expected there and what came.
    """
    labels = {"__name__": name}
    position = 0
    end = len(text.rstrip(b" \t"))
    while position < end:
        label = _LABEL.match(text, position)
        if label is None:
            raise ParseError(line, 'a label as name="value"', text[position:])
        label_name = label[1].decode()
        if label_name in labels:
            raise ParseError(line, "each label once", label[1])
        value = decode_utf8(label[2], line)
        labels[label_name] = unescaped(value, _ESCAPE) if "\\" in value else value
        position = label.end()
    return labels


def unescaped(text: str, escape: re.Pattern[str]) -> str:
    """`text` with what `escape` finds replaced by its first group, `n` by a line's end."""
    return escape.sub(lambda found: "\n" if found[1] == "n" else found[1], text)


def decode_utf8(text: bytes, line: int) -> str:
    """`text`, if it is UTF-8.

    Raises
    ------
    ParseError
        It isn't.
    """
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise ParseError(line, "UTF-8", text) from None
