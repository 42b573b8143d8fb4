"""What may happen to a dispatcher: floods, rubbish, receivers that fail, full disks, sleep."""

from __future__ import annotations

import asyncio
import resource
import signal
import time
from contextlib import suppress
from pathlib import Path

import aiohttp
import msgspec

from pipeline.clock import Clock
from pipeline.settings import ClockSettings
from tests.dispatch.conftest import Receiver, StartProcess, configuration, posted
from tests.dispatch.test_dispatcher import Stacks, counted, stacks, worker_report

__all__ = ["stacks"]  # a fixture
JSON = {"Content-Type": "application/json"}


class TestPosts:
    async def test_of_500_alerts_each_is_told(self, stacks: Stacks, receiver: Receiver) -> None:
        stack = await stacks.start(configuration(receiver.url))
        names = [f"A{i}" for i in range(500)]
        assert await stack.post(*map(posted, names)) == (200, None)
        await receiver.until(lambda: len(receiver.posts) == 500, within=60)
        assert receiver.states() == {(name, "firing") for name in names}

    async def test_of_50_mb_are_refused_and_disturb_nobody(
        self, stacks: Stacks, receiver: Receiver
    ) -> None:
        stack = await stacks.start(configuration(receiver.url))
        # The refusal may come, and the connection end, before all is sent.
        with suppress(aiohttp.ClientConnectionError):
            assert await stack.raw(b"[" + b" " * 50_000_000 + b"]", "application/json") == 413
        assert await stack.names() == []
        assert await stack.post(posted("Down")) == (200, None)
        await receiver.until(lambda: receiver.told() == [[("Down", "firing")]])

    async def test_of_rubbish_are_refused_and_disturb_nobody(
        self, stacks: Stacks, receiver: Receiver
    ) -> None:
        stack = await stacks.start(configuration(receiver.url))
        bodies = [
            b"null",
            b"\xff\xfe",
            b"[" * 100_000,
            b'[{"labels": null}]',
            b'[{"labels": {"a": 1}}]',
            b'[{"labels": {"a": "\\ud800"}}]',
            b'[{"labels": {"a": "b"}, "endsAt": "tomorrow"}]',
            b'[{"labels": {"a": "b"}, "startsAt": "9999-12-31T23:59:59Z", "endsAt": "1999-01-01"}]',
        ]
        statuses = [await stack.raw(body, "application/json") for body in bodies]
        assert {status // 100 for status in statuses} == {4}
        assert await stack.post(posted("Down")) == (200, None)
        await receiver.until(lambda: receiver.told() == [[("Down", "firing")]])


class TestReceivers:
    async def test_refusal_is_tried_again_at_the_next_flush(
        self, stacks: Stacks, receiver: Receiver
    ) -> None:
        receiver.statuses = [400, 404]
        stack = await stacks.start(configuration(receiver.url, interval="100ms"))
        await stack.post(posted("Down"))
        await receiver.until(lambda: len(receiver.posts) == 3)
        assert len({key for key, _ in receiver.posts}) == 1

    async def test_wish_to_wait_is_honoured(self, stacks: Stacks, receiver: Receiver) -> None:
        receiver.statuses = [429, 503]
        receiver.retry_after = "1"
        stack = await stacks.start(configuration(receiver.url))
        await stack.post(posted("Down"))
        await receiver.until(lambda: len(receiver.posts) == 3)
        first, second, third = receiver.times
        assert min(second - first, third - second) >= 1.0

    async def test_connection_that_is_closed_is_tried_again(
        self, stacks: Stacks, receiver: Receiver
    ) -> None:
        receiver.closes = 2
        stack = await stacks.start(configuration(receiver.url))
        await stack.post(posted("Down"))
        await receiver.until(lambda: len(receiver.posts) == 3)
        assert len({key for key, _ in receiver.posts}) == 1


async def test_full_disk_loses_nothing_that_was_accepted(
    new_process: StartProcess, receiver: Receiver, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    process = new_process(configuration(receiver.url, interval="200ms"))
    await process.start(session)
    accepted: set[str] = set()
    refused: set[str] = set()

    async def post(name: str) -> None:
        body = msgspec.json.encode([posted(name, filler="x" * 2000)])
        async with session.post(
            f"{process.url}/api/v2/alerts", data=body, headers=JSON
        ) as response:
            assert response.status in (200, 503)
            (accepted if response.status == 200 else refused).add(name)

    await post("Before")
    size = max(file.stat().st_size for file in (tmp_path / "dispatch0/data").iterdir())
    # No file of the process may grow any more: what a full disk looks like from within.
    unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    for i in range(40):
        await post(f"Full{i}")
    assert refused
    assert await process.count(session, "watchkeeper_store_errors_total") >= len(refused)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
    await post("After")
    assert "After" in accepted
    process.stop(signal.SIGKILL)
    await process.start(session)
    async with session.get(f"{process.url}/api/v2/alerts") as response:
        held = {alert["labels"]["alertname"] for alert in await response.json()}
    assert accepted <= held
    await receiver.until(lambda: accepted <= {name for name, _ in receiver.states()}, within=30)


class Jumping(Clock):
    """A clock that someone sets."""

    def __init__(self) -> None:
        super().__init__(ClockSettings())
        self.set_by = 0.0

    def now(self) -> float:
        return super().now() + self.set_by

    def now_ms(self) -> int:
        return int(self.now() * 1000)


async def test_clock_that_jumps_ahead_ends_no_alert(stacks: Stacks, receiver: Receiver) -> None:
    clock = Jumping()
    stack = await stacks.start(configuration(receiver.url, interval="100ms"), clock)
    before = counted("watchkeeper_dispatch_sleeps_total")
    await stack.dispatcher.accept([worker_report(posted("Down"))])
    await receiver.until(lambda: len(receiver.posts) == 1)
    clock.set_by = 3600.0
    await stack.post(posted("Other") | {"endsAt": None})
    await receiver.until(lambda: len(receiver.posts) == 2)
    assert receiver.told() == [[("Down", "firing")], [("Other", "firing")]]
    assert counted("watchkeeper_dispatch_sleeps_total") == before + 1
    assert sorted(await stack.names()) == ["Down", "Other"]


async def test_stopped_process_goes_on_where_it_was(
    new_process: StartProcess, receiver: Receiver, session: aiohttp.ClientSession
) -> None:
    process = new_process(configuration(receiver.url, wait="300ms"))
    await process.start(session)
    url = f"{process.url}/api/v2/alerts"
    before = posted("Before") | {"startsAt": None}  # else it has waited long enough
    async with session.post(url, json=[before]) as response:
        assert response.status == 200
    process.send(signal.SIGSTOP)
    waiting = asyncio.create_task(session.post(url, json=[posted("During")]))
    stopped = time.time()
    while time.time() - stopped < 0.6:  # noqa: ASYNC110 - longer than group_wait
        await asyncio.sleep(0.05)
    assert receiver.posts == []
    process.send(signal.SIGCONT)
    async with await waiting as response:
        assert response.status == 200
    await receiver.until(lambda: len(receiver.posts) == 2)
    assert receiver.states() == {("Before", "firing"), ("During", "firing")}
