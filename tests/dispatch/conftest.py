"""A receiver that records what is posted to it, and the dispatcher as a process."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from pipeline.dispatch.main import run
from pipeline.local.ports import free_ports
from pipeline.settings import DispatchSettings, KafkaSettings, RulesSettings, Settings

Body = dict[str, Any]  # Any: JSON


class Receiver:
    """A webhook's other end; `statuses` are the answers to come, then 200."""

    def __init__(self) -> None:
        self.url = ""
        self.posts: list[tuple[str, Body]] = []
        self.times: list[float] = []
        self.statuses: list[int] = []
        self.retry_after = ""
        self.closes = 0
        """How many of the requests to come are cut off without an answer."""
        self.hang = False
        self.others: dict[str, Receiver] = {}
        """More receivers of the same server, by the last part of their address."""
        self._arrived = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        other = self.others.get(request.match_info["name"])
        if other is not None:
            return await other.record(request)
        return await self.record(request)

    async def record(self, request: web.Request) -> web.Response:
        body = msgspec.json.decode(await request.read())
        async with self._arrived:
            self.posts.append((request.headers.get("Idempotency-Key", ""), body))
            self.times.append(time.time())
            self._arrived.notify_all()
        if self.hang:
            await asyncio.sleep(3600)
        if self.closes and request.transport is not None:
            self.closes -= 1
            request.transport.close()
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200, headers=headers)

    async def until(self, condition: Callable[[], bool], within: float = 15.0) -> None:
        """Return when `condition` holds; it is asked after each post."""
        try:
            async with asyncio.timeout(within), self._arrived:
                await self._arrived.wait_for(condition)
        except TimeoutError:
            pytest.fail(f"not within {within} s; arrived: {self.told()}")

    def told(self) -> list[list[tuple[str, str]]]:
        """Of each post: the alerts' names and statuses, in order."""
        return [
            [(alert["labels"]["alertname"], alert["status"]) for alert in body["alerts"]]
            for _, body in self.posts
        ]

    def taken(self) -> list[tuple[str, str]]:
        """Names and statuses as a receiver has them that takes each key once."""
        first = dict(reversed(self.posts))
        kept = [first.pop(key) for key, _ in self.posts if key in first]
        return [(a["labels"]["alertname"], a["status"]) for body in kept for a in body["alerts"]]

    def states(self) -> set[tuple[str, str]]:
        """Every name and status that was told."""
        return {state for post in self.told() for state in post}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    it = Receiver()
    app = web.Application()
    app.router.add_post("/{name}", it.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield it
    await runner.cleanup()


def configuration(url: str, *, wait: str = "0s", interval: str = "1s", group: str = "'...'") -> str:
    """One route and one webhook."""
    return f"""
route:
  receiver: hook
  group_by: [{group}]
  group_wait: {wait}
  group_interval: {interval}
  repeat_interval: 1h
receivers:
  - name: hook
    webhook_configs: [{{url: "{url}"}}]
"""


_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["pipeline.dispatch.main"])


class Process:
    """`watchkeeper dispatch` on a port and with a data folder of its own.

    It is forked from a process that has imported it already, so that a start takes no second.
    """

    def __init__(
        self,
        folder: Path,
        config: str,
        brokers: str,
        prefix: str,
        rules: tuple[str, ...] = (),
        mark_lifetime: float = 60.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "alertmanager.yml"
        file.write_text(config, encoding="utf-8")
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.url = f"http://{self.address}"
        self._settings = Settings(
            data=str(folder / "data"),
            brokers=(brokers,),
            kafka=KafkaSettings(topic_prefix=prefix),
            rules=RulesSettings(files=rules),
            dispatch=DispatchSettings(
                listen=self.address, config_file=str(file), mark_lifetime=mark_lifetime
            ),
        )
        self._process: ForkServerProcess | None = None

    async def start(self, session: aiohttp.ClientSession) -> None:
        """Return when it is ready."""
        self._process = _forks.Process(target=run, args=(self._settings,))
        self._process.start()
        while True:
            assert self._process.is_alive(), f"exit code {self._process.exitcode}"
            with suppress(aiohttp.ClientError):
                async with session.get(f"{self.url}/-/ready") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self, number: signal.Signals) -> int | None:
        """End it with this signal; its exit code."""
        self.send(number)
        assert self._process is not None
        self._process.join(20)
        exitcode = self._process.exitcode
        self._process.close()
        self._process = None
        return exitcode

    async def until_reading(self, session: aiohttp.ClientSession) -> None:
        """Return when it reads what comes from now on."""
        connected = 'watchkeeper_dispatch_kafka_connected{topic="alerts"}'
        async with asyncio.timeout(30):
            while not await self.count(session, connected):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)

    async def count(self, session: aiohttp.ClientSession, series: str) -> float:
        """The value of a series of its metrics; 0 without it."""
        async with session.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return next(
            (float(line[len(series) + 1 :]) for line in lines if line.startswith(f"{series} ")), 0.0
        )

    def ensure_stopped(self) -> None:
        if self._process is not None:
            self.stop(signal.SIGKILL)


StartProcess = Callable[..., Process]


@pytest.fixture
async def new_process(tmp_path: Path) -> AsyncIterator[StartProcess]:
    """Makes a dispatcher with this configuration; it is stopped when the test ends."""
    processes: list[Process] = []

    def make(
        config: str, brokers: str = "127.0.0.1:9", prefix: str = "", **others: Any
    ) -> Process:  # Any: what Process takes
        folder = tmp_path / f"dispatch{len(processes)}"
        processes.append(Process(folder, config, brokers, prefix, **others))
        return processes[-1]

    yield make
    for process in processes:
        process.ensure_stopped()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as it:
        yield it


def posted(name: str, *, ended: bool = False, **labels: str) -> Body:
    """An alert as Prometheus posts it."""
    ends = time.time() - 0.001 if ended else time.time() + 240
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ends))
    return {
        "labels": {"alertname": name} | labels,
        "annotations": {"summary": "s"},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": f"{when}.{int(ends % 1 * 1000):03d}Z",
        "generatorURL": "http://prometheus/graph",
    }
