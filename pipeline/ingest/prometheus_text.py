"""Prometheus' text format 0.0.4, tolerant of OpenMetrics' `# UNIT` and `# EOF`.

A target's body mostly has the layout it had the last time: the same series in the same order.
`TextParser` keeps it, and then reads only the numbers (`text_values.py`). A line whose series was
in the body before is recognised by its text, a new one by its shape (`series_text.py`); only what
is left is taken apart.

References
----------
https://prometheus.io/docs/instrumenting/exposition_formats/ ; where it is silent, as
prometheus/model/textparse/promparse.go does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
import numpy as np

from pipeline.ingest.readings import Family, Readings
from pipeline.ingest.series_text import ParseError, Shapes, decode_utf8, parse_labels, unescaped
from pipeline.ingest.text_values import MISMATCH, BoolArray, ByteArray, read_numbers
from pipeline.model import FloatArray, IntArray, Series, SeriesKind, labels_from

_SAMPLE = re.compile(
    rb"[ \t]*+(?P<series>(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*+)"
    rb'(?:[ \t]*+\{(?P<labels>(?:[^"}]|"(?:[^"\\]|\\.)*+")*+)\})?+)'
    rb"[ \t]*+(?P<value>[^\s{]++)(?:[ \t]++(?P<time>-?[0-9]{1,18}))?+[ \t]*+"
)
_SERIES = re.compile(
    rb"[ \t]*+[a-zA-Z_:][a-zA-Z0-9_:]*+"
    rb'(?:[ \t]*+\{(?:[^"}]|"(?:[^"\\]|\\.)*+")*+\})?+[ \t]*+'
)
_COMMENT = re.compile(
    rb"[ \t]*+#[ \t]++(HELP|TYPE|UNIT)[ \t]++([a-zA-Z_:][a-zA-Z0-9_:]*+)[ \t]*+(.*+)"
)
_HELP_ESCAPE = re.compile(r"\\([\\n])")
_SUFFIXES = ("_total", "_count", "_sum", "_bucket", "_created", "_info")
_KINDS: dict[bytes, SeriesKind] = {
    b"counter": "counter",
    b"gauge": "gauge",
    b"histogram": "histogram",
    b"gaugehistogram": "histogram",
    b"summary": "summary",
    b"info": "info",
    b"stateset": "stateset",
    b"untyped": "unknown",
    b"unknown": "unknown",
}
_UNKNOWN = Family()
_SPARE_SHAPES = 1000


class _Layout(msgspec.Struct, frozen=True, eq=False):
    """A body without its numbers (see `text_values`), and what its slots mean."""

    skeleton: ByteArray
    offsets: IntArray
    whole: BoolArray
    """Slots that hold a time; the others hold a value."""
    series: tuple[Series, ...]
    timed: IntArray
    """The samples, by position, that expose a time of their own."""


class TextParser:
    """Reads the bodies of one target; keeps the last layout."""

    def __init__(self) -> None:
        self._layout: _Layout | None = None
        self._known: dict[bytes, _Known] = {}
        self._shapes = Shapes()
        self._families: dict[str, Family] = {}

    @property
    def families(self) -> Mapping[str, Family]:
        """Type, help and unit of each family of the last body."""
        return self._families

    def parse_known(self, body: bytes) -> Readings | None:
        """The samples of `body` if it has the last layout, in microseconds; else None."""
        return None if self._layout is None else _read_known(self._layout, body)

    def parse(self, body: bytes) -> Readings:
        r"""The samples of `body`, in its order.

        While the layout stays the same, so does the object `series`.

        Raises
        ------
        ParseError
            With the line, what was expected there and what came.

        >>> readings = TextParser().parse(b'up{job="node"} 1\n')
        >>> readings.series[0].labels, readings.values
        ((('__name__', 'up'), ('job', 'node')), array([1.]))
        """
        readings = self.parse_known(body)
        if readings is not None:
            return readings
        walk = _Walk(self._known, self._shapes, self._families)
        layout = walk.read(body, quick=True)
        readings = _read_known(layout, body)
        if readings is None:  # something that isn't as simple as it looked, or is no number
            walk = _Walk(self._known, self._shapes, self._families)
            layout = walk.read(body, quick=False)
            readings = _readings(layout, walk.numbers(body))
        self._layout = layout
        if len(self._shapes) > 2 * len(readings.series) + _SPARE_SHAPES:
            self._shapes.clear()
        self._known, self._families = walk.seen, walk.families
        return readings


def parse_value(text: bytes) -> float:
    """A sample's value: what `float` takes, without underscores and white space.

    Raises
    ------
    ValueError
        `text` is no number.
    """
    if b"_" in text or text.strip() != text:
        raise ValueError("expected a number")
    return float(text)


def _read_known(layout: _Layout, body: bytes) -> Readings | None:
    """The samples of `body` if it has this layout."""
    slots = len(layout.whole)
    numbers = np.empty(slots)
    hard = np.empty((slots, 3), dtype=np.int64)
    hards = read_numbers(
        np.frombuffer(body, np.uint8), layout.skeleton, layout.offsets, layout.whole, numbers, hard
    )
    if hards == MISMATCH:
        return None
    for slot, start, end in hard[:hards].tolist():
        try:
            numbers[slot] = parse_value(body[start:end])
        except ValueError:
            return None
    return _readings(layout, numbers)


def _readings(layout: _Layout, numbers: FloatArray) -> Readings:
    if not len(layout.timed):
        return Readings(layout.series, numbers)
    times = np.zeros(len(layout.series), dtype=np.int64)
    times[layout.timed] = numbers[layout.whole].astype(np.int64)
    return Readings(layout.series, numbers[~layout.whole], times)


class _Known(msgspec.Struct, frozen=True, gc=False):
    """A series that was met before, by the text before its value. Holds nothing that holds it."""

    name: str
    family: Family
    series: Series


class _Walk:
    """One pass over a body, line by line."""

    def __init__(
        self, known: dict[bytes, _Known], shapes: Shapes, families: dict[str, Family]
    ) -> None:
        self._known = known
        self._shapes = shapes
        self._families_before = families
        self.seen: dict[bytes, _Known] = {}
        self.families: dict[str, Family] = {}
        self._last_family = ("", _UNKNOWN)
        """Of the last sample, by its name: most samples have the name of the one before."""
        self._series: list[Series] = []
        self._bounds: list[int] = []
        """Where each slot's number begins and ends in the body, in turn."""
        self._timed: list[int] = []
        self._time_slots: list[int] = []

    def read(self, body: bytes, *, quick: bool) -> _Layout:
        """The layout of `body`. If `quick`, its numbers may turn out to be none."""
        start = 0
        for number, line in enumerate(body.split(b"\n"), start=1):
            if not (quick and self._quick_sample(line, start)):
                self._line(line, start, number)
            start += len(line) + 1
        return self._layout(body)

    def numbers(self, body: bytes) -> FloatArray:
        """Of each slot, after a reading that wasn't quick."""
        bounds = self._bounds
        slots = zip(bounds[::2], bounds[1::2], strict=True)
        return np.array([float(body[start:end]) for start, end in slots])

    def _layout(self, body: bytes) -> _Layout:
        bounds = [0, *self._bounds, len(body)]
        texts = [body[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)]
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(text) for text in texts], out=offsets[1:])
        whole = np.zeros(len(texts) - 1, dtype=np.bool_)
        whole[self._time_slots] = True
        return _Layout(
            np.frombuffer(b"".join(texts), np.uint8),
            offsets,
            whole,
            tuple(self._series),
            np.array(self._timed, dtype=np.int64),
        )

    def _quick_sample(self, line: bytes, start: int) -> bool:
        """Take `line` if it is a series of known text or shape, a space, and one word more."""
        text, _, number = line.rpartition(b" ")
        known = self._known.get(text)
        if known is None:
            named = self._shapes.read(text)
            if named is None:
                return False
            name, labels = named
            family = self._family(name)
            known = _Known(name, family, Series(labels, family.kind, family.unit))
        elif self._family(known.name) is not known.family:
            return False
        end = start + len(line)
        self._bounds += (end - len(number), end)
        self.seen[text] = known
        self._series.append(known.series)
        return True

    def _line(self, line: bytes, start: int, number: int) -> None:
        match = _SAMPLE.fullmatch(line)
        if match is not None:
            self._sample(match, start, number)
            return
        stripped = line.lstrip(b" \t")
        if stripped.startswith(b"#"):
            self._comment(stripped, number)
        elif stripped:
            raise _what_is_wrong(line, number)

    def _sample(self, match: re.Match[bytes], start: int, line: int) -> None:
        try:
            parse_value(match["value"])
        except ValueError:
            raise ParseError(line, "a number as value", match["value"]) from None
        self._slot(match, "value", start)
        if match["time"] is not None:
            self._timed.append(len(self._series))
            self._time_slots.append(len(self._bounds) // 2)
            self._slot(match, "time", start)
        text = match["series"]
        name = match["name"].decode()
        family = self._family(name)
        known = self.seen.get(text) or self._known.get(text)
        if known is None or known.family is not family:
            labels = parse_labels(name, match["labels"] or b"", line)
            self._shapes.learn(text, labels)
            known = _Known(name, family, Series(labels_from(labels), family.kind, family.unit))
        self.seen[text] = known
        self._series.append(known.series)

    def _slot(self, match: re.Match[bytes], group: str, start: int) -> None:
        self._bounds += (start + match.start(group), start + match.end(group))

    def _family(self, name: str) -> Family:
        last, family = self._last_family
        if name != last:
            family = _family_of(name, self.families)
            self._last_family = (name, family)
        return family

    def _comment(self, text: bytes, line: int) -> None:
        match = _COMMENT.fullmatch(text)
        if match is None:
            return
        what, name, rest = match[1], match[2].decode(), match[3].rstrip(b" \t")
        family = self.families.get(name, _UNKNOWN)
        if what == b"TYPE":
            kind = _KINDS.get(rest)
            if kind is None:
                raise ParseError(line, "one of the metric types", rest)
            family = msgspec.structs.replace(family, kind=kind)
        elif what == b"HELP":
            text_ = unescaped(decode_utf8(match[3], line), _HELP_ESCAPE)
            family = msgspec.structs.replace(family, help=text_)
        else:
            family = msgspec.structs.replace(family, unit=decode_utf8(rest, line))
        before = self._families_before.get(name)
        self.families[name] = before if before == family else family
        self._last_family = ("", _UNKNOWN)


def _family_of(name: str, families: Mapping[str, Family]) -> Family:
    family = families.get(name)
    if family is not None:
        return family
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return families.get(name.removesuffix(suffix), _UNKNOWN)
    return _UNKNOWN


def _what_is_wrong(line: bytes, number: int) -> ParseError:
    """The error of a line that is neither a sample nor a comment."""
    series = _SERIES.match(line)
    if series is None:
        return ParseError(number, "a metric's name", line)
    rest = line[series.end() :]
    if rest.startswith(b"{"):
        return ParseError(number, 'labels as {name="value",…}', rest)
    if not rest.strip():
        return ParseError(number, "a value after the series", line)
    value, _, after = rest.partition(b" ")
    if after.strip():
        return ParseError(number, "a time in ms, or the end of the line", after)
    return ParseError(number, "a number as value", value)


def compile_parser() -> None:
    """Compile the loops before the first scrape: cold, that takes many seconds."""
    parser = TextParser()
    for value in (1, 2):  # a layout is learned from the first, the second is read by the loops
        parser.parse(f"# TYPE a gauge\na {value}.5\nb_total {value}e3\n".encode())
