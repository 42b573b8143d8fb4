"""The disk buffer: order, restart, limit, damage."""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.codec import decode_dictionary
from pipeline.collect.spool import Spool, SpoolError
from pipeline.model import Frame, Series, SeriesDictionary, Target, Tick

A, B = Target("job", "a", "/m"), Target("job", "b", "/m")
WIDTH = 10
Open = Callable[..., Spool]


def dictionary(target: Target) -> SeriesDictionary:
    return SeriesDictionary(target, tuple(Series((("__name__", f"m{i}"),)) for i in range(WIDTH)))


DICTIONARIES = {dictionary(target).id: dictionary(target) for target in (A, B)}


def frame(target: Target, time_ms: int) -> tuple[Target, Frame]:
    values = np.full(WIDTH, float(time_ms))
    return target, Frame(target.id, dictionary(target).id, time_ms, values)


def nothing(_frame: Frame) -> None:
    """Kafka has every dictionary."""


def needed(frame: Frame) -> SeriesDictionary:
    return DICTIONARIES[frame.dictionary_id]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """`opened(limit)` is the spool of this test's folder, in place of the one before."""
    spools: list[Spool] = []

    def reopen(limit: int = 1 << 20, partitions: int = 2) -> Spool:
        for spool in spools:
            spool.close()
        spools.append(Spool(tmp_path, partitions, limit))
        return spools[-1]

    yield reopen
    for spool in spools:
        spool.close()


def read_one(spool: Spool, partition: int = 0, max_bytes: int = 1 << 20) -> list[object]:
    """What is taken next, and marked as sent: times of frames, or a tick."""
    taken = spool.take(partition, max_bytes)
    if taken is None:
        return []
    spool.sent(partition, taken.end)
    return [taken.tick] if taken.tick else [each.time_ms for _, each in taken.frames]


def read_all(spool: Spool, partition: int = 0) -> list[object]:
    items: list[object] = []
    while got := read_one(spool, partition):
        items += got
    return items


def test_frames_and_ticks_come_back_in_order(opened: Open) -> None:
    spool = opened()
    spool.append_frames(0, [frame(A, 1), frame(B, 1)], nothing)
    spool.append_frames(0, [frame(A, 2)], nothing)
    spool.append_tick(0, Tick("me", 3))
    spool.append_frames(0, [frame(A, 4)], nothing)
    spool.append_frames(1, [frame(A, 9)], nothing)

    assert read_one(spool) == [1, 1, 2]  # one record, up to the tick
    assert read_one(spool) == [Tick("me", 3)]
    assert read_one(spool) == [4]
    assert read_one(spool) == []
    assert read_all(spool, 1) == [9]
    assert spool.used_bytes == 0


def test_a_record_is_filled_up_to_its_size(opened: Open) -> None:
    spool = opened()
    for time_ms in range(5):
        spool.append_frames(0, [frame(A, time_ms)], nothing)

    assert read_one(spool, max_bytes=200) == [0, 1]  # 120 bytes each
    assert read_one(spool, max_bytes=1) == [2]
    assert read_one(spool) == [3, 4]


def test_values_and_targets_come_back_to_the_bit(opened: Open) -> None:
    spool = opened()
    stale = np.array([0x7FF0000000000002, 0x7FF000000000574B, 1], dtype=np.uint64)
    sent = Frame(A.id, 7, 1, stale.view(np.float64))
    spool.append_frames(0, [(A, sent)], nothing)

    taken = spool.take(0, 1)

    assert taken is not None
    ((target, got),) = taken.frames
    assert (target, got.dictionary_id, got.time_ms) == (A, 7, 1)
    assert got.values.view(np.uint64).tolist() == stale.tolist()


def test_dictionaries_that_kafka_lacks_are_there_once_before_their_frames(opened: Open) -> None:
    spool = opened()
    spool.append_frames(0, [frame(A, 1), frame(B, 1)], needed)
    spool.append_frames(0, [frame(A, 2)], needed)

    taken = spool.take(0, 200)
    assert taken is not None
    assert {decode_dictionary(each).target for each in taken.dictionaries.values()} == {A, B}
    assert taken.dictionaries.keys() == DICTIONARIES.keys()
    spool.sent(0, taken.end)
    taken = spool.take(0, 200)

    assert taken is not None
    assert taken.dictionaries == {}


def test_each_segment_has_the_dictionaries_that_its_frames_need(opened: Open) -> None:
    spool = opened(limit=32 * 1000)  # segments of 1000 bytes
    for time_ms in range(50):
        spool.append_frames(0, [frame(A, time_ms)], needed)
    one_segment = spool.take(0, 800)
    assert one_segment is not None
    assert len(one_segment.frames) < 10
    spool.sent(0, one_segment.end)

    seen = []
    while (taken := spool.take(0, 1 << 20)) is not None:
        seen.append(taken.dictionaries)
        spool.sent(0, taken.end)

    assert len(seen) > 3
    assert all(each.keys() == {dictionary(A).id} for each in seen[1:])


def test_what_waits_is_there_for_the_next_process_what_was_sent_is_not(opened: Open) -> None:
    spool = opened()
    for time_ms in range(4):
        spool.append_frames(0, [frame(A, time_ms)], needed)
    assert read_one(spool, max_bytes=1) == [0]
    spool.take(0, 1)  # taken but not sent

    again = opened()

    assert again.oldest_ms() == 1
    assert again.pending(0) > 0
    assert read_all(again) == [1, 2, 3]


def test_new_frames_follow_those_of_the_process_before(opened: Open) -> None:
    spool = opened()
    spool.append_frames(0, [frame(A, 1)], nothing)
    spool = opened()
    spool.append_frames(0, [frame(A, 2)], nothing)
    spool = opened()

    assert read_all(spool) == [1, 2]


def test_over_the_limit_the_oldest_are_lost_by_target(opened: Open) -> None:
    limit = 32 * 1000
    spool = opened(limit)
    for time_ms in range(400):
        spool.append_frames(0, [frame(A if time_ms % 2 else B, time_ms)], nothing)
        assert spool.used_bytes <= limit

    kept = read_all(spool)

    lost = 400 - len(kept)
    assert kept == list(range(lost, 400))
    assert lost > 100
    assert spool.lost == Counter({A: lost // 2, B: lost - lost // 2})


def test_the_fullest_partition_makes_room(opened: Open) -> None:
    spool = opened(32 * 1000)
    spool.append_frames(1, [frame(B, 0)], nothing)
    for time_ms in range(400):
        spool.append_frames(0, [frame(A, time_ms)], nothing)

    assert read_all(spool, 1) == [0]
    assert set(spool.lost) == {A}


def test_what_is_under_way_does_not_count_as_lost(opened: Open) -> None:
    spool = opened(32 * 1000)
    spool.append_frames(0, [frame(A, 0), frame(B, 0)], nothing)
    taken = spool.take(0, 1)
    assert taken is not None
    for time_ms in range(1, 400):
        spool.append_frames(0, [frame(A, time_ms)], nothing)
    spool.sent(0, taken.end)  # its file is gone

    kept = read_all(spool)
    assert spool.lost == Counter({A: 399 - len(kept)})


def test_a_record_larger_than_the_limit_is_refused(opened: Open) -> None:
    spool = opened(limit=100)

    with pytest.raises(OSError, match="disk_buffer_bytes"):
        spool.append_frames(0, [frame(A, 1)], nothing)

    assert spool.take(0, 1) is None


def test_a_full_disk_costs_the_oldest_and_leaves_no_half_record(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened(32 * 1000)
    for time_ms in range(100):
        spool.append_frames(0, [frame(A, time_ms)], nothing)
    write, full = os.pwrite, [True]

    def half(descriptor: int, data: bytes, offset: int) -> int:
        if full.pop() if full else False:
            write(descriptor, data[: len(data) // 2], offset)
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", half)
    spool.append_frames(0, [frame(A, 100)], nothing)

    lost = spool.lost[A]
    assert 0 < lost < 20
    assert read_all(opened(32 * 1000)) == list(range(lost, 101))


def test_another_fault_of_the_disk_costs_nothing_that_is_there(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = opened()
    spool.append_frames(0, [frame(A, 1)], nothing)

    def broken(*_arguments: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", broken)
        with pytest.raises(OSError, match="Input/output"):
            spool.append_frames(0, [frame(A, 2)], nothing)
    spool.append_frames(0, [frame(A, 3)], nothing)

    assert read_all(spool) == [1, 3]
    assert not spool.lost


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "0-of-2").glob("*.segment"))


@pytest.mark.parametrize("cut", [1, 7, 9, 60])
def test_a_half_written_end_is_cut_off(opened: Open, tmp_path: Path, cut: int) -> None:
    spool = opened()
    for time_ms in range(3):
        spool.append_frames(0, [frame(A, time_ms)], nothing)
    (path,) = segments(tmp_path)
    os.truncate(path, path.stat().st_size - cut)

    spool = opened()
    spool.append_frames(0, [frame(A, 3)], nothing)

    assert read_all(spool) == [0, 1, 3]
    assert spool.damaged == 0


def test_a_damaged_file_is_put_aside_and_what_comes_before_and_after_is_sent(
    opened: Open, tmp_path: Path
) -> None:
    spool = opened(32 * 1000)
    for time_ms in range(30):
        spool.append_frames(0, [frame(A, time_ms)], nothing)
    first, *_ = segments(tmp_path)
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 1
    first.write_bytes(data)

    spool = opened(32 * 1000)
    kept = read_all(spool)

    assert spool.damaged == 1
    assert (tmp_path / "0-of-2" / "damaged.aside").read_bytes() == bytes(data)
    gap = next(i for i, time_ms in enumerate(kept) if time_ms != i)
    assert 0 < gap < 6
    assert kept[gap:] == list(range(30 - len(kept) + gap, 30))
    assert read_all(opened(32 * 1000)) == []


def test_a_file_that_is_damaged_while_it_waits_is_lost_by_target(
    opened: Open, tmp_path: Path
) -> None:
    spool = opened(32 * 1000)
    for time_ms in range(30):
        spool.append_frames(0, [frame(A, time_ms)], nothing)
    first, *_ = segments(tmp_path)
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)

    kept = read_all(spool)

    assert spool.damaged == 1
    assert spool.lost == Counter({A: 1})
    assert len(kept) == 29


@pytest.mark.parametrize("content", [b"", b"WKB1", b"nonsense" * 10, bytes(100)])
def test_a_file_that_is_no_segment_disturbs_nothing(
    opened: Open, tmp_path: Path, content: bytes
) -> None:
    opened().append_frames(0, [frame(A, 1)], nothing)
    (tmp_path / "0-of-2" / "000000000000.segment").write_bytes(content)

    assert read_all(opened()) == [1]


def test_two_processes_can_t_have_one_buffer(opened: Open, tmp_path: Path) -> None:
    opened()
    with pytest.raises(SpoolError, match=f"{tmp_path}: another collector has this buffer"):
        Spool(tmp_path, 2, 1000)


def test_a_folder_that_can_t_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="file/buffer: can't be the buffer: Not a directory"):
        Spool(tmp_path / "file" / "buffer", 2, 1000)


def test_frames_of_another_number_of_partitions_stay_and_are_named(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened().append_frames(0, [frame(A, 1)], nothing)

    assert read_all(opened(partitions=3)) == []
    assert f"another number of partitions stay: folder={tmp_path / '0-of-2'}" in caplog.text
    assert read_all(opened(partitions=2)) == [1]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("frames"), st.integers(1, 3)),
        st.tuples(st.just("tick"), st.just(0)),
        st.tuples(st.just("read"), st.integers(1, 600)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([1 << 20, 32 * 400]))
def test_whatever_happens_nothing_is_out_of_order_or_unaccounted(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, 1, limit)
    put: list[object] = []
    got: list[object] = []
    lost = 0
    for what, size in steps:
        now = len(put)
        if what == "frames":
            new = list(range(now, now + size))
            spool.append_frames(0, [frame(A, time_ms) for time_ms in new], needed)
            put += new
        elif what == "tick":
            put.append(Tick("me", now))
            spool.append_tick(0, Tick("me", now))
        elif what == "read":
            got += read_one(spool, 0, size)
        elif what == "restart":
            lost += spool.lost.total()
            spool.close()
            spool = Spool(folder, 1, limit)
    got += read_all(spool)
    lost += spool.lost.total()
    spool.close()

    remaining = iter(put)
    assert all(item in remaining for item in got)  # in the order they were put, each once
    frames = [item for item in put if isinstance(item, int)]
    assert len([item for item in got if isinstance(item, int)]) + lost == len(frames)
    if limit > 1 << 16:
        assert got == put
