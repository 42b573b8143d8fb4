"""Series that end: their state is dropped, and no verdict changes because of it."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fleet import SETTINGS, START_MS, frame, groups
from fleet import dictionary as fleet_dictionary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.detect.table import default_detector
from pipeline.model import Frame, Series, SeriesDictionary, Target, Tick, labels_from
from pipeline.promql.memory import WindowMemory
from pipeline.settings import WorkerSettings
from pipeline.stream.fleetwide import Fleetwide
from pipeline.stream.forward import Forwarding
from pipeline.stream.partition import Partition, PartitionSettings, batch_of
from pipeline.stream.scoring import Scoring
from pipeline.stream.seen import Seen
from pipeline.stream.verdicts import Verdicts, select_rules

RULES = """\
groups:
  - name: local
    interval: 1m
    rules:
      - alert: TooMuch
        expr: load > 10
      - alert: TooLong
        expr: load > 10
        for: 5s
        keep_firing_for: 20s
      - alert: Level
        expr: load > 12
        labels: {level: '{{ $value }}'}
      - alert: Same
        expr: load > 11
        labels: {unit: any}
      - alert: Rising
        expr: deriv(load[5m]) > 0.01
      - alert: Sum
        expr: sum by (instance) (load) > 20
  - name: global
    interval: 1m
    rules:
      - alert: SumTooMuch
        expr: sum by (job) (load) > 45
"""
# Look-back: 5 min, keep_firing_for 20 s, interval 1 min, late 30 s; and 10 min beyond it.
LOOK_BACK_MS = 410_000
FORGET_MS = LOOK_BACK_MS + 600_000
SHORTEST = msgspec.structs.replace(SETTINGS, worker=WorkerSettings(forget_after=1.0))


def partition(folder: Path, forget_after_ms: int | None = None) -> Partition:
    """One that forgets as soon as it may, or after another time."""
    loaded = groups(folder, RULES)
    verdicts = Verdicts(select_rules(loaded, "local", SHORTEST), SHORTEST)
    if forget_after_ms is not None:
        verdicts.forget_after_ms = forget_after_ms
    return Partition(
        0,
        Scoring(default_detector(SHORTEST.detect), frozenset()),
        verdicts,
        Forwarding({3: select_rules(loaded, "global", SHORTEST).plans}),
        PartitionSettings(worker="w", publish_above=0.5, resend_ms=30_000, tick_timeout_ms=30_000),
    )


def fleetwide(folder: Path) -> Fleetwide:
    rules = select_rules(groups(folder, RULES), "global", SHORTEST)
    return Fleetwide(Verdicts(rules, SHORTEST), 1, 30_000)


def dictionary(instance: str, feed: str, *units: str) -> SeriesDictionary:
    common = {"job": "node", "instance": instance, "__name__": "load"}
    series = [Series(labels_from({**common, "unit": unit}), "gauge") for unit in units]
    return SeriesDictionary(Target("node", instance, feed), tuple(series))


DICTIONARIES = [
    dictionary("a", "/m", "1", "2"),
    dictionary("a", "/m", "2", "3"),
    dictionary("a", "/n", "1"),
    dictionary("b", "/m", "1"),
    dictionary("b", "/m", "1", "2", "4"),
]


def tick(at_ms: int) -> Tick:
    return Tick("c", START_MS + at_ms)


def take(subject: Partition, drawn: list[tuple[int, int, list[float]]]):
    """Frames (dictionary, time, values), as the worker takes them in."""
    frames = []
    for number, at_ms, values in drawn:
        known = DICTIONARIES[number]
        content = np.array(values[: len(known.series)])
        frames.append(Frame(known.target.id, known.id, START_MS + at_ms, content))
    batch = batch_of(frames)
    for missing in subject.unknown(batch):
        subject.learn(next(known for known in DICTIONARIES if known.id == missing))
    return subject.frames(batch, unknown={})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("rules")


VALUE = st.sampled_from([5.0, 9.0, 10.5, 11.5, 14.0, 30.0])
DRAWN = st.lists(
    st.tuples(
        st.integers(0, len(DICTIONARIES) - 1),
        st.one_of(st.integers(0, 300), st.integers(1200, 1500), st.integers(4000, 4200)),
        st.lists(VALUE, min_size=3, max_size=3),
        st.integers(0, 30),
    ),
    min_size=5,
    max_size=50,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=DRAWN)
def test_verdicts_are_those_of_a_worker_that_never_forgets(folder, drawn):
    """Frames come up to half a minute late; series fall silent for long and come back."""
    forgetting, never = partition(folder), partition(folder, 1 << 60)
    come = sorted(drawn, key=lambda one: (one[1] + one[3], one))
    for number, at_s, values, late_s in come:
        records = [(number, at_s * 1000, values)]
        assert take(forgetting, records).alerts == take(never, records).alerts
        for subject in (forgetting, never):
            subject.tick(tick((at_s + late_s) * 1000 - 20_000))
    for at_s in range(4300, 6000, 60):
        assert forgetting.tick(tick(at_s * 1000)).alerts == never.tick(tick(at_s * 1000)).alerts
    assert forgetting.targets == 0
    assert never.targets > 0


def ticks(subject: Partition, first_ms: int, last_ms: int) -> None:
    """A watermark that moves on steadily."""
    for at_ms in range(first_ms, last_ms, 50_000):
        subject.tick(tick(at_ms))
    subject.tick(tick(last_ms))


def test_a_series_is_dropped_when_its_time_has_come_and_not_before(folder):
    subject = partition(folder)
    take(subject, [(0, 0, [5.0, 5.0])])
    ticks(subject, 0, FORGET_MS)
    assert subject.targets == 1
    assert subject.take_counts().forgotten == 0
    subject.tick(tick(FORGET_MS + 1))
    assert subject.targets == 0
    assert subject.take_counts().forgotten == 2


def test_the_series_that_a_living_target_lost_are_dropped_too(folder):
    subject = partition(folder)
    take(subject, [(0, 0, [11.0, 9.0])])
    end_ms = 2 * FORGET_MS
    for at_ms in range(1000, end_ms, 30_000):
        take(subject, [(1, at_ms, [9.0, 9.0])])
        subject.tick(tick(at_ms))
    assert subject.targets == 1
    assert subject.unknown(batch_of([frame("z", 0, 1.0)])) == [fleet_dictionary("z").id]
    assert len(subject._scoring._slots) == 2
    # Two each of TooMuch, TooLong and Rising; of Same and Sum one, of Level none.
    assert len(subject.verdicts._table._owners) == 8
    step = take(subject, [(0, end_ms, [11.0, 9.0])])
    assert {dict(alert.labels)["alertname"] for alert in step.alerts} == {"TooMuch", "Sum"}


def test_a_dictionary_that_no_frame_uses_is_dropped_as_well(folder):
    subject = partition(folder)
    subject.learn(DICTIONARIES[0])
    ticks(subject, 0, LOOK_BACK_MS + FORGET_MS + 100_000)
    assert subject.take_counts().forgotten == 2
    assert subject._scoring._slots == {}


def test_a_frame_so_late_that_its_target_may_be_forgotten_is_late_for_all(folder):
    subject = partition(folder)
    subject.tick(tick(10_000_000))
    known = take(subject, [(3, 10_000_000, [30.0])])
    assert known.alerts != []
    too_late = 10_000_000 - (FORGET_MS - LOOK_BACK_MS) - 1
    assert take(subject, [(0, too_late, [30.0, 30.0])]).alerts == []
    assert subject.take_counts().late == 1
    take(subject, [(0, too_late + 1, [30.0, 30.0])])
    assert subject.take_counts().late == 0


def test_the_longest_unseen_ends_first():
    subject = Seen(forget_after_ms=10, late_after_ms=5)
    for number in range(3):
        subject.learn(number)
        assert subject.note(100 + number, number, number, None) == "new"
    ended = subject.ended(10, 11)
    assert next(ended) == 0
    subject.forget(100, 0)
    assert list(ended) == []
    assert subject.targets == 2


def test_after_a_jump_nothing_ends_for_as_long_as_rules_look_back():
    subject = Seen(forget_after_ms=100_000, late_after_ms=30_000)
    subject.note(100, 0, 0, None)
    assert list(subject.ended(0, 1_000_000)) == []
    assert list(subject.ended(1_000_000, 1_060_000)) == []
    assert next(subject.ended(1_060_000, 1_070_000)) == 0


def test_many_that_end_at_once_are_dropped_over_several_ticks(folder):
    subject = partition(folder)
    wide = [dictionary(f"w{i}", "/m", *map(str, range(900))) for i in range(5)]
    for one in wide:
        subject.learn(one)
    frames = [Frame(one.target.id, one.id, START_MS, np.zeros(900)) for one in wide]
    subject.frames(batch_of(frames), unknown={})
    ticks(subject, 0, FORGET_MS)
    subject.tick(tick(FORGET_MS + 1))
    assert subject.targets == 2
    subject.tick(tick(FORGET_MS + 2))
    assert subject.targets == 0


def weight(root: object) -> int:
    """How much there is in `root`: items of containers and bytes of arrays, in what is ours."""
    seen: set[int] = set()
    left = deque([root])
    total = 0
    while left:
        one = left.popleft()
        if id(one) in seen or isinstance(one, str | bytes | int | float | msgspec.Struct | type):
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            total += one.nbytes
        elif isinstance(one, WindowMemory):
            total += one.used * 8
            left.append(one._released)
        elif isinstance(one, dict):
            total += len(one)
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            total += len(one)
            left += one
        elif type(one).__module__.startswith("pipeline."):
            left.append(vars(one))
    return total


def test_the_memory_of_a_week_of_churn_is_flat(folder):
    """Every hour all pods are new, and one target that stays has another set of series."""
    subject, owner = partition(folder), fleetwide(folder)
    daily: list[list[int]] = [[] for _ in range(7)]
    for hour in range(7 * 24):
        known = [dictionary(f"pod-{hour}-{pod}", "/m", "1", "2") for pod in range(4)]
        known.append(dictionary("stays", "/m", "1", f"{hour}", f"{hour}-more"))
        for one in known:
            subject.learn(one)
        for minute in range(60):
            time_ms = START_MS + (60 * hour + minute) * 60_000
            if minute % 10 == 0:
                step = subject.frames(
                    batch_of([
                        Frame(one.target.id, one.id, time_ms, np.full(len(one.series), load))
                        for one in known
                        for load in [11.0 + minute % 20]
                    ]),
                    unknown={},
                )  # fmt: skip
                for derived in step.dictionaries:
                    owner.learn(derived)
                owner.frames(batch_of(step.forwarded[3]))
            for mark in subject.tick(Tick("c", time_ms + 1)).marks:
                owner.mark(mark)
            if minute == 5 and hour % 4 == 3:
                daily[hour // 24].append(weight(subject) + weight(owner))
    assert subject.targets == 4 + 1
    first, *others = (max(weights) for weights in daily)
    assert max(others) <= first * 1.01
