from __future__ import annotations

import numpy as np
import pytest

from pipeline.model import (
    ABSENT,
    STALE,
    FrameBatch,
    Series,
    SeriesDictionary,
    Target,
    fingerprint,
    hash64,
    is_absent,
    is_stale,
    labels_from,
    partition_of,
)

TARGET = Target("node", "a:9100", "/metrics")
UP = Series((("__name__", "up"), ("job", "node")), "gauge")


def test_the_stale_marker_is_prometheus_own():
    """prometheus/model/value/value.go: StaleNaN = 0x7ff0000000000002."""
    assert STALE.view(np.uint64).tolist() == [0x7FF0000000000002]


def test_stale_absent_and_other_nans_are_told_apart():
    values = np.concatenate([STALE, ABSENT, [np.nan, 1.0, np.inf]])
    assert is_stale(values).tolist() == [True, False, False, False, False]
    assert is_absent(values).tolist() == [False, True, False, False, False]
    assert np.isnan(values).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # prometheus/common, model/signature_test.go: TestLabelsToSignature.
        ((), 14695981039346656037),
        ((("name", "garland, briggs"), ("fear", "love is not enough")), 5799056148416392346),
    ],
)
def test_fingerprints_are_alertmanagers(labels, expected):
    assert fingerprint(labels) == expected


def test_a_hash_depends_on_where_a_part_ends():
    assert hash64("ab", "c") != hash64("a", "bc")
    assert hash64("a") != hash64("a", "")
    assert hash64("a", "b") != hash64("b", "a")


def test_a_hash_is_the_first_eight_bytes_of_a_known_digest():
    """BLAKE2b with 8 bytes of nothing, as b2sum -l 64 prints it: e4a6a0577479b2b4."""
    assert hash64() == int.from_bytes(bytes.fromhex("e4a6a0577479b2b4"), "little")


def test_a_target_is_told_by_each_of_its_parts():
    others = [
        Target("other", "a:9100", "/metrics"),
        Target("node", "b:9100", "/metrics"),
        Target("node", "a:9100", "/health"),
    ]
    assert len({TARGET.id, *(other.id for other in others)}) == 4
    assert Target("node", "a:9100", "/metrics").id == TARGET.id


def test_a_dictionary_is_told_by_all_that_it_says():
    dictionaries = [
        SeriesDictionary(TARGET, (UP,)),
        SeriesDictionary(TARGET, ()),
        SeriesDictionary(TARGET, (UP, UP)),
        SeriesDictionary(Target("node", "b:9100", "/metrics"), (UP,)),
        SeriesDictionary(TARGET, (Series(UP.labels, "counter"),)),
        SeriesDictionary(TARGET, (Series(UP.labels, "gauge", "seconds"),)),
        SeriesDictionary(TARGET, (Series((("__name__", "up"), ("job", "x")), "gauge"),)),
        SeriesDictionary(TARGET, (Series((("__name__", "up"), ("jobn", "ode")), "gauge"),)),
    ]
    assert len({dictionary.id for dictionary in dictionaries}) == len(dictionaries)
    assert SeriesDictionary(TARGET, (UP,)).id == dictionaries[0].id
    assert 0 <= dictionaries[0].id < 2**64


def test_a_series_name_is_its_label_name():
    assert UP.name == "up"
    assert Series((("job", "node"),)).name == ""


def test_labels_are_sorted_and_empty_ones_left_out():
    assert labels_from({"b": "2", "a": "1", "c": ""}) == (("a", "1"), ("b", "2"))


def test_a_partition_is_crc32_modulo_their_number():
    """The check value of CRC-32 is that of "123456789": 0xcbf43926."""
    assert partition_of("123456789", 2**31) == 0xCBF43926 % 2**31
    assert partition_of("123456789", 4) == 2


def test_a_batch_is_as_long_as_it_has_frames():
    none = np.zeros(0, np.uint64)
    empty = FrameBatch(none, none, np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0))
    assert len(empty) == 0
