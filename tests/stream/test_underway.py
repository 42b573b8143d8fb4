"""What is let go, and when."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from pipeline.stream.underway import UnderWay


class Gone:
    """Notes what was let go."""

    def __init__(self) -> None:
        self.records: list[int] = []
        self.changed = asyncio.Condition()

    async def __call__(self, record: int) -> None:
        async with self.changed:
            self.records.append(record)
            self.changed.notify_all()

    async def until(self, count: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.records) >= count)


def future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_record_goes_after_its_effects_and_those_of_all_before_it():
    gone, first, second = Gone(), future(), future()
    async with UnderWay(gone) as under_way:
        await under_way.add(1, first)
        await under_way.add(2, second)
        await under_way.add(3, None)
        second.set_result(None)
        await settle()
        assert gone.records == []
        first.set_result(None)
        await gone.until(3)
    assert gone.records == [1, 2, 3]


async def test_after_effects_that_failed_nothing_goes_any_more():
    gone, bad = Gone(), future()
    async with UnderWay(gone, most=2) as under_way:
        await under_way.add(1, None)
        await gone.until(1)
        await under_way.add(2, bad)
        bad.set_exception(KafkaConnectionError("away"))
        await under_way.add(3, None)
        await settle()
        with pytest.raises(KafkaConnectionError):
            await under_way.add(4, None)
    assert gone.records == [1]


async def test_no_more_than_most_are_under_way():
    gone, held = Gone(), future()
    async with UnderWay(gone, most=2) as under_way:
        await under_way.add(1, held)
        await settle()
        await under_way.add(2, None)
        await under_way.add(3, None)
        fourth = asyncio.ensure_future(under_way.add(4, None))
        await settle()
        assert not fourth.done()
        held.set_result(None)
        await fourth
        await gone.until(4)
    assert gone.records == [1, 2, 3, 4]
