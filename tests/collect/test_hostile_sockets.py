"""Sockets that do everything wrong: each is a failure or a refused message, counted by reason."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from pipeline.clock import Clock
from pipeline.collect import feeds
from pipeline.collect.batcher import Batcher
from pipeline.collect.collector import load_config
from pipeline.collect.discovery import Discovery
from pipeline.collect.feeds import FeedClient
from pipeline.collect.outlet import Outlet
from pipeline.settings import CollectSettings, Settings
from tests.collect import hostile
from tests.collect.conftest import Handler, Start
from tests.collect.hostile import BINARY, CLOSE, CONTINUED, TEXT, Talker, frame
from tests.collect.recording import RecordingProducer
from tests.collect.test_hostile_endpoints import collecting

GOOD = {"tps": 1, "cpu": 2.5}
MESSAGE_200_MB = 200 * 1000 * 1000
HEADER_200_MB = bytes([TEXT, 127]) + MESSAGE_200_MB.to_bytes(8, "big")


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for what takes up to half a minute."""
    monkeypatch.setattr(feeds, "CONNECT_TIMEOUT", 1.0)
    monkeypatch.setattr(feeds, "HEARTBEAT", 1.0)


def following(folder: Path, port: int, feed: str = "/ws/metrics") -> CollectSettings:
    config = folder / "feeds.yml"
    config.write_text(f"""\
websocket_configs:
  - job_name: hostile
    feeds: [{feed}]
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
""")
    return CollectSettings(host=False, feeds_config=str(config), batch_ms=1)


def failures(reason: str) -> float:
    name = "watchkeeper_collect_feed_failures_total"
    return REGISTRY.get_sample_value(name, {"reason": reason}) or 0.0


def refused(reason: str) -> float:
    name = "watchkeeper_collect_rejected_total"
    return REGISTRY.get_sample_value(name, {"reason": reason}) or 0.0


@contextlib.asynccontextmanager
async def watched(
    producer: RecordingProducer, folder: Path, port: int, feed: str = "/ws/metrics"
) -> AsyncIterator[FeedClient]:
    async with collecting(producer, folder, following(folder, port, feed)) as collector:
        await collector.discover()
        (client,) = collector._feeds.watchers
        yield client


async def until_it_failed(client: FeedClient) -> str:
    """What the status says once the feed has gone down."""
    async with asyncio.timeout(20):
        while client.status.health != "down":  # noqa: ASYNC110 - a status has no event
            await asyncio.sleep(0.01)
    return client.status.last_error


async def answers_404(_request: web.Request) -> web.Response:
    return web.Response(status=404)


async def answers_html(_request: web.Request) -> web.Response:
    return web.Response(text="<html>", content_type="text/html")


async def hangs(_request: web.Request) -> web.Response:
    await asyncio.sleep(3600)
    return web.Response()


@pytest.mark.parametrize(
    ("handler", "reason", "error"),
    [
        (answers_404, "connection", "404"),
        (answers_html, "connection", "200"),
        (hangs, "connection", "no connection within 1 s"),
        (Talker(then="close").handle, "closed", "closed by the other side with code 1000"),
        (Talker(then="abort").handle, "closed", "closed by the other side with code 1006"),
        (Talker(b"\x81", then="abort").handle, "closed", "1006"),
        (Talker(then="hang").handle, "silent", "no pong within 0.5 s of a ping"),
        (Talker(b"\xff" * 100).handle, "protocol", "reserved bits"),
        (Talker(b"\xc1\x00").handle, "protocol", "reserved bits"),
        (Talker(b"\x83\x00").handle, "protocol", "opcode"),
        (Talker(b"HTTP/1.1 200 OK\r\n\r\n").handle, "protocol", ""),
        (Talker(frame(TEXT, b"\xff\xfe")).handle, "protocol", "UTF-8"),
        (Talker(frame(CLOSE, b"\x00\x01")).handle, "protocol", "close code"),
        (Talker(frame(CONTINUED, b"x")).handle, "protocol", "Continuation"),
        (Talker(frame(CLOSE, (1008).to_bytes(2, "big"))).handle, "refused", "code 1008"),
        (Talker(HEADER_200_MB).handle, "too_large", "200000000 exceeds limit 1048576"),
    ],
    ids=[
        "status_404", "html", "hang_in_handshake", "close", "cut", "half_a_frame", "hang",
        "rubbish", "compressed", "unknown_opcode", "http", "not_utf8", "close_code", "continued",
        "policy", "too_large",
    ],
)  # fmt: skip
async def test_a_socket_that_can_t_be_followed_is_down_and_counted_by_reason(
    producer: RecordingProducer,
    start: Start,
    tmp_path: Path,
    handler: Handler,
    reason: str,
    error: str,
) -> None:
    server = await start({"/ws/metrics": handler})
    before = failures(reason)
    async with watched(producer, tmp_path, server.port) as client:
        said = await until_it_failed(client)
        assert failures(reason) > before
        assert client.state.errors > 0

    assert error in said
    assert producer.frames("/ws/metrics") == []


async def test_a_socket_that_is_alive_but_says_nothing_is_silent(
    producer: RecordingProducer, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "SILENCE_TIMEOUT", 2.0)
    server = await start({"/ws/metrics": Talker(then="listen").handle})
    async with watched(producer, tmp_path, server.port) as client:
        assert await until_it_failed(client) == "no message within 2 s"


async def test_a_feed_that_may_be_quiet_is_asked_by_pings_only(
    producer: RecordingProducer, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "SILENCE_TIMEOUT", 0.1)
    server = await start({"/ws/consensus": Talker(then="listen").handle})
    async with watched(producer, tmp_path, server.port, "/ws/consensus") as client:
        for _ in range(3):  # three seconds and more, in which three pings were answered
            frames = len(producer.frames("/ws/consensus#state"))
            async with asyncio.timeout(10):
                while len(producer.frames("/ws/consensus#state")) == frames:
                    producer.changed.clear()
                    await producer.changed.wait()
        assert client.status.health == "up"
        assert (client.state.connects, client.state.errors) == (1, 0)


@pytest.mark.parametrize("fragmented", [False, True])
async def test_of_a_message_of_200_mb_no_more_is_taken_than_the_limit(
    producer: RecordingProducer, start: Start, tmp_path: Path, fragmented: bool
) -> None:
    chunk = bytes(64 * 1024)
    if fragmented:
        first, more = frame(0x01, chunk), frame(CONTINUED, chunk)
        talker = Talker(*[first, *[more] * 400], repeat=8)
    else:
        talker = Talker(*[HEADER_200_MB, *[chunk] * 3000])
    server = await start({"/ws/metrics": talker.handle})
    before = failures("too_large")
    async with watched(producer, tmp_path, server.port) as client:
        await until_it_failed(client)
        assert failures("too_large") > before
        # What the sockets' buffers hold came to be written too, for each connection.
        assert talker.written < talker.connections * 16 * hostile.MEGABYTE


@pytest.mark.parametrize(
    ("opcode", "payload", "reason"),
    [
        (BINARY, b"\x00\x01\x02", "not_json"),
        (BINARY, b"\xff" * 1000, "not_json"),
        (TEXT, b"PONG", "not_json"),
        (TEXT, b"", "not_json"),
        (TEXT, b'{"tps":', "not_json"),
        (TEXT, b"[" * 1_000_000, "not_json"),
        (TEXT, b'{"data":' * 100_000, "not_json"),
        (TEXT, b'{"tps":NaN}', "not_json"),
        (TEXT, b'{"tps":-Infinity}', "not_json"),
        (TEXT, b'{"tps":1e999}', "not_json"),
        (TEXT, b'{"tps":' + b"9" * 4000 + b"}", "field"),
        (TEXT, b'{"tps":' + b"9" * 900_000 + b"}", "not_json"),
        (TEXT, b'{"tps":"many"}', "field"),
        (TEXT, b'{"tps":true}', "field"),
        (TEXT, b'{"tps":{}}', "field"),
        (TEXT, b"null", "shape"),
        (TEXT, b'{"data":[[]]}', "shape"),
        (TEXT, b'{"data":[' + b"{}," * 300_000 + b"{}]}", "too_many"),
        (TEXT, b'{"type":"error","message":"no"}', "refused"),
    ],
)
async def test_a_message_that_can_t_be_read_is_counted_and_the_next_one_is_read(
    producer: RecordingProducer,
    start: Start,
    tmp_path: Path,
    opcode: int,
    payload: bytes,
    reason: str,
) -> None:
    good = frame(TEXT, json.dumps(GOOD).encode())
    talker = Talker(frame(opcode, payload), good, then="listen")
    server = await start({"/ws/metrics": talker.handle})
    before = refused(reason)
    async with watched(producer, tmp_path, server.port) as client:
        samples = await producer.until("ledger_node_cpu_percent", 2.5)
        assert (client.state.connects, client.state.messages, client.state.errors) == (1, 2, 1)

    assert refused(reason) == before + 1
    assert {dict(labels)["__name__"] for labels in samples} == {
        "ledger_node_tps",
        "ledger_node_cpu_percent",
    }


async def test_missing_fields_are_no_samples(
    producer: RecordingProducer, start: Start, tmp_path: Path
) -> None:
    parts = [frame(TEXT, text) for text in (b"{}", b'{"tps":null}', b'{"x":1}', b'{"tps":3}')]
    server = await start({"/ws/metrics": Talker(*parts, then="listen").handle})
    async with watched(producer, tmp_path, server.port) as client:
        samples = await producer.until("ledger_node_tps", 3)
        assert (client.state.messages, client.state.errors) == (4, 0)

    assert len(samples) == 1
    assert len(producer.frames("/ws/metrics")) == 1


class StandingClock(Clock):
    """A clock at which no time passes."""

    def now(self) -> float:
        return 1_767_604_530.0


async def test_messages_faster_than_time_are_left_out_once_they_are_a_second_ahead(
    producer: RecordingProducer, tmp_path: Path
) -> None:
    settings = Settings(data=str(tmp_path), collect=following(tmp_path, 1))
    clock = StandingClock(settings.clock)
    (spec,) = Discovery(load_config(settings)).look().feeds
    async with aiohttp.ClientSession() as session:
        batcher = Batcher(producer, settings, clock, "c")
        outlet = Outlet(batcher, "websocket")
        client = FeedClient(spec, session, outlet, clock, settings.collect)
        before = refused("too_fast")
        for _ in range(feeds.MOST_AHEAD_MS + 100):
            client._message('{"tps":1}')
        batcher._spool.close()

    assert refused("too_fast") == before + 98
    assert client._builder.last_ms == clock.now_ms() + feeds.MOST_AHEAD_MS + 1


async def test_series_of_a_feed_are_limited_in_number(
    producer: RecordingProducer, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MAX_SERIES", 50)
    parts = [
        frame(TEXT, json.dumps({"validator": f"v{number}", "votingPower": number}).encode())
        for number in range(feeds.MAX_SERIES + 5)
    ]
    server = await start({"/ws/validators": Talker(*parts, then="listen").handle})
    before = refused("series_limit")
    async with watched(producer, tmp_path, server.port, "/ws/validators") as client:
        async with asyncio.timeout(30):
            while client.state.messages < len(parts):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)

    assert refused("series_limit") == before + 5
