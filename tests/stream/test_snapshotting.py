"""When snapshots are taken, and what has to have happened before they are written."""

import asyncio
import threading

import pytest
from aiokafka.errors import KafkaConnectionError
from fleet import partition

from pipeline.stream.snapshotting import FAILED, WRITTEN_BYTES, Snapshotting


class Files:
    """What is written; a write can be held up, or fail."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self.fail = False

    def save(self, snapshot) -> int:
        assert self.may_end.wait(30)
        if self.fail:
            raise OSError(28, "No space left on device")
        self.offsets.append(snapshot.offset)
        return 1234


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def subject(files, clock) -> Snapshotting:
    return Snapshotting(files.save, 30.0, clock)


@pytest.fixture
def state(tmp_path):
    return partition(tmp_path)


def done() -> asyncio.Future:
    future = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


async def test_one_is_due_every_interval_for_each_partition(subject, files, clock, state):
    assert not subject.is_due("telemetry", 0)
    assert not subject.is_due("telemetry", 1)
    clock.now += 11.4
    assert not subject.is_due("telemetry", 1)
    clock.now += 0.1
    assert subject.is_due("telemetry", 1), "the partitions' turns are apart"
    assert not subject.is_due("telemetry", 0)
    subject.take("telemetry", 1, 7, state, done())
    await subject.finish()
    assert files.offsets == [7]
    assert WRITTEN_BYTES.labels("telemetry", 1)._value.get() == 1234
    assert not subject.is_due("telemetry", 1)
    clock.now += 30
    assert subject.is_due("telemetry", 1)


async def test_nothing_is_written_before_its_effects_are_acknowledged(subject, files, state):
    acknowledged = asyncio.get_running_loop().create_future()
    subject.take("telemetry", 1, 7, state, acknowledged)
    await asyncio.sleep(0)
    assert files.offsets == []
    acknowledged.set_result(None)
    await subject.finish()
    assert files.offsets == [7]


async def test_what_could_not_be_told_is_not_kept(subject, files, state):
    acknowledged = asyncio.get_running_loop().create_future()
    acknowledged.set_exception(KafkaConnectionError("broker away"))
    subject.take("telemetry", 1, 7, state, acknowledged)
    await subject.finish()
    assert files.offsets == []


async def test_while_one_is_written_no_other_of_the_partition_is_due(subject, files, clock, state):
    subject.is_due("telemetry", 1)
    files.may_end.clear()
    subject.take("telemetry", 1, 7, state, done())
    clock.now += 100
    assert not subject.is_due("telemetry", 1)
    files.may_end.set()
    await subject.finish()
    assert subject.is_due("telemetry", 1)


async def test_a_full_disk_is_counted_and_the_next_one_is_tried(subject, files, clock, state):
    files.fail = True
    counted = FAILED._value.get()
    subject.take("telemetry", 1, 7, state, done())
    await subject.finish()
    assert FAILED._value.get() == counted + 1
    files.fail = False
    clock.now += 30
    assert subject.is_due("telemetry", 1)
    subject.take("telemetry", 1, 8, state, done())
    await subject.finish()
    assert files.offsets == [8]


async def test_a_partition_that_comes_back_waits_a_whole_interval(subject, clock):
    subject.is_due("telemetry", 1)
    clock.now += 30
    subject.forget("telemetry", 1)
    assert not subject.is_due("telemetry", 1)
