from __future__ import annotations

import pytest

from pipeline.stream.liveness import Progress, Silence, Standing, stuck

TELEMETRY, SIGNALS = ("telemetry", 0), ("signals", 0)


def test_lag_is_what_was_not_committed_and_never_less_than_none():
    assert Standing(committed=7, end=10).lag == 3
    assert Standing(committed=10, end=10).lag == 0
    assert Standing(committed=12, end=10).lag == 0


def test_a_partition_stands_still_while_it_has_lag_and_nothing_is_committed():
    progress = Progress()
    assert progress.observe(100.0, {TELEMETRY: Standing(5, 6)}) == {TELEMETRY: 0.0}
    assert progress.observe(110.0, {TELEMETRY: Standing(5, 9)}) == {TELEMETRY: 10.0}
    assert progress.observe(125.0, {TELEMETRY: Standing(5, 9)}) == {TELEMETRY: 25.0}


@pytest.mark.parametrize("moved", [Standing(6, 9), Standing(4, 9)])
def test_a_commit_begins_the_time_anew_wherever_it_goes(moved: Standing):
    progress = Progress()
    progress.observe(100.0, {TELEMETRY: Standing(5, 9)})
    assert progress.observe(110.0, {TELEMETRY: moved}) == {TELEMETRY: 0.0}


def test_nothing_to_read_is_no_standstill():
    progress = Progress()
    for now_s in (100.0, 200.0, 300.0):
        assert progress.observe(now_s, {TELEMETRY: Standing(5, 5)}) == {}
    # The first record after the quiet has its whole time.
    assert progress.observe(310.0, {TELEMETRY: Standing(5, 6)}) == {TELEMETRY: 10.0}


def test_a_partition_that_went_to_another_worker_begins_anew_when_it_is_back():
    progress = Progress()
    progress.observe(100.0, {TELEMETRY: Standing(5, 9), SIGNALS: Standing(1, 2)})
    assert progress.observe(110.0, {SIGNALS: Standing(1, 2)}) == {SIGNALS: 10.0}
    assert progress.observe(120.0, {TELEMETRY: Standing(5, 9)}) == {TELEMETRY: 0.0}


BOTH = (TELEMETRY, SIGNALS)


def test_a_worker_is_stuck_when_nothing_that_has_lag_moves():
    assert stuck({TELEMETRY: 60.1, SIGNALS: 70.0}, BOTH, 60.0) == [SIGNALS, TELEMETRY]
    assert stuck({TELEMETRY: 60.1}, BOTH, 60.0) == [TELEMETRY]
    assert stuck({TELEMETRY: 60.0}, BOTH, 60.0) == []
    assert stuck({}, BOTH, 60.0) == []


def test_a_partition_that_waits_while_another_moves_is_given_ten_times_as_long():
    assert stuck({TELEMETRY: 0.0, SIGNALS: 600.0}, BOTH, 60.0) == []
    assert stuck({TELEMETRY: 0.0, SIGNALS: 600.1}, BOTH, 60.0) == [SIGNALS]


def test_a_partition_that_is_being_restored_is_given_ten_times_as_long():
    assert stuck({TELEMETRY: 600.0, SIGNALS: 600.0}, [SIGNALS], 60.0) == []
    assert stuck({TELEMETRY: 600.1, SIGNALS: 70.0}, [SIGNALS], 60.0) == [TELEMETRY]


def test_silence_is_the_time_since_the_watermark_last_moved():
    silence = Silence()
    assert silence.observe(100.0, {0: 1000, 1: None}, behind=()) == {0: 0.0, 1: 0.0}
    assert silence.observe(104.0, {0: 2000, 1: None}, behind=()) == {0: 0.0, 1: 4.0}
    assert silence.observe(111.0, {0: 2000, 1: None}, behind=()) == {0: 7.0, 1: 11.0}


def test_what_was_not_read_yet_is_not_silent():
    silence = Silence()
    silence.observe(100.0, {0: 1000}, behind=())
    assert silence.observe(150.0, {0: 1000}, behind=(0,)) == {0: 0.0}
    assert silence.observe(155.0, {0: 1000}, behind=()) == {0: 5.0}


def test_a_partition_that_has_just_come_is_not_silent():
    silence = Silence()
    silence.observe(100.0, {0: 1000}, behind=())
    silence.observe(110.0, {}, behind=())
    assert silence.observe(120.0, {0: 1000}, behind=()) == {0: 0.0}
