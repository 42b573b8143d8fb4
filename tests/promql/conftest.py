"""Series in a short notation, put through the evaluator; results as a mapping from labels."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from pipeline.model import (
    ABSENT,
    STALE,
    FloatArray,
    FrameBatch,
    Labels,
    Series,
    SeriesDictionary,
    Target,
    labels_from,
)
from pipeline.promql.evaluate import ERRORS, Evaluator, Outcome
from pipeline.promql.parse import compile_expr
from pipeline.promql.plan import Version

Values = Sequence[float | str | None]
"""`None`: no sample; "stale": the stale marker."""


class SlotBook:
    """Slots in order of assignment; remembers what was retired."""

    def __init__(self) -> None:
        self.slots: dict[tuple[int, str, Labels], int] = {}
        self.retired: list[tuple[int, str, Labels]] = []

    def assign(self, plan: int, instance: str, labels: Labels) -> int:
        return self.slots.setdefault((plan, instance, labels), len(self.slots))

    def retire(self, plan: int, instance: str, labels: Labels, slot: int) -> None:
        assert self.slots.pop((plan, instance, labels)) == slot
        self.retired.append((plan, instance, labels))

    def labels(self, slot: int) -> Labels:
        return next(key[2] for key, number in self.slots.items() if number == slot)


def parse_series(text: str) -> Labels:
    """Labels of `name{a="b"}`; `instance` is added where it is missing."""
    name, body = re.fullmatch(r"(\w*)(?:\{(.*)\})?", text, re.DOTALL).groups()
    labels = dict(re.findall(r'(\w+)="([^"]*)"', body or ""))
    return labels_from({"__name__": name, "instance": "i", **labels})


def encode(values: Values) -> FloatArray:
    encoded = np.zeros(len(values))
    for i, value in enumerate(values):
        if value is None:
            encoded[i : i + 1] = ABSENT
        elif value == "stale":
            encoded[i : i + 1] = STALE
        else:
            encoded[i] = value
    return encoded


def dictionary_of(names: Sequence[str], feed: str = "/metrics") -> SeriesDictionary:
    target = Target("job", "i", feed)
    return SeriesDictionary(target, tuple(Series(parse_series(name)) for name in names))


def batch_of(dictionary: SeriesDictionary, times_ms: Sequence[int], rows: FloatArray) -> FrameBatch:
    """One frame of the dictionary for each time, `rows` (frames, series)."""
    frames, width = rows.shape
    return FrameBatch(
        np.full(frames, dictionary.target.id, dtype=np.uint64),
        np.full(frames, dictionary.id, dtype=np.uint64),
        np.array(times_ms, dtype=np.int64),
        np.arange(frames + 1, dtype=np.int64) * width,
        np.ascontiguousarray(rows).reshape(-1),
    )


def elements(outcome: Outcome, span: int, book: SlotBook) -> dict[Labels, float]:
    """The present elements of a span."""
    start = int(outcome.starts[span])
    rows = range(start, start + int(outcome.counts[span]))
    return {
        book.labels(int(outcome.slots[row])): float(outcome.values[row])
        for row in rows
        if outcome.present[row]
    }


def query_all(
    series: Mapping[str, Values],
    expressions: Sequence[str],
    times_s: Sequence[float],
    version: Version = "3",
    interval_s: float = 60,
    known_s: float | None = None,
) -> dict[tuple[str, float], dict[Labels, float] | str]:
    """What each expression gives at each of the ascending times, or the text of the error.

    The samples are `interval_s` apart from 0 on, and known up to the time, or up to `known_s`.
    """
    book = SlotBook()
    plans = [compile_expr(expr, version) for expr in expressions]
    evaluator = Evaluator(plans, book, version)
    evaluator.ensure_instance("")
    dictionary = dictionary_of(list(series))
    evaluator.add_dictionary(dictionary, "")
    columns = [encode(values) for values in series.values()]
    rows = np.stack(columns, axis=1) if columns else np.zeros((0, 0))
    results: dict[tuple[str, float], dict[Labels, float] | str] = {}
    done = 0
    for at_s in times_s:
        until_s = at_s if known_s is None else known_s
        end = min(len(rows), math.floor(until_s / interval_s) + 1)
        times = [round(1000 * interval_s * i) for i in range(done, end)]
        evaluator.ingest(batch_of(dictionary, times, rows[done:end]))
        done = end
        results |= {(expr, at_s): {} for expr in expressions}
        outcome = evaluator.evaluate_at(round(at_s * 1000))
        for span, (plan, error) in enumerate(zip(outcome.plans, outcome.errors, strict=True)):
            key = (expressions[int(plan)], at_s)
            results[key] = ERRORS[int(error)] if error else elements(outcome, span, book)
            assert not (error and outcome.counts[span])
    return results


def query(
    series: Mapping[str, Values], expr: str, at_s: float, **options: object
) -> dict[Labels, float] | str:
    """What `expr` gives at `at_s`."""
    return query_all(series, [expr], [at_s], **options)[expr, at_s]


def value(series: Mapping[str, Values], expr: str, at_s: float, **options: object) -> float | None:
    """The value of the only element, None if there is no element."""
    result = query(series, expr, at_s, **options)
    assert isinstance(result, dict), result
    assert len(result) <= 1
    return next(iter(result.values()), None)


@pytest.fixture
def ask() -> Callable[..., dict[Labels, float] | str]:
    return query


@pytest.fixture
def ask_all() -> Callable[..., dict[tuple[str, float], dict[Labels, float] | str]]:
    return query_all


@pytest.fixture
def one() -> Callable[..., float | None]:
    return value


@pytest.fixture
def slots() -> SlotBook:
    return SlotBook()
