"""State after a kill equals state without one, bit for bit, wherever the cut is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fleet import START_MS, fleetwide, partition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.codec import decode_telemetry, encode_frames
from pipeline.model import (
    ABSENT,
    STALE,
    Evaluated,
    Frame,
    FrameBatch,
    Series,
    SeriesDictionary,
    Target,
    Tick,
    labels_from,
)
from pipeline.stream.digest import digest
from pipeline.stream.partition import Partition, batch_of
from pipeline.stream.snapshot import Snapshot, decode, encode

RULES = """\
groups:
  - name: local
    interval: 10s
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
      - alert: Strange
        expr: anomaly_score{for="load"} > 0.5
      - alert: Rising
        expr: deriv(load[30s]) > 0.2
      - alert: Spread
        expr: max_over_time(load[20s]) - min_over_time(load[20s]) > 6
      - alert: Sum
        expr: sum by (instance) (load) > 20
      - alert: Odd
        expr: load > on (instance, unit) other
  - name: global
    interval: 10s
    rules:
      - alert: SumTooMuch
        expr: sum by (job) (load) > 45
      - alert: NoneThere
        expr: absent(load{unit="1"})
"""
ABSENT_VALUE, STALE_VALUE = "absent", "stale"


def dictionary(instance: str, feed: str, units: tuple[str, ...]) -> SeriesDictionary:
    common = {"job": "node", "instance": instance}
    return SeriesDictionary(
        Target("node", instance, feed),
        tuple(
            Series(labels_from({**common, "__name__": name, "unit": unit}), "gauge")
            for unit in units
            for name in ("load", "other")
        ),
    )


DICTIONARIES = [
    dictionary("a", "/m", ("1", "2")),
    dictionary("a", "/m", ("2", "3")),
    dictionary("a", "/n", ("9",)),
    dictionary("b", "/m", ("2", "1")),
    dictionary("b", "/m", ()),
    dictionary("c", "/m", ("1",)),
]
BY_ID = {known.id: known for known in DICTIONARIES}


def values(content) -> np.ndarray:
    parts = {ABSENT_VALUE: ABSENT, STALE_VALUE: STALE}
    pieces = [parts[v] if isinstance(v, str) else np.array([v]) for v in content]
    return np.concatenate([np.zeros(0), *pieces])


@st.composite
def frames(draw) -> Frame:
    known = draw(st.sampled_from(DICTIONARIES))
    value = st.sampled_from([5.0, 9.0, 11.0, 13.5, 20.0, ABSENT_VALUE, STALE_VALUE])
    content = draw(st.lists(value, min_size=len(known.series), max_size=len(known.series)))
    second = draw(st.integers(0, 120))
    return Frame(known.target.id, known.id, START_MS + second * 1000, values(content))


@st.composite
def telemetry(draw) -> list[list[Frame] | Tick]:
    """Records: frames mostly in the order of their times, some late or twice; and ticks."""
    drawn = draw(st.lists(frames(), min_size=5, max_size=80))
    drawn.sort(key=lambda frame: frame.time_ms + hash(frame.target_id + frame.time_ms) % 4000)
    records: list[list[Frame] | Tick] = []
    while drawn:
        size = draw(st.integers(1, 4))
        records.append(drawn[:size])
        if draw(st.booleans()):
            records.append(Tick("c", drawn[0].time_ms))
        if draw(st.integers(0, 5)) == 0:
            records.append(drawn[:size])
        drawn = drawn[size:]
    return [*records, Tick("c", START_MS + 140_000)]


def shown(step) -> list[object]:
    """A step's outputs, values as bits."""
    scores = step.scores
    return [
        step.alerts,
        step.marks,
        [known.id for known in step.dictionaries],
        None if scores is None else (scores.times_ms.tolist(), scores.scores.tobytes()),
        [
            (owner, [(f.time_ms, f.dictionary_id, f.values.tobytes()) for f in forwarded])
            for owner, forwarded in step.forwarded.items()
        ],
    ]


def take(subject: Partition, record: list[Frame] | Tick):
    if isinstance(record, Tick):
        return subject.tick(record)
    batch = decode_telemetry(encode_frames(record))
    assert isinstance(batch, FrameBatch)
    for missing in subject.unknown(batch):
        subject.learn(BY_ID[missing])
    return subject.frames(batch, unknown={})


def restarted(subject: Partition, fresh: Partition) -> Partition:
    """What another process makes of the snapshot file of `subject`."""
    written = b"".join(encode(Snapshot("telemetry", 0, 1, subject.cut())))
    read = decode(written)
    fresh.restore(read.cut, [BY_ID[i] for i in read.cut.dictionaries])
    return fresh


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("rules")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records=telemetry(), cuts=st.sets(st.integers(0, 80), max_size=4))
def test_a_partition_goes_on_from_a_snapshot_as_if_nothing_had_happened(folder, records, cuts):
    through, killed = (partition(folder, rules=RULES) for _ in range(2))
    for i, record in enumerate(records):
        if i in cuts:
            killed = restarted(killed, partition(folder, rules=RULES))
            assert digest(killed) == digest(through)
        assert shown(take(killed, record)) == shown(take(through, record))
    assert digest(killed) == digest(through)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(records=telemetry(), cut=st.integers(0, 80))
def test_global_rules_go_on_from_a_snapshot_as_if_nothing_had_happened(folder, records, cut):
    source = partition(folder, rules=RULES)
    through, killed = (fleetwide(folder, 1, rules=RULES) for _ in range(2))
    derived: dict[int, SeriesDictionary] = {}
    for i, record in enumerate(records):
        if i == cut:
            written = b"".join(encode(Snapshot("signals", 3, 1, killed.cut())))
            read = decode(written)
            killed = fleetwide(folder, 1, rules=RULES)
            killed.restore(read.cut, [derived[known] for known in read.cut.dictionaries])
            assert digest(killed) == digest(through)
        step = take(source, record)
        derived |= {known.id: known for known in step.dictionaries}
        for each in (through, killed):
            if step.forwarded:
                batch = batch_of(step.forwarded[3])
                for missing in each.unknown(batch):
                    each.learn(derived[missing])
                each.frames(batch)
        for mark in step.marks:
            assert killed.mark(mark).alerts == through.mark(mark).alerts
    assert digest(killed) == digest(through)


def test_digests_differ_where_states_do(folder):
    """One value, one tick: each makes another digest."""
    known = DICTIONARIES[5]
    digests = set()
    for load, tick_s in ((5.0, 1), (5.5, 1), (5.0, 2)):
        subject = partition(folder, rules=RULES)
        frame = Frame(known.target.id, known.id, START_MS, np.array([load, 1.0]))
        take(subject, [frame])
        take(subject, Tick("c", START_MS + tick_s * 1000))
        digests.add(digest(subject))
    assert len(digests) == 3


def test_a_mark_that_was_seen_is_in_the_snapshot(folder):
    before = fleetwide(folder, 2, rules=RULES)
    before.mark(Evaluated("w", 0, START_MS))
    after = fleetwide(folder, 2, rules=RULES)
    assert digest(after) != digest(before)
    after.restore(before.cut(), [])
    assert digest(after) == digest(before)
    after.mark(Evaluated("w", 1, START_MS))
    assert after.time_ms == START_MS
