"""Which series the selectors of some plans select, and how long their samples are needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.model import Labels, SeriesDictionary, metric_name
from pipeline.promql.matchers import Matcher, accepts_all
from pipeline.promql.plan import Plan

SCORE_NAME = "anomaly_score"


class SelectorIndex:
    """The distinct matcher sets of some plans, found quickly by a series' name."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        history: dict[tuple[Matcher, ...], int] = {}
        for plan in plans:
            for selector in plan.selectors:
                known = history.get(selector.matchers, 0)
                history[selector.matchers] = max(known, selector.history_ms)
        self.matchers = tuple(history)
        self.numbers = {matchers: number for number, matchers in enumerate(self.matchers)}
        self._history_ms = tuple(history.values())
        self._by_name: dict[str, list[int]] = {}
        self._nameless: list[int] = []
        for number, matchers in enumerate(self.matchers):
            name = next(
                (m.value for m in matchers if m.name == "__name__" and m.operator == "="), None
            )
            if name is None:
                self._nameless.append(number)
            else:
                self._by_name.setdefault(name, []).append(number)
        for numbers in self._by_name.values():
            numbers += self._nameless
        self.selects_scores = any(
            all(m.accepts(SCORE_NAME) for m in matchers if m.name == "__name__")
            for matchers in self.matchers
        )

    def select(self, labels: Labels) -> tuple[int, ...]:
        """Numbers of the matcher sets that a series with `labels` satisfies."""
        candidates = self._by_name.get(metric_name(labels), self._nameless)
        if not candidates:
            return ()
        mapping = dict(labels)
        return tuple([n for n in candidates if accepts_all(self.matchers[n], mapping)])

    def history_ms(self, numbers: Sequence[int]) -> int:
        """How far back the selectors of these matcher sets look."""
        return max(self._history_ms[number] for number in numbers)


def score_labels(labels: Labels) -> Labels:
    """The labels of a series' anomaly score.

    >>> score_labels((("__name__", "up"), ("job", "node")))
    (('__name__', 'anomaly_score'), ('for', 'up'), ('job', 'node'))
    """
    mapping = dict(labels)
    mapping["for"] = mapping.get("__name__", "")
    mapping["__name__"] = SCORE_NAME
    return tuple(sorted((name, value) for name, value in mapping.items() if value))


def selects_scores(plans: Sequence[Plan]) -> bool:
    """Whether a plan can see anomaly scores, so that the evaluator has to be given them."""
    return SelectorIndex(plans).selects_scores


def selected_columns(dictionary: SeriesDictionary, index: SelectorIndex) -> npt.NDArray[np.uint32]:
    """The columns of `dictionary` whose series some plan selects."""
    return _columns(index.select(series.labels) for series in dictionary.series)


def selected_scores(dictionary: SeriesDictionary, index: SelectorIndex) -> npt.NDArray[np.uint32]:
    """The columns of `dictionary` whose anomaly score some plan selects."""
    if not index.selects_scores:
        return np.empty(0, dtype=np.uint32)
    return _columns(index.select(score_labels(series.labels)) for series in dictionary.series)


def _columns(selectors: Iterable[tuple[int, ...]]) -> npt.NDArray[np.uint32]:
    return np.array([column for column, found in enumerate(selectors) if found], dtype=np.uint32)
