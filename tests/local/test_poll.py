from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from msgspec.structs import replace

from pipeline.api.http import Server, serve
from pipeline.local.poll import Poller
from pipeline.local.receiver import Inbox
from pipeline.local.snapshot import ShownAlert, TargetGroup
from pipeline.settings import (
    ClockSettings,
    CollectSettings,
    DispatchSettings,
    Settings,
    WorkerSettings,
)

TARGETS = """{"status":"success","data":{"activeTargets":[
 {"labels":{"job":"j","instance":"i","node":"n"},"scrapeUrl":"http://i/q/metrics?a=b",
  "health":"down","lastError":"no"}],"droppedTargets":[]}}"""
WORKER_ALERTS = """{"status":"success","data":{"alerts":[
 {"labels":{"alertname":"Late","instance":"i"},"annotations":{},"state":"pending",
  "activeAt":"1970-01-01T00:00:00Z","value":"1","firesAt":"2100-01-01T00:00:00Z"},
 {"labels":{"alertname":"Now"},"annotations":{},"state":"firing",
  "activeAt":"1970-01-01T00:00:00Z","value":"1"}]}}"""
DISPATCH_ALERTS = """[{"labels":{"alertname":"Now","severity":"high"},
  "startsAt":"2000-01-01T00:00:00.5Z","status":{"state":"active"}},
 {"labels":{"alertname":"WatchkeeperHeartbeat","severity":"none"},
  "startsAt":"2000-01-01T00:00:00Z","status":{"state":"active"}}]"""


@pytest.fixture
async def stack() -> AsyncIterator[Settings]:
    """What collect, worker and dispatch would answer, all on one port."""
    counter = itertools.count(100, 100)

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text=f"watchkeeper_samples_processed_total {next(counter)}\n")

    app = web.Application()
    for path, body in (
        ("/api/v1/targets", TARGETS),
        ("/api/v1/alerts", WORKER_ALERTS),
        ("/api/v2/alerts", DISPATCH_ALERTS),
    ):
        app.router.add_get(path, _answer(body))
    app.router.add_get("/metrics", metrics)
    server: Server = await serve(app, "127.0.0.1:0")
    listen = f"127.0.0.1:{server.port}"
    yield Settings(
        collect=CollectSettings(listen=listen),
        worker=WorkerSettings(listen=listen),
        dispatch=DispatchSettings(listen="127.0.0.1:1"),
        clock=ClockSettings(),
    )
    await server.close()


def _answer(body: str):  # type: ignore[no-untyped-def]  # an aiohttp handler
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(text=body, content_type="application/json")

    return handle


async def test_a_look_collects_what_every_part_tells(stack: Settings):
    seconds = itertools.count(0.0, 2.0)
    async with aiohttp.ClientSession() as session:
        poller = Poller(stack, session, Inbox(), ["no x"], [("a", "b")], now=lambda: next(seconds))
        first = await poller.look([])
        second = await poller.look([])
    assert first.samples_per_second is None
    assert second.samples_per_second == 50.0
    assert second.targets == (TargetGroup("j", "/q/metrics", 0, 1),)
    assert second.down == ("n",)
    [pending] = second.pending
    assert (pending.name, pending.where) == ("Late", "i")
    assert pending.seconds == pytest.approx(4_102_444_800 - second.event_time_s)
    assert second.firing == ()  # the dispatcher doesn't answer
    assert (second.missing, second.hints) == (("no x",), (("a", "b"),))


async def test_firing_alerts_are_those_of_the_dispatcher_that_are_for_people(stack: Settings):
    settings = replace(stack, dispatch=DispatchSettings(listen=stack.worker.listen))
    async with aiohttp.ClientSession() as session:
        look = await Poller(settings, session, Inbox(), [], []).look([])
    since = look.event_time_s - 946_684_800.5
    assert look.firing == (ShownAlert("Now", "", "high", since),)


async def test_an_answer_that_is_not_understood_is_left_out_and_logged(
    stack: Settings, caplog: pytest.LogCaptureFixture
):
    app = web.Application()
    app.router.add_get("/api/v1/targets", _answer('{"data": 1}'))
    server = await serve(app, "127.0.0.1:0")
    odd = replace(stack, collect=CollectSettings(listen=f"127.0.0.1:{server.port}"))
    async with aiohttp.ClientSession() as session:
        look = await Poller(odd, session, Inbox(), [], []).look([])
    await server.close()
    assert look.targets == ()
    assert "/api/v1/targets error=Expected `object`, got `int`" in caplog.text
