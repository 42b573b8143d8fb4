"""The evaluator: order, instants, slots, targets that come and go, snapshots, scores."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model import (
    ABSENT,
    STALE,
    FrameBatch,
    Labels,
    Series,
    SeriesDictionary,
    Target,
    labels_from,
)
from pipeline.promql.evaluate import Evaluator, Outcome
from pipeline.promql.history import histories
from pipeline.promql.parse import compile_expr

EXPRESSIONS = (
    "a",
    "rate(a[20s])",
    "sum by (instance) (a)",
    "a > on (instance, d) b",
    "max_over_time(b[30s]) - min_over_time(b[30s])",
    "deriv(b[20s])",
    "absent(b)",
    "b unless a > 3",
)


class Book:
    def __init__(self) -> None:
        self.slots: dict[tuple[int, str, Labels], int] = {}
        self.retired: list[tuple[int, str, Labels, int]] = []

    def assign(self, plan: int, instance: str, labels: Labels) -> int:
        return self.slots.setdefault((plan, instance, labels), len(self.slots))

    def retire(self, plan: int, instance: str, labels: Labels, slot: int) -> None:
        self.retired.append((plan, instance, labels, slot))

    def owner(self, slot: int) -> tuple[int, str, Labels]:
        return next(key for key, number in self.slots.items() if number == slot)

    def readable(self, outcome: Outcome) -> list[tuple[object, ...]]:
        """Spans with their present elements, values as bits."""
        names = {slot: key[2] for key, slot in self.slots.items()}
        spans = []
        for i in range(len(outcome.plans)):
            rows = range(outcome.starts[i], outcome.starts[i] + outcome.counts[i])
            present = {
                names[int(outcome.slots[r])]: outcome.values[r].tobytes()
                for r in rows
                if outcome.present[r]
            }
            times = int(outcome.times_ms[i])
            spans.append((times, int(outcome.plans[i]), int(outcome.errors[i]), present))
        return spans


def dictionary(instance: str, feed: str, *names: str) -> SeriesDictionary:
    series = []
    for name in names:
        metric, _, d = name.partition(":")
        series.append(Series(labels_from({"__name__": metric, "instance": instance, "d": d})))
    return SeriesDictionary(Target("job", instance, feed), tuple(series))


def batch(*frames: tuple[SeriesDictionary, int, list[float]]) -> FrameBatch:
    ends = np.cumsum([0, *(len(values) for _, _, values in frames)])
    return FrameBatch(
        np.array([d.target.id for d, _, _ in frames], dtype=np.uint64),
        np.array([d.id for d, _, _ in frames], dtype=np.uint64),
        np.array([time_ms for _, time_ms, _ in frames], dtype=np.int64),
        ends.astype(np.int64),
        np.concatenate([np.zeros(0), *(np.array(values) for _, _, values in frames)]),
    )


def evaluator(*expressions: str) -> tuple[Evaluator, Book]:
    book = Book()
    return Evaluator([compile_expr(text) for text in expressions], book), book


M1 = dictionary("i", "/m", "a:x", "a:y", "b:x", "unused")
M2 = dictionary("i", "/n", "b:y")
OTHER = dictionary("j", "/m", "a:x", "b:x")
ABS, END = float("-inf"), float("inf")


def marked(values: list[float]) -> list[float]:
    """-inf stands for an absent sample, inf for the stale marker."""
    array = np.array(values)
    array[array == ABS] = ABSENT
    array[array == END] = STALE
    return array  # type: ignore[return-value]  # a list would lose the payload


@st.composite
def frames(draw: st.DrawFn) -> list[tuple[SeriesDictionary, int, list[float]]]:
    clocks = {M1.id: 0, M2.id: 0, OTHER.id: 0}
    drawn = []
    value = st.sampled_from([0.0, 1.0, 2.5, 7.0, math.nan, ABS, END])
    for _ in range(draw(st.integers(1, 40))):
        chosen = draw(st.sampled_from([M1, M1, M2, OTHER]))
        clocks[chosen.id] += draw(st.sampled_from([1, 500, 1000, 5000, 400_000]))
        width = len(chosen.series)
        values = draw(st.lists(value, min_size=width, max_size=width))
        drawn.append((chosen, clocks[chosen.id], values))
    return drawn


@settings(max_examples=60, deadline=None)
@given(drawn=frames(), cuts=st.sets(st.integers(0, 40)))
def test_verdicts_do_not_depend_on_how_frames_are_batched(drawn, cuts) -> None:
    drawn = [(d, time_ms, marked(values)) for d, time_ms, values in drawn]
    whole, whole_book = evaluator(*EXPRESSIONS)
    parts, parts_book = evaluator(*EXPRESSIONS)
    for one in (whole, parts):
        for known in (M1, M2, OTHER):
            one.add_dictionary(known, known.target.instance)
    expected = whole_book.readable(whole.ingest_and_evaluate(batch(*drawn)))
    borders = [0, *sorted(cut for cut in cuts if 0 < cut < len(drawn)), len(drawn)]
    found = []
    for start, end in itertools.pairwise(borders):
        outcome = parts.ingest_and_evaluate(batch(*drawn[start:end]))
        found += parts_book.readable(outcome)
    assert found == expected
    last_ms = max(time_ms for _, time_ms, _ in drawn)
    assert parts_book.readable(parts.evaluate_at(last_ms)) == whole_book.readable(
        whole.evaluate_at(last_ms)
    )


@settings(max_examples=40, deadline=None)
@given(drawn=frames())
def test_what_the_fast_ways_give_is_what_a_fresh_evaluator_gives(drawn) -> None:
    """Carried results (extremes, sums, marks) against an evaluator loaded with the same samples."""
    drawn = [(d, time_ms, marked(values)) for d, time_ms, values in drawn]
    old, book = evaluator(*EXPRESSIONS)
    fresh, fresh_book = evaluator(*EXPRESSIONS)
    for one in (old, fresh):
        for known in (M1, M2, OTHER):
            one.add_dictionary(known, known.target.instance)
    old.ingest_and_evaluate(batch(*drawn))
    for history in histories(old.cut(), (M1, M2, OTHER)):
        fresh.load_target(history)
    last_ms = max(time_ms for _, time_ms, _ in drawn)
    assert fresh_book.readable(fresh.evaluate_at(last_ms)) == book.readable(
        old.evaluate_at(last_ms)
    )


def test_only_the_plans_that_a_frame_touches_are_evaluated_at_its_time() -> None:
    one, _ = evaluator("a", "b", "b and a", "sum by (instance) (c)")
    one.add_dictionary(M1, "i")
    one.add_dictionary(M2, "i")
    one.add_dictionary(dictionary("j", "/m", "c"), "j")
    outcome = one.ingest_and_evaluate(batch((M1, 1000, [1, 2, 3, 4]), (M2, 1500, [5])))
    assert outcome.frames.tolist() == [0, 0, 0, 1, 1]
    assert outcome.plans.tolist() == [0, 1, 2, 1, 2]
    assert outcome.times_ms.tolist() == [1000, 1000, 1000, 1500, 1500]
    assert [one.instances[i] for i in outcome.instances] == ["i"] * 5
    # b has a row of each target.
    assert outcome.counts.tolist() == [2, 2, 2, 2, 2]
    assert outcome.present.tolist() == [True] * 2 + [True, False] * 2 + [True] * 4
    assert len(set(outcome.slots[2:4].tolist())) == 2


def test_a_frame_that_is_not_kept_leaves_no_trace() -> None:
    one, _ = evaluator("a")
    one.add_dictionary(M1, "i")
    both = batch((M1, 1000, [1, 2, 3, 4]), (M1, 1000, [9, 9, 9, 9]))
    outcome = one.ingest_and_evaluate(both, keep=np.array([True, False]))
    assert outcome.frames.tolist() == [0]
    assert one.evaluate_at(1000).values.tolist() == [1, 2]


def test_samples_younger_than_the_instant_are_not_seen() -> None:
    one, _ = evaluator("a", "count_over_time(a[10s])")
    one.add_dictionary(M1, "i")
    one.ingest(batch(*((M1, 1000 * k, [k, 0, 0, 0]) for k in range(1, 9))))
    outcome = one.evaluate_at(5500, plans=[1, 0])
    assert outcome.frames.tolist() == [-1, -1]
    assert outcome.plans.tolist() == [1, 0]
    assert outcome.values.tolist() == [5, 5, 5, 0]


def test_an_unknown_dictionary_is_an_error() -> None:
    one, _ = evaluator("a")
    assert not one.knows(M1.id)
    with pytest.raises(KeyError):
        one.ingest(batch((M1, 1000, [1, 2, 3, 4])))


def test_absent_holds_before_any_series_exists() -> None:
    one, book = evaluator("absent(a)", "a")
    assert one.ensure_instance("") == 0
    assert one.ensure_instance("") == 0
    assert book.readable(one.evaluate_at(1000)) == [(1000, 0, 0, {(): np.float64(1).tobytes()})]
    one.add_dictionary(M1, "")
    outcome = one.ingest_and_evaluate(batch((M1, 2000, [1, 2, 3, 4])))
    assert outcome.present.tolist() == [False, True, True]
    assert one.evaluate_at(302_000, [0]).present.tolist() == [True]


def test_slots_stay_when_new_series_come_and_are_retired_with_their_target() -> None:
    one, book = evaluator("a", "sum(a)")
    one.add_dictionary(M1, "i")
    one.ingest(batch((M1, 1000, [1, 2, 3, 4])))
    before = one.evaluate_at(1000, [0]).slots.tolist()
    more = dictionary("i", "/more", "a:z")
    one.add_dictionary(more, "i")
    one.ingest(batch((more, 1000, [3])))
    after = one.evaluate_at(1000, [0])
    assert after.slots.tolist()[:2] == before
    assert after.values.tolist() == [1, 2, 3]
    assert len(one.output_labels(0, "i")) == 3
    one.drop_dictionary(M1.id)
    assert not one.knows(M1.id)
    assert book.retired == []
    assert one.evaluate_at(1000).values.tolist() == [3, 3]
    assert [(entry[0], entry[3]) for entry in book.retired] == [(0, before[0]), (0, before[1])]
    assert one.evaluate_at(1000).values.tolist() == [3, 3]
    one.drop_dictionary(more.id)
    assert one.output_labels(0, "i") == []
    assert len(one.evaluate_at(1000).plans) == 0
    assert one.instances == [""]
    one.add_dictionary(M1, "i")
    one.ingest(batch((M1, 1000, [7, 8, 3, 4])))
    assert one.evaluate_at(1000, [1]).values.tolist() == [15]


def test_a_new_dictionary_of_a_target_goes_on_with_the_series_it_shares() -> None:
    one, book = evaluator("sum_over_time(a[1m])", "a")
    one.add_dictionary(M1, "i")
    one.ingest(batch((M1, 1000, [1, 2, 3, 4]), (M1, 2000, [1, 2, 3, 4])))
    moved = dictionary("i", "/m", "a:z", "a:y")
    one.add_dictionary(moved, "i")
    outcome = one.ingest_and_evaluate(batch((moved, 3000, [50, 5])))
    sums = {
        dict(book_key[2])["d"]: outcome.values[outcome.slots.tolist().index(slot)]
        for book_key, slot in book.slots.items()
        if book_key[0] == 0
    }
    assert sums == {"x": 2, "y": 9, "z": 50}
    # a:x has no column any more: it is absent there, and lasts five minutes longer.
    assert outcome.present.all()
    one.ingest(batch((moved, 303_000, [50, 5])))
    assert one.evaluate_at(303_000, [1]).present.tolist() == [False, True, True]
    # With its dictionary a:x goes; y and z stay as they are.
    one.drop_dictionary(M1.id)
    assert [labels for labels in one.output_labels(1, "i") if ("d", "x") in labels] == []
    outcome = one.evaluate_at(303_000)
    assert outcome.values.tolist() == [5, 50, 5, 50]
    one.ingest(batch((moved, 304_000, [51, 6])))
    assert one.evaluate_at(304_000, [0]).values.tolist() == [11, 101]


def test_instances_with_the_same_kinds_of_series_keep_their_own_values() -> None:
    one, book = evaluator("a", "rate(a[1m])")
    for k in range(3):
        known = dictionary(f"h{k}", "/m", "a:x")
        one.add_dictionary(known, f"h{k}")
        one.ingest(batch((known, 1000, [float(k)]), (known, 11_000, [10.0 * k])))
    outcome = one.evaluate_at(11_000)
    assert outcome.instances.tolist() == [0, 0, 1, 1, 2, 2]
    assert outcome.values[::2].tolist() == [0, 10, 20]
    assert len(set(outcome.slots.tolist())) == 6
    assert {key[1] for key in book.slots} == {"h0", "h1", "h2"}
    only = one.evaluate_at(11_000, [0], ["h1"])
    assert only.values.tolist() == [10]


def test_an_old_sample_is_forgotten_only_beyond_the_history() -> None:
    one, _ = evaluator("count_over_time(a[2m])", "a")
    one.add_dictionary(OTHER, "j")
    for second in range(1000):
        one.ingest(batch((OTHER, 1000 * second, [1, 2])))
    assert one.evaluate_at(999_000, [0]).values.tolist() == [120]
    # Half a minute late, the whole window is still there.
    assert one.evaluate_at(969_000, [0]).values.tolist() == [120]
    [[block]] = [history.blocks for history in histories(one.cut(), [OTHER])]
    assert 330 <= len(block.times_ms) < 1000


def test_a_gap_of_hours_leaves_no_stale_result_behind() -> None:
    one, _ = evaluator("max_over_time(a[1m])", "deriv(a[600s])")
    one.add_dictionary(OTHER, "j")
    rows = [(OTHER, 1000 * k, [float(k % 7), 0.0]) for k in range(400)]
    one.ingest_and_evaluate(batch(*rows))
    later = 40_000_000
    rows = [(OTHER, later + 1000 * k, [1.0 + k, 0.0]) for k in range(400)]
    outcome = one.ingest_and_evaluate(batch(*rows))
    assert outcome.values[0] == 1
    assert outcome.values[-2:].tolist() == [400, pytest.approx(1, rel=1e-12)]


def test_long_regression_follows_the_window() -> None:
    """The running sums, moved hundreds of times, against numpy's least squares."""
    one, _ = evaluator("deriv(a[600s])")
    one.add_dictionary(OTHER, "j")
    y = np.random.default_rng(5).normal(1e6, 100, 3000)
    outcome = one.ingest_and_evaluate(batch(*((OTHER, 1000 * k, [y[k], 0.0]) for k in range(3000))))
    for k in (700, 1500, 2999):
        expected = np.polyfit(np.arange(600.0), y[k - 599 : k + 1] - 1e6, 1)[0]
        assert outcome.values[k] == pytest.approx(expected, rel=1e-9)


def test_long_regression_with_infinity_is_nan_until_it_has_left() -> None:
    one, _ = evaluator("deriv(a[300s])")
    one.add_dictionary(OTHER, "j")
    values = [float(k) for k in range(1200)]
    values[500] = math.inf
    outcome = one.ingest_and_evaluate(
        batch(*((OTHER, 1000 * k, [values[k], 0.0]) for k in range(1200)))
    )
    assert outcome.values[499] == pytest.approx(1)
    assert np.isnan(outcome.values[500:800]).all()
    assert outcome.values[800] == pytest.approx(1)


def test_snapshot_keeps_samples_markers_and_gaps() -> None:
    old, book = evaluator(*EXPRESSIONS)
    old.add_dictionary(M1, "i")
    rows = [[1.0, 5.0, 2.0, 0.0], [2.0, 4.0, ABS, 0.0], [0.5, END, 3.0, 0.0]]
    old.ingest(batch(*((M1, 5000 * k, marked(row)) for k, row in enumerate(rows, 1))))
    new, new_book = evaluator(*EXPRESSIONS)
    new.add_dictionary(M1, "i")
    [history] = histories(old.cut(), [M1])
    new.load_target(history)
    for time_ms in (9_000, 10_000, 15_000, 20_000):
        expected = book.readable(old.evaluate_at(time_ms))
        assert new_book.readable(new.evaluate_at(time_ms)) == expected
    again = batch((M1, 20_000, marked([3.0, 1.0, END, 0.0])))
    assert new_book.readable(new.ingest_and_evaluate(again)) == book.readable(
        old.ingest_and_evaluate(again)
    )


def test_snapshot_of_other_rules_gives_what_both_know() -> None:
    old, _ = evaluator("a")
    old.add_dictionary(OTHER, "j")
    old.ingest(batch((OTHER, 1000, [1, 2])))
    new, _ = evaluator("b", "rate(a[1h])", "a")
    new.add_dictionary(OTHER, "j")
    [history] = histories(old.cut(), [OTHER])
    new.load_target(history)
    assert new.evaluate_at(1000).values[-1] == 1
    assert new.evaluate_at(1000).present.tolist() == [False, False, True]


def test_scores_are_series_of_the_same_instant() -> None:
    one, book = evaluator('anomaly_score{for="a"} > 1', "a and ignoring(for) anomaly_score")
    one.add_dictionary(OTHER, "j")
    given_scores = np.array([1.5, 9.0], dtype=np.float32)
    outcome = one.ingest_and_evaluate(batch((OTHER, 1000, [7, 8])), scores=given_scores)
    assert outcome.values[0] == 1.5
    [key] = [key for key in book.slots if key[0] == 0]
    assert dict(key[2]) == {
        "__name__": "anomaly_score", "for": "a", "instance": "j", "d": "x",
    }  # fmt: skip
    # Not scored: absent, the last score counts; of an ended series the score ends as well.
    nothing = np.array([np.nan, np.nan], dtype=np.float32)
    outcome = one.ingest_and_evaluate(batch((OTHER, 2000, [7, 8])), scores=nothing)
    assert outcome.values[0] == 1.5
    ended = one.ingest_and_evaluate(batch((OTHER, 3000, marked([END, 8.0]))), scores=given_scores)
    assert not ended.present[0]
    without = one.ingest_and_evaluate(batch((OTHER, 4000, [7, 8])))
    assert not without.present[0]


def test_without_a_rule_on_scores_none_are_stored() -> None:
    one, _ = evaluator("a")
    one.add_dictionary(OTHER, "j")
    [[block]] = [history.blocks for history in histories(one.cut(), [OTHER])]
    assert len(block.labels) == 1


def test_many_instances_outgrow_the_first_tables() -> None:
    one, _ = evaluator("a", "b")
    known = [dictionary(f"h{k:02}", "/m", "a", "b") for k in range(70)]
    for each in known:
        one.add_dictionary(each, each.target.instance)
    one.ingest(batch(*((each, 1000, [k, -k]) for k, each in enumerate(known))))
    outcome = one.evaluate_at(1000)
    assert outcome.values.tolist() == [sign * k for k in range(70) for sign in (1, -1)]


def test_many_series_outgrow_the_first_arrays() -> None:
    sums = ("sum(a) by (d)", "sum(b)" + " + 1" * 80)
    one, _ = evaluator("sum_over_time(a[10m])", "a + on (instance, d) b", *sums)
    wide = dictionary("h", "/m", *(f"{name}:{d:03}" for name in "ab" for d in range(800)))
    one.add_dictionary(wide, "h")
    one.ingest_and_evaluate(batch((wide, 0, np.arange(1600.0))))
    one.ingest(batch(*((wide, 1000 * step, np.arange(1600.0) + step) for step in range(1, 40))))
    outcome = one.evaluate_at(39_000, [0])
    # Column d: the sum of d + 0 ... d + 39.
    assert outcome.values.tolist() == [40 * d + 780 for d in range(800)]
    assert one.evaluate_at(0, [2]).values.tolist() == list(range(800))
    assert one.evaluate_at(0, [3]).values.tolist() == [sum(range(800, 1600)) + 80]


@settings(max_examples=40, deadline=None)
@given(drawn=frames(), at=st.integers(0, 40))
def test_an_evaluator_goes_on_from_a_cut_bit_for_bit(drawn, at) -> None:
    """Also where an instance has got new series and has not been evaluated since."""
    drawn = [(d, time_ms, marked(values)) for d, time_ms, values in drawn]
    known = (M1, M2, OTHER)
    old, book = evaluator(*EXPRESSIONS)
    for each in known:
        old.add_dictionary(each, each.target.instance)
    first, second = drawn[:at], drawn[at:]
    if first:
        old.ingest_and_evaluate(batch(*first))
    late = dictionary("i", "/m", "a:z", "b:z")
    old.add_dictionary(late, "i")
    new, new_book = evaluator(*EXPRESSIONS)
    for each in (*known, late):
        new.add_dictionary(each, each.target.instance)
    there, here = new.restore(old.cut())
    assert [book.owner(slot) for slot in there] == [new_book.owner(slot) for slot in here]
    assert list(new.content()) == list(old.content())
    if second:
        assert new_book.readable(new.ingest_and_evaluate(batch(*second))) == book.readable(
            old.ingest_and_evaluate(batch(*second))
        )
    assert list(new.content()) == list(old.content())


def test_a_target_keeps_what_its_living_dictionaries_have() -> None:
    """Rows are numbered anew; what they held, and how they go on, stays."""
    one, _ = evaluator("a", "rate(a[1m])", "max_over_time(b[20m])")
    wide = dictionary("i", "/m", "a:1", "a:2", "a:3", "b:1")
    narrow = dictionary("i", "/m", "a:3", "a:2")
    one.add_dictionary(wide, "i")
    one.add_dictionary(narrow, "i")
    one.ingest_and_evaluate(batch((wide, 0, [1, 2, 3, 4]), (narrow, 10_000, [33, 22])))
    one.drop_dictionary(wide.id)
    assert not one.knows(wide.id)
    assert one.evaluate_at(10_000, [0]).values.tolist() == [22, 33]
    assert one.output_labels(2, "i") == []
    outcome = one.ingest_and_evaluate(batch((narrow, 20_000, [63, 42])))
    assert outcome.values[:2].tolist() == [42, 63]
    # Up by 40 and 60 in 20 s, and one second longer until zero, of a range of 60 s.
    assert outcome.values[2:].tolist() == pytest.approx([40 * 21 / 20 / 60, 60 * 21 / 20 / 60])


def test_instances_that_have_ended_make_room_for_others() -> None:
    one, book = evaluator("a", "sum(a)")
    for k in range(50):
        known = dictionary(f"h{k}", "/m", "a")
        one.add_dictionary(known, f"h{k}")
        one.ingest_and_evaluate(batch((known, 1000 * k, [float(k)])))
        assert one.evaluate_at(1000 * k, [0]).values.tolist() == [float(k)]
        one.drop_dictionary(known.id)
    assert len(one.instances) == 1
    assert len(book.retired) == 100
    assert len(one.evaluate_at(60_000).plans) == 0
