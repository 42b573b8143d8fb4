"""Snapshot files: written whole, read back equal, put aside when they can't be."""

from pathlib import Path

import pytest
from fleet import START_MS, dictionary, fleetwide, frame, partition

from pipeline.model import Tick
from pipeline.stream.digest import digest
from pipeline.stream.partition import batch_of
from pipeline.stream.snapshot import Snapshot, SnapshotError, decode, encode
from pipeline.stream.snapshots import PUT_ASIDE, SnapshotStore

END = 10**9


def worked(folder: Path):
    """A partition that has seen something."""
    subject = partition(folder)
    for instance in "ab":
        subject.learn(dictionary(instance))
    for second in range(20):
        frames = [frame(instance, second, 11.0 + second % 3) for instance in "ab"]
        subject.frames(batch_of(frames), unknown={})
        subject.tick(Tick("c", START_MS + second * 1000))
    return subject


def snapshot(folder: Path, offset: int) -> Snapshot:
    return Snapshot("telemetry", 0, offset, worked(folder).cut())


def put_aside(reason: str) -> float:
    return PUT_ASIDE.labels(reason)._value.get()


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    if request.param == "folder":
        return SnapshotStore(str(tmp_path / "snapshots"), "test.")
    return SnapshotStore(f"memory://{tmp_path.name}", "test.")


def test_what_is_read_is_what_was_written(store, tmp_path):
    before = worked(tmp_path)
    size = store.save(Snapshot("telemetry", 0, 7, before.cut()))
    (read,) = store.load("telemetry", 0, END)
    assert (read.topic, read.partition, read.offset) == ("telemetry", 0, 7)
    after = partition(tmp_path)
    after.restore(read.cut, [dictionary("a"), dictionary("b")])
    assert digest(after) == digest(before)
    assert size == sum(part.nbytes for part in encode(read))


def test_the_newest_two_of_each_partition_are_kept(store, tmp_path):
    for offset in (5, 30, 200):
        store.save(snapshot(tmp_path, offset))
    other = Snapshot("signals", 0, 9, fleetwide(tmp_path).cut())
    store.save(other)
    assert [found.offset for found in store.load("telemetry", 0, END)] == [200, 30]
    assert [found.offset for found in store.load("signals", 0, END)] == [9]
    assert store.load("telemetry", 1, END) == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda _: b"", "truncated"),
        (lambda data: data[:100], "truncated"),
        (lambda data: data[:-1], "truncated"),
        (lambda data: b"X" + data[1:], "not_a_snapshot"),
        (lambda data: data[:6] + b"\x09" + data[7:], "version"),
        (lambda data: data[:30] + bytes([data[30] ^ 1]) + data[31:], "checksum"),
        (lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "checksum"),
    ],
)
def test_a_damaged_one_is_put_aside_and_the_one_before_is_used(tmp_path, damage, reason):
    store = SnapshotStore(str(tmp_path / "s"), "")
    for offset in (1, 2):
        store.save(snapshot(tmp_path, offset))
    newest = tmp_path / "s" / f"telemetry-0-{2:020d}.snapshot"
    newest.write_bytes(damage(newest.read_bytes()))
    counted = put_aside(reason)
    assert [found.offset for found in store.load("telemetry", 0, END)] == [1]
    assert put_aside(reason) == counted + 1
    assert not newest.exists()
    assert newest.with_name(newest.name + ".corrupt").exists()


def test_one_of_a_topic_that_was_made_anew_is_put_aside(store, tmp_path):
    store.save(snapshot(tmp_path, 50))
    counted = put_aside("ahead")
    assert store.load("telemetry", 0, 49) == []
    assert put_aside("ahead") == counted + 1


def test_of_one_that_cannot_be_written_nothing_is_left(tmp_path, monkeypatch):
    store = SnapshotStore(str(tmp_path / "s"), "")
    store.save(snapshot(tmp_path, 1))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.stream.snapshots.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.save(snapshot(tmp_path, 2))
    assert [path.name for path in (tmp_path / "s").iterdir()] == [f"telemetry-0-{1:020d}.snapshot"]


def test_a_half_written_one_is_never_looked_at(tmp_path):
    store = SnapshotStore(str(tmp_path / "s"), "")
    store.save(snapshot(tmp_path, 1))
    (tmp_path / "s" / f"telemetry-0-{9:020d}.snapshot.abc.tmp").write_bytes(b"WKSNAP")
    assert [found.offset for found in store.load("telemetry", 0, END)] == [1]


def test_blocks_are_small_and_large_arrays_have_several(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.stream.snapshot.BLOCK_BYTES", 100)
    taken = snapshot(tmp_path, 1)
    header, *blocks = encode(taken)
    assert max(block.nbytes for block in blocks) == 100
    again = decode(b"".join([header, *blocks]))
    assert b"".join(encode(again)) == b"".join([header, *blocks])


def test_a_document_of_another_shape_is_malformed(tmp_path):
    taken = snapshot(tmp_path, 1)
    wrong = Snapshot("signals", 0, 1, taken.cut)
    with pytest.raises(SnapshotError) as caught:
        decode(b"".join(encode(wrong)))
    assert caught.value.reason == "malformed"
