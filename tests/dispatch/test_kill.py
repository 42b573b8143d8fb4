"""What was answered with 200 is told, whenever the dispatcher is killed."""

from __future__ import annotations

import asyncio
import signal
from random import Random

import aiohttp

from tests.dispatch.conftest import Receiver, StartProcess, configuration, posted

ROUNDS = 20
ALERTS_PER_ROUND = 6


async def test_nothing_accepted_is_lost_and_nothing_told_twice(
    new_process: StartProcess, receiver: Receiver, session: aiohttp.ClientSession
) -> None:
    random = Random(20_240_401)
    process = new_process(configuration(receiver.url, wait="100ms", interval="300ms"))
    await process.start(session)
    accepted: set[tuple[str, str]] = set()

    async def post(name: str, *, ended: bool) -> None:
        try:
            async with session.post(
                f"{process.url}/api/v2/alerts", json=[posted(name, ended=ended)]
            ) as response:
                if response.status == 200:
                    accepted.add((name, "resolved" if ended else "firing"))
        except aiohttp.ClientError:
            pass  # killed before it answered: nothing was promised

    for number in range(ROUNDS):
        names = [f"r{number}-{i}" for i in range(ALERTS_PER_ROUND)]
        receiver.statuses += [500] if number % 3 == 0 else []
        posts = [asyncio.create_task(post(name, ended=False)) for name in names]
        # Of the round before, told or not, some end.
        posts += [
            asyncio.create_task(post(f"r{number - 1}-{i}", ended=True))
            for i in range(0, ALERTS_PER_ROUND, 2)
            if (f"r{number - 1}-{i}", "firing") in receiver.states()
        ]
        await asyncio.sleep(random.uniform(0.0, 0.25))
        process.stop(signal.SIGKILL)
        await asyncio.gather(*posts)
        await process.start(session)

    assert len(accepted) > ROUNDS * ALERTS_PER_ROUND / 4
    await receiver.until(lambda: accepted <= receiver.states())
    states = receiver.taken()
    assert len(states) == len(set(states)), "told twice under different keys"
    assert process.stop(signal.SIGTERM) == 0
