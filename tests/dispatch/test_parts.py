"""The real amtool, Prometheus and Alertmanager, side by side with the dispatcher."""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from pipeline.local.ports import free_ports
from tests.conftest import ProgramFinder
from tests.dispatch.conftest import Body, Receiver, StartProcess, configuration, posted

pytestmark = pytest.mark.parts

Amtool = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture
def amtool(program: ProgramFinder) -> Amtool:
    path = program("amtool")

    async def run(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(path, *arguments, stdout=PIPE, stderr=STDOUT)
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    return run


async def until_ready(session: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(30):
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(f"{url}/-/ready") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)


async def test_amtool_adds_queries_and_shows(
    amtool: Amtool, new_process: StartProcess, receiver: Receiver, session: aiohttp.ClientSession
) -> None:
    process = new_process(configuration(receiver.url))
    await process.start(session)
    url = f"--alertmanager.url={process.url}"
    assert await amtool(url, "alert", "add", "Down", "node=a", "--annotation=summary=s") == (0, "")
    await receiver.until(lambda: receiver.told() == [[("Down", "firing")]])
    status, output = await amtool(url, "alert", "query", "node=~a|b", "-o", "extended")
    assert status == 0
    assert 'alertname="Down" node="a"' in output
    status, output = await amtool(url, "alert", "query", "node=z", "-o", "json")
    assert (status, output.strip()) == (0, "[]")
    status, output = await amtool(url, "config", "show")
    assert status == 0
    assert "receiver: hook" in output
    assert await amtool(url, "config", "routes", "test", "a=b") == (0, "hook\n")
    status, output = await amtool(url, "cluster", "show")
    assert (status, "disabled" in output) == (0, True)
    status, output = await amtool(url, "silence", "add", "a=b", "-c", "why")
    assert status == 1
    assert "silences are not supported yet: nothing was changed" in output


async def test_amtool_takes_the_configurations_that_we_take(amtool: Amtool, tmp_path: Path) -> None:
    file = tmp_path / "am.yml"
    file.write_text(configuration("http://127.0.0.1:1/hook"))
    status, output = await amtool("check-config", str(file))
    assert status == 0, output


async def test_prometheus_sends_to_it(
    program: ProgramFinder,
    tmp_path: Path,
    new_process: StartProcess,
    receiver: Receiver,
    session: aiohttp.ClientSession,
) -> None:
    process = new_process(configuration(receiver.url, interval="200ms"))
    await process.start(session)
    (tmp_path / "rules.yml").write_text(
        "groups: [{name: g, interval: 200ms, rules: [{alert: Always, expr: vector(1)}]}]"
    )
    (tmp_path / "prometheus.yml").write_text(f"""
rule_files: [rules.yml]
alerting:
  alertmanagers:
    - path_prefix: /backstop
      static_configs: [{{targets: ["{process.address}"]}}]
""")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    prometheus = await asyncio.create_subprocess_exec(
        program("prometheus"),
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/tsdb",
        f"--web.listen-address={address}",
        # It discovers whom to tell only after the first evaluation, and repeats after a minute.
        "--rules.alert.resend-delay=1s",
        stderr=PIPE,
    )
    try:
        await receiver.until(lambda: receiver.told() == [[("Always", "firing")]], within=40)
    finally:
        prometheus.send_signal(signal.SIGTERM)
        await prometheus.communicate()
    async with session.get(f"{process.url}/metrics") as response:
        assert 'watchkeeper_alerts_received_total{source="backstop"}' in await response.text()


class Side(NamedTuple):
    """One of the two: where it listens, and where it sends."""

    url: str
    receiver: Receiver

    def notifications(self) -> dict[str, list[tuple[str, list[tuple[str, str]]]]]:
        """Of each group, its messages in order: their status and alerts."""
        found: dict[str, list[tuple[str, list[tuple[str, str]]]]] = {}
        for (_, body), told in zip(self.receiver.posts, self.receiver.told(), strict=True):
            found.setdefault(body["groupKey"], []).append((body["status"], told))
        return found

    def first_time(self, started: float) -> float:
        return self.receiver.times[0] - started


@pytest.fixture
def second_receiver(receiver: Receiver) -> Receiver:
    """A view of its own of what comes to the same server under another path."""
    it = Receiver()
    it.url = receiver.url.replace("/hook", "/second")
    receiver.others["second"] = it
    return it


ROUTES = """
route:
  receiver: hook
  group_by: [team]
  group_wait: 500ms
  group_interval: 1s
  repeat_interval: 2500ms
  routes:
    - matchers: ['team=~"d.*"']
      continue: true
      group_by: ['...']
    - match_re: {team: "db|dns"}
      group_by: [alertname]
receivers:
  - name: hook
    webhook_configs: [{url: "%s", max_alerts: 2}]
"""


async def test_same_notifications_as_alertmanager(
    program: ProgramFinder,
    tmp_path: Path,
    new_process: StartProcess,
    receiver: Receiver,
    second_receiver: Receiver,
    session: aiohttp.ClientSession,
) -> None:
    """Groups, joiners, ends, ends within group_wait, repeats, refusals and firing again."""
    process = new_process(ROUTES % receiver.url)
    (tmp_path / "am.yml").write_text(ROUTES % second_receiver.url)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    alertmanager = await asyncio.create_subprocess_exec(
        program("prometheus-alertmanager"),
        f"--config.file={tmp_path}/am.yml",
        f"--storage.path={tmp_path}/am",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        stderr=PIPE,
    )
    ours, theirs = Side(process.url, receiver), Side(f"http://{address}", second_receiver)
    try:
        await process.start(session)
        await until_ready(session, theirs.url)

        async def post(*alerts: Body) -> None:
            for side in (ours, theirs):
                async with session.post(f"{side.url}/api/v2/alerts", json=alerts) as response:
                    assert response.status == 200

        def fresh(name: str, **labels: str) -> Body:
            return posted(name, **labels) | {"startsAt": None}

        def ended(name: str, **labels: str) -> Body:
            return posted(name, ended=True, **labels)

        started = time.time()
        for side in (ours, theirs):
            side.receiver.statuses = [400]
        await post(fresh("A", team="web", job="b"), fresh("B", team="web", job="a"))
        await asyncio.sleep(0.25)
        await post(ended("B", team="web", job="a"))
        await asyncio.sleep(0.75)
        await post(fresh("C", team="db"), fresh("D", team="db"), fresh("C", team="dns", job="z"))
        await asyncio.sleep(1.0)
        await post(fresh("E", team="web"), ended("D", team="db"))
        await asyncio.sleep(3.0)
        await post(ended("A", team="web", job="b"), ended("E", team="web"), ended("C", team="db"))
        await asyncio.sleep(1.4)
        await post(fresh("A", team="web", job="b"))
        await asyncio.sleep(2.0)
        assert ours.notifications() == theirs.notifications()
        assert ours.first_time(started) == pytest.approx(theirs.first_time(started), abs=0.25)
        assert len(receiver.posts) > 10
    finally:
        alertmanager.send_signal(signal.SIGTERM)
        await alertmanager.communicate()
