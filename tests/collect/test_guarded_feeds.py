"""All of the platform's WebSocket endpoints, with their tokens, against the simulated fleet."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import REGISTRY, generate_latest

from pipeline.clock import Clock
from pipeline.collect.collector import Collector, load_config
from pipeline.collect.targets_api import targets_json
from pipeline.ingest.ledger_feeds import FEEDS
from pipeline.local.fleet.clients import Limits
from pipeline.local.fleet.fleet import Fleet
from pipeline.local.fleet.model import FleetModel
from pipeline.local.fleet.server import FleetServer
from pipeline.local.fleet.tokens import Tokens, User
from pipeline.settings import ClockSettings, CollectSettings, KafkaSettings, Settings
from tests.collect.conftest import Start
from tests.collect.recording import RecordingProducer

SPEED = 20.0
TOKEN = Tokens(1).issue(User("watchkeeper", ("DEVELOPER",)))
COUNTERS = {
    "/ws/transactions": "ledger_transaction_value_total",
    "/ws/v11": "ledger_stream_messages_total",
}
GUARDED = tuple(COUNTERS)


@pytest.fixture
def clock() -> ClockSettings:
    return ClockSettings(speed=SPEED, origin=time.time())


@pytest.fixture
async def node(clock: ClockSettings) -> AsyncIterator[FleetServer]:
    """A fleet of one that shows out who is silent for as long as 60 s of its time take."""
    fleet = Fleet(FleetModel(1, 1), Clock(clock))
    server = FleetServer(fleet, 0, Tokens(1), Limits(silence_s=60 / SPEED))
    await server.open()
    tasks = [asyncio.create_task(fleet.run()), asyncio.create_task(server.run())]
    yield server
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await server.close()


@asynccontextmanager
async def following(
    producer: RecordingProducer, clock: ClockSettings, folder: Path, port: int, token: str
) -> AsyncIterator[Collector]:
    (folder / "token").write_text(token)
    config = folder / "feeds.yml"
    config.write_text(f"""\
websocket_configs:
  - job_name: ledger
    feeds: [{", ".join(FEEDS)}]
    authorization: {{credentials_file: token}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
""")
    collect = CollectSettings(host=False, feeds_config=str(config), batch_ms=1)
    settings = Settings(
        data=str(folder / "data"),
        kafka=KafkaSettings(partitions=1),
        collect=collect,
        clock=clock,
    )
    async with aiohttp.ClientSession() as session:
        collector = Collector(settings, load_config(settings), producer, session)
        task = asyncio.create_task(collector.run())
        try:
            yield collector
        finally:
            task.cancel()
            await asyncio.wait([task])


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what it looks at has no event
            await asyncio.sleep(0.02)


async def until_counted(
    producer: RecordingProducer, feed: str, name: str, least: float = 1
) -> None:
    await eventually(lambda: highest(producer, f"{feed}#state", name) >= least)


def failures(reason: str) -> float:
    name = "watchkeeper_collect_feed_failures_total"
    return REGISTRY.get_sample_value(name, {"reason": reason}) or 0.0


def names(producer: RecordingProducer, feed: str) -> set[str]:
    return {dict(labels)["__name__"] for _, samples in producer.frames(feed) for labels in samples}


def highest(producer: RecordingProducer, feed: str, name: str) -> float:
    return max(
        (
            value
            for _, samples in producer.frames(feed)
            for labels, value in samples.items()
            if dict(labels)["__name__"] == name and isinstance(value, float)
        ),
        default=0.0,
    )


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG):
        yield caplog


async def test_all_ten_endpoints_are_followed_and_the_token_is_shown_nowhere(
    producer: RecordingProducer,
    clock: ClockSettings,
    node: FleetServer,
    tmp_path: Path,
    lines: pytest.LogCaptureFixture,
) -> None:
    expected = {
        "/ws/metrics": "ledger_node_tps",
        "/api/v11/live/stream": "ledger_block_height",
        "/ws/dashboard": "ledger_transactions_total",
        "/ws/channels": "ledger_channel_tps",
        "/ws/validators": "ledger_validator_last_block",
        "/ws/consensus": "ledger_round_number",
        "/ws/network": "ledger_connection_up",
        "/ws/transactions/legacy#state": "ledger_transaction_value_total",
        "/ws/transactions": "ledger_session_users",
        "/ws/v11": "ledger_stream_value",
    }
    async with following(producer, clock, tmp_path, node.nodes[0].port, TOKEN) as collector:
        await eventually(
            lambda: all(name in names(producer, feed) for feed, name in expected.items())
        )
        for feed, name in COUNTERS.items():
            await until_counted(producer, feed, name)
        shown = targets_json(collector.statuses()) + collector.page.render().encode()
        healths = {status.watched.target.feed: status.health for status in collector.statuses()}

    assert healths == dict.fromkeys(FEEDS, "up")
    everything = shown + generate_latest(REGISTRY) + repr(producer.sent).encode()
    everything += repr(collector._feeds._running.keys()).encode() + lines.text.encode()
    for part in TOKEN.split("."):
        assert part.encode() not in everything


async def test_a_client_that_keeps_alive_is_not_closed_for_its_silence(
    producer: RecordingProducer, clock: ClockSettings, node: FleetServer, tmp_path: Path
) -> None:
    """Three times as long as the node puts up with silence."""
    async with following(producer, clock, tmp_path, node.nodes[0].port, TOKEN):
        age = "ledger_session_age_seconds"
        await eventually(lambda: highest(producer, "/ws/transactions", age) >= 180)
        for feed in GUARDED:
            assert highest(producer, f"{feed}#state", "websocket_connects_total") == 1
            assert highest(producer, f"{feed}#state", "websocket_errors_total") == 0


async def test_a_token_that_is_not_accepted_is_a_failure_of_its_feeds_only_and_shown_nowhere(
    producer: RecordingProducer,
    clock: ClockSettings,
    node: FleetServer,
    tmp_path: Path,
    lines: pytest.LogCaptureFixture,
) -> None:
    before = failures("refused")
    async with following(producer, clock, tmp_path, node.nodes[0].port, "planted.wrong.token") as c:
        for feed in GUARDED:
            await until_counted(producer, feed, "websocket_errors_total", 2)
        await producer.until("ledger_round_committed", 1)
        shown = targets_json(c.statuses())
        healths = {status.watched.target.feed: status.health for status in c.statuses()}

    assert failures("refused") >= before + 4
    assert healths == dict.fromkeys(FEEDS, "up") | dict.fromkeys(GUARDED, "down")
    assert b"planted.wrong" not in shown + lines.text.encode()


async def test_a_token_is_read_anew_for_each_connection(
    producer: RecordingProducer, clock: ClockSettings, node: FleetServer, tmp_path: Path
) -> None:
    async with following(producer, clock, tmp_path, node.nodes[0].port, "old.bad.token"):
        await until_counted(producer, "/ws/v11", "websocket_errors_total")
        (tmp_path / "token").unlink()
        before = failures("token")
        await eventually(lambda: failures("token") > before)
        (tmp_path / "token").write_text(TOKEN)
        await producer.until("websocket_up", 1, "/ws/transactions#state")
        await eventually(lambda: "ledger_stream_value" in names(producer, "/ws/v11"))


async def test_a_token_that_is_sent_back_in_an_error_is_not_shown(
    producer: RecordingProducer, clock: ClockSettings, start: Start, tmp_path: Path
) -> None:
    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        said = (await socket.receive_json()).get("token")
        await socket.send_json({"type": "error", "message": f"bad token {said}"})
        await socket.receive()
        return socket

    server = await start({"/ws/v11": talk})
    async with following(producer, clock, tmp_path, server.port, "planted.a.b") as collector:
        await producer.until("websocket_messages_total", 1, "/ws/v11#state")
        (status,) = (s for s in collector.statuses() if s.watched.target.feed == "/ws/v11")
        assert "bad token <secret>" in status.last_error
