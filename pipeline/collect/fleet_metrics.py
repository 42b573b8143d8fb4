"""`/metrics/fleet`: what was taken from elsewhere than `/metrics`, for Prometheus to scrape.

Series have their targets' labels, so the scrape needs `honor_labels: true`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from pipeline.collect.frames import Built
from pipeline.ingest.readings import Family
from pipeline.model import (
    ABSENT,
    FloatArray,
    Series,
    SeriesDictionary,
    Target,
    is_absent,
    is_stale,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_HELP_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n"})
_TEXT_KINDS = ("counter", "gauge", "summary", "histogram")


class FleetPage:
    """The newest value of every series it was shown, until the series ends."""

    def __init__(self, families: Mapping[str, Family]) -> None:
        self._families = families
        self._targets: dict[int, tuple[SeriesDictionary, FloatArray]] = {}
        """The newest dictionary of each target, and the newest value of each of its columns."""

    def observe(self, built: Built) -> None:
        """Take over the values of these frames."""
        for dictionary in built.dictionaries:
            self._adopt(dictionary)
        for frame in built.frames:
            known, values = self._targets[frame.target_id]
            if known.id == frame.dictionary_id:
                given = ~is_absent(frame.values)
                values[given] = frame.values[given]

    def forget(self, target: Target) -> None:
        """The target is no longer watched."""
        self._targets.pop(target.id, None)

    def _adopt(self, dictionary: SeriesDictionary) -> None:
        values = np.empty(len(dictionary.series))
        values[:] = ABSENT
        known = self._targets.get(dictionary.target.id)
        if known is not None:
            columns = {series: column for column, series in enumerate(known[0].series)}
            for column, series in enumerate(dictionary.series):
                before = columns.get(series)
                if before is not None:
                    values[column : column + 1] = known[1][before : before + 1]
        self._targets[dictionary.target.id] = (dictionary, values)

    def render(self) -> str:
        """The page in text format 0.0.4, by family, so that each is described once."""
        lines: dict[str, list[str]] = defaultdict(list)
        for dictionary, values in self._targets.values():
            shown = ~(is_absent(values) | is_stale(values))
            for column in np.flatnonzero(shown).tolist():
                series = dictionary.series[column]
                lines[series.name].append(f"{_series_text(series)} {_number(values[column])}\n")
        parts: list[str] = []
        for name in sorted(lines):
            family = self._families.get(name, Family())
            if family.help:
                parts.append(f"# HELP {name} {family.help.translate(_HELP_ESCAPES)}\n")
            kind = family.kind if family.kind in _TEXT_KINDS else "untyped"
            parts.append(f"# TYPE {name} {kind}\n")
            parts += lines[name]
        return "".join(parts)


def _series_text(series: Series) -> str:
    labels = ",".join(
        f'{name}="{value.translate(_ESCAPES)}"'
        for name, value in series.labels
        if name != "__name__"
    )
    return f"{series.name}{{{labels}}}"


def _number(value: np.float64) -> str:
    text = repr(float(value))
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text, text)
