from collections import defaultdict

import numpy as np
from fleet import dictionary

from pipeline.model import ABSENT, ABSENT_BITS, STALE, STALE_BITS, FrameBatch
from pipeline.promql.parse import compile_expr
from pipeline.stream.forward import Forwarding

NAN = float("nan")


def forwarded(expr: str, values, scores) -> list[int]:
    """The bits of what is forwarded of a frame with `values` and `scores`."""
    subject = Forwarding({1: [compile_expr(expr)]})
    known = dictionary("a")
    subject.add_dictionary(known)
    batch = FrameBatch(
        np.array([known.target.id], np.uint64),
        np.array([known.id], np.uint64),
        np.array([1000]),
        np.array([0, 2]),
        np.concatenate([np.asarray(value, np.float64).reshape(1) for value in values]),
    )
    to = defaultdict(list)
    subject.forward(batch, np.ones(1, np.bool_), np.array(scores, np.float32), to)
    return to[1][0].values.view(np.uint64).tolist()


def bits(value: float) -> int:
    return int(np.array([value]).view(np.uint64)[0])


def test_a_score_is_forwarded_as_a_series_of_its_own():
    known = dictionary("a")
    (reduced,) = Forwarding({1: [compile_expr('sum(anomaly_score{for="load"})')]}).add_dictionary(
        known
    )
    assert [dict(series.labels) for series in reduced.series] == [
        {"__name__": "anomaly_score", "for": "load", "job": "node", "instance": "a"}
    ]
    assert forwarded('sum(anomaly_score{for="load"})', [1.0, 2.0], [0.5, 0.0]) == [bits(0.5)]


def test_where_nothing_was_scored_there_is_no_sample():
    assert forwarded("sum(anomaly_score)", [ABSENT, 2.0], [NAN, 0.25]) == [ABSENT_BITS, bits(0.25)]


def test_the_score_of_a_series_that_ends_ends_with_it():
    assert forwarded("sum(anomaly_score)", [STALE, 2.0], [NAN, 0.25]) == [STALE_BITS, bits(0.25)]


def test_payloads_of_forwarded_series_survive():
    assert forwarded("sum(load)", [STALE, 2.0], [NAN, 0.25]) == [STALE_BITS]
    assert forwarded("sum(load)", [ABSENT, 2.0], [NAN, 0.25]) == [ABSENT_BITS]


def test_what_no_global_rule_selects_stays_here():
    assert Forwarding({1: [compile_expr("sum(something)")]}).add_dictionary(dictionary("a")) == []
