"""The dispatcher in one process with its store and a real receiver."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import aiohttp
import msgspec
import pytest
from prometheus_client import REGISTRY

from pipeline.alerts.config import load_config
from pipeline.alerts.incident import Report
from pipeline.api.http import Server, serve
from pipeline.clock import Clock
from pipeline.dispatch.api import Api
from pipeline.dispatch.dispatcher import Dispatcher
from pipeline.dispatch.main import channels_of, new_desk
from pipeline.dispatch.store import Store, StoreError
from pipeline.dispatch.wire import parse_alerts
from pipeline.settings import ClockSettings, Settings
from tests.dispatch.conftest import Body, Receiver, configuration, posted

Answer = tuple[int, object]


class Stack:
    """A dispatcher with its API."""

    def __init__(self, url: str, session: aiohttp.ClientSession, dispatcher: Dispatcher) -> None:
        self._url = url
        self._session = session
        self.dispatcher = dispatcher

    async def post(self, *alerts: Body, prefix: str = "") -> Answer:
        async with self._session.post(f"{self._url}{prefix}/api/v2/alerts", json=alerts) as answer:
            text = await answer.text()
            return answer.status, await answer.json() if text else None

    async def get(self, path: str) -> Answer:
        async with self._session.get(self._url + path) as answer:
            return answer.status, await answer.json()

    async def names(self, query: str = "") -> list[str]:
        status, alerts = await self.get(f"/api/v2/alerts{query}")
        assert status == 200
        assert isinstance(alerts, list)
        return [alert["labels"]["alertname"] for alert in alerts]

    async def raw(self, body: bytes, content_type: str) -> int:
        headers = {"Content-Type": content_type}
        url = f"{self._url}/api/v2/alerts"
        async with self._session.post(url, data=BytesIO(body), headers=headers) as answer:
            return answer.status


class Stacks:
    """Starts stacks on one database, one after the other."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self._database = f"sqlite:///{folder}/dispatch.db"
        self._session = session
        self._running: list[tuple[Server, Dispatcher, Store]] = []

    async def start(self, text: str, clock: Clock | None = None) -> Stack:
        clock = clock or Clock(ClockSettings())
        config = load_config(text, "test.yml")
        integrations, channels = channels_of(Settings(), config, self._session)
        store = Store(self._database)
        desk = new_desk(Settings(), config, integrations, clock.now_ms())
        dispatcher = Dispatcher(desk, store, channels, clock)
        server = await serve(Api(dispatcher, config, clock).application(), "127.0.0.1:0")
        dispatcher.start()
        self._running.append((server, dispatcher, store))
        return Stack(f"http://127.0.0.1:{server.port}", self._session, dispatcher)

    async def stop(self) -> None:
        for server, dispatcher, store in self._running:
            await server.close()
            await dispatcher.close()
            await store.close()
        self._running = []


@pytest.fixture
async def stacks(tmp_path: Path, session: aiohttp.ClientSession) -> AsyncIterator[Stacks]:
    it = Stacks(tmp_path, session)
    yield it
    await it.stop()


def worker_report(alert: Body) -> Report:
    """The worker's report of an alert, made now."""
    now_ms = int(time.time() * 1000)
    (report,) = parse_alerts(msgspec.json.encode([alert]), "worker", 300_000, now_ms).reports
    return report


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_alert_is_told_at_once_and_its_end_at_the_next_flush(
    stacks: Stacks, receiver: Receiver
) -> None:
    stack = await stacks.start(configuration(receiver.url, interval="200ms"))
    before = counted("watchkeeper_notifications_total", receiver="webhook", outcome="delivered")
    assert await stack.post(posted("Down")) == (200, None)
    await receiver.until(lambda: receiver.told() == [[("Down", "firing")]])
    assert await stack.post(posted("Down", ended=True)) == (200, None)
    await receiver.until(lambda: receiver.told()[1:] == [[("Down", "resolved")]])
    await stacks.stop()
    after = counted("watchkeeper_notifications_total", receiver="webhook", outcome="delivered")
    assert after - before == 2
    first, second = receiver.posts
    assert first[0] != second[0]


async def test_worker_and_backstop_make_one_notification(
    stacks: Stacks, receiver: Receiver
) -> None:
    stack = await stacks.start(configuration(receiver.url, interval="100ms"))
    down = posted("Down")
    await stack.dispatcher.accept([worker_report(down)])
    await stack.post(down, prefix="/backstop")
    await stack.post(posted("Other"))
    await receiver.until(lambda: ("Other", "firing") in receiver.states())
    assert receiver.told() == [[("Down", "firing")], [("Other", "firing")]]
    assert sorted(await stack.names()) == ["Down", "Other"]


async def test_receiver_that_hangs_does_not_delay_the_others(
    stacks: Stacks, receiver: Receiver
) -> None:
    text = f"""
    route:
      receiver: good
      group_wait: 0s
      routes: [{{receiver: bad, matchers: [alertname=Bad]}}]
    receivers:
      - name: good
        webhook_configs: [{{url: "{receiver.url}"}}]
      - name: bad
        webhook_configs: [{{url: "{receiver.url}?hang"}}]
    """
    stack = await stacks.start(text)
    receiver.hang = True
    await stack.post(posted("Bad"))
    await receiver.until(lambda: len(receiver.posts) == 1)
    receiver.hang = False
    await stack.post(posted("Good"))
    await receiver.until(lambda: receiver.told()[1:] == [[("Good", "firing")]], within=2.0)


async def test_delivery_cut_off_is_repeated_after_the_restart_with_its_key(
    stacks: Stacks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.dispatch.dispatcher.LAST_REQUESTS", 0.05)
    receiver.hang = True
    stack = await stacks.start(configuration(receiver.url))
    await stack.post(posted("Down"))
    await receiver.until(lambda: len(receiver.posts) == 1)
    await stacks.stop()
    receiver.hang = False
    await stacks.start(configuration(receiver.url))
    await receiver.until(lambda: len(receiver.posts) == 2)
    assert receiver.posts[0][0] == receiver.posts[1][0]


async def test_what_was_told_is_not_told_after_a_restart(
    stacks: Stacks, receiver: Receiver
) -> None:
    stack = await stacks.start(configuration(receiver.url, interval="100ms"))
    await stack.post(posted("Down"))
    await receiver.until(lambda: len(receiver.posts) == 1)
    await stacks.stop()
    stack = await stacks.start(configuration(receiver.url, interval="100ms"))
    await stack.post(posted("Other"))
    await receiver.until(lambda: len(receiver.posts) == 2)
    assert receiver.told() == [[("Down", "firing")], [("Other", "firing")]]
    assert sorted(await stack.names()) == ["Down", "Other"]


async def test_timers_run_on_event_time(stacks: Stacks, receiver: Receiver) -> None:
    clock = Clock(ClockSettings(speed=60.0, origin=time.time()))
    stack = await stacks.start(configuration(receiver.url, wait="30s"), clock)
    started = time.monotonic()
    alert = posted("Down") | {"startsAt": None, "endsAt": None}
    await stack.post(alert)
    await receiver.until(lambda: len(receiver.posts) == 1)
    assert 0.45 < time.monotonic() - started < 10  # 30 s at 60 times the speed


async def test_post_that_can_not_be_stored_is_not_answered_with_200(
    stacks: Stacks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = await stacks.start(configuration(receiver.url))

    def fail(_dispatcher: Dispatcher, _reports: object) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(StoreError("database: can't write: disk full"))
        return future

    monkeypatch.setattr(Dispatcher, "accept", fail)
    assert await stack.post(posted("Down")) == (503, "database: can't write: disk full")


class TestApi:
    async def test_bad_alert_is_answered_400_and_the_good_one_taken(
        self, stacks: Stacks, receiver: Receiver
    ) -> None:
        stack = await stacks.start(configuration(receiver.url))
        bad = {"labels": {"a-b": "c"}}
        assert await stack.post(bad, {"labels": {}}, posted("Good")) == (
            400,
            'invalid label set: invalid name "a-b"; at least one label pair required',
        )
        assert await stack.names() == ["Good"]

    async def test_malformed_bodies(self, stacks: Stacks, receiver: Receiver) -> None:
        stack = await stacks.start(configuration(receiver.url))
        assert await stack.post({}) == (
            422,
            {"code": 602, "message": "0.labels in body is required"},
        )
        assert await stack.raw(b"{", "application/json") == 400
        assert await stack.raw(b"[]", "text/plain") == 415
        assert await stack.raw(b"[]", "application/json; charset=utf-8") == 200

    async def test_filters(self, stacks: Stacks, receiver: Receiver) -> None:
        stack = await stacks.start(configuration(receiver.url))
        await stack.post(posted("A", team="x"), posted("B", team="y"), posted("C", ended=True))
        assert sorted(await stack.names()) == ["A", "B"]
        assert await stack.names('?filter=team="x"') == ["A"]
        assert await stack.names('?filter=team="x"&filter=alertname="B"') == []
        assert await stack.names("?active=false") == []
        assert len(await stack.names("?active=true&silenced=false&inhibited=false")) == 2
        assert len(await stack.names("?receiver=ho.k")) == 2
        assert await stack.names("?receiver=hoo") == []
        assert await stack.get("/api/v2/alerts?filter=x") == (400, "bad matcher format: x")
        status, message = await stack.get("/api/v2/alerts?receiver=(")
        assert status == 400
        assert "expected an RE2 expression" in str(message)

    async def test_groups(self, stacks: Stacks, receiver: Receiver) -> None:
        stack = await stacks.start(configuration(receiver.url, wait="1m", group="team"))
        await stack.post(
            posted("B", team="y"), posted("A", team="x"), posted("C", team="x"), posted("D"),
            posted("E", team="z", ended=True),
        )  # fmt: skip

        async def shown(query: str = "") -> list[tuple[object, list[str]]]:
            status, groups = await stack.get(f"/api/v2/alerts/groups{query}")
            assert status == 200
            assert isinstance(groups, list)
            return [
                (group["labels"], [alert["labels"]["alertname"] for alert in group["alerts"]])
                for group in groups
            ]

        assert await shown() == [
            ({}, ["D"]), ({"team": "x"}, ["A", "C"]), ({"team": "y"}, ["B"]),
        ]  # fmt: skip
        assert await shown('?filter=team="x"') == [({"team": "x"}, ["A", "C"])]
        assert await shown("?receiver=other") == []

    async def test_receivers_status_and_silences(self, stacks: Stacks, receiver: Receiver) -> None:
        stack = await stacks.start(configuration(receiver.url))
        assert await stack.get("/api/v2/receivers") == (200, [{"name": "hook"}])
        assert await stack.get("/api/v2/silences") == (200, [])
        status, body = await stack.get("/api/v2/status")
        assert status == 200
        assert isinstance(body, dict)
        assert body["cluster"] == {"peers": [], "status": "disabled"}
        assert body["versionInfo"]["version"] == "0.25.0"
        assert load_config(body["config"]["original"], "shown").receivers[0].name == "hook"
