"""The collector against real servers: what they say arrives, and what they don't say too."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec
import pytest
from aiohttp import web

from pipeline.api.http import Server, serve
from pipeline.collect.collector import Collector, load_config
from pipeline.collect.feeds import FeedClient
from pipeline.settings import CollectSettings, KafkaSettings, Settings
from tests.collect.conftest import Start
from tests.collect.recording import RecordingProducer
from tests.conftest import ProgramFinder

SAMPLES = Path(__file__).parents[1] / "ingest" / "samples"


@asynccontextmanager
async def collecting(
    producer: RecordingProducer, settings: CollectSettings
) -> AsyncIterator[Collector]:
    with TemporaryDirectory() as data:
        everything = Settings(data=data, kafka=KafkaSettings(partitions=2), collect=settings)
        async with aiohttp.ClientSession() as session:
            collector = Collector(everything, load_config(everything), producer, session)
            task = asyncio.create_task(collector.run())
            try:
                yield collector
            finally:
                task.cancel()
                await asyncio.wait([task])


def scrape_config(tmp_path: Path, port: int, more: str = "") -> CollectSettings:
    path = tmp_path / "scrape.yml"
    path.write_text(f"""\
scrape_configs:
  - job_name: job
    scrape_interval: 100ms
    file_sd_configs: [{{files: [targets.json]}}]
    {more}
""")
    (tmp_path / "targets.json").write_text(
        json.dumps([{"targets": [f"127.0.0.1:{port}"], "labels": {"node": "n1"}}])
    )
    return CollectSettings(host=False, scrape_config=str(path), batch_ms=1)


def by_name(samples: dict[tuple[tuple[str, str], ...], float | str]) -> dict[str, float | str]:
    return {dict(labels)["__name__"]: value for labels, value in samples.items()}


async def test_a_scrape_arrives_with_its_labels(
    tmp_path: Path, producer: RecordingProducer, start: Start
) -> None:
    asked: list[web.Request] = []

    async def metrics(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(text='# TYPE a counter\na{x="1"} 7\n')

    server = await start({"/metrics": metrics})
    async with collecting(producer, scrape_config(tmp_path, server.port)) as collector:
        samples = await producer.until("a", 7)
        (status,) = collector.statuses()

    labels = next(labels for labels in samples if dict(labels)["__name__"] == "a")
    assert dict(labels) == {
        "__name__": "a",
        "instance": f"127.0.0.1:{server.port}",
        "job": "job",
        "node": "n1",
        "x": "1",
    }
    assert by_name(samples)["up"] == 1
    assert by_name(samples)["scrape_samples_scraped"] == 1
    assert status.health == "up"
    assert asked[0].headers["X-Prometheus-Scrape-Timeout-Seconds"] == "0.1"
    assert "version=0.0.4" in asked[0].headers["Accept"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (web.Response(status=500), "server returned HTTP status 500"),
        (web.Response(text="<html>"), "line 1: expected a metric's name, got '<html>'"),
        (web.Response(text="a 1\n" * 1000), "expected at most 2000 bytes, got more"),
        (None, "no complete answer within 0.1 s"),
    ],
)
async def test_a_scrape_that_fails_makes_its_series_stale_and_up_0(
    tmp_path: Path,
    producer: RecordingProducer,
    start: Start,
    answer: web.Response | None,
    error: str,
) -> None:
    broken = asyncio.Event()

    async def metrics(_request: web.Request) -> web.Response:
        if not broken.is_set():
            return web.Response(text="a 7\n")
        if answer is None:
            await asyncio.sleep(1)
            return web.Response()
        return web.Response(status=answer.status, body=answer.body)

    server = await start({"/metrics": metrics})
    settings = msgspec.structs.replace(scrape_config(tmp_path, server.port), max_body_bytes=2000)
    async with collecting(producer, settings) as collector:
        await producer.until("a", 7)
        broken.set()
        samples = await producer.until("up", 0)
        (status,) = collector.statuses()

    assert by_name(samples)["a"] == "stale"
    assert status.health == "down"
    assert error in status.last_error


async def test_a_node_that_is_down_is_up_0_and_a_removed_target_ends(
    tmp_path: Path, producer: RecordingProducer, start: Start
) -> None:
    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(text="a 7\n")

    server = await start({"/metrics": metrics})
    async with collecting(producer, scrape_config(tmp_path, server.port)) as collector:
        await producer.until("a", 7)
        await server.close()
        await producer.until("up", 0)
        (tmp_path / "targets.json").write_text("[]")
        ended = await producer.until("up", "stale")

        assert set(by_name(ended).values()) == {"stale"}
        assert collector.statuses() == []


def feeds_config(tmp_path: Path, port: int, feed: str) -> CollectSettings:
    path = tmp_path / "feeds.yml"
    path.write_text(f"""\
websocket_configs:
  - job_name: ledger
    feeds: [{feed}]
    static_configs: [{{targets: ["127.0.0.1:{port}"], labels: {{node: n1}}}}]
health_configs:
  - job_name: ledger
    interval: 100ms
    static_configs: [{{targets: ["127.0.0.1:{port}"], labels: {{node: n1}}}}]
""")
    return CollectSettings(host=False, feeds_config=str(path), batch_ms=1)


class Dashboard:
    """A node's dashboard feed: what it was sent, and what it says. It closes once, on `leave`."""

    def __init__(self) -> None:
        self.subscriptions: list[str] = []
        self.messages = [
            (SAMPLES / f"ws_dashboard.{name}.json").read_text()
            for name in ("subscribed_ack", "metrics", "performance", "nodes")
        ]
        self.leave = asyncio.Event()

    async def talk(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.subscriptions.append(await socket.receive_str())
        for message in self.messages:
            await socket.send_str(message)
        if len(self.subscriptions) == 1:
            await self.leave.wait()
        else:
            await socket.receive()
        await socket.close()
        return socket


async def health(_request: web.Request) -> web.Response:
    return web.Response(status=503, body=(SAMPLES / "q_health.down_503.json").read_bytes())


async def test_a_feed_s_messages_arrive_and_end_when_it_closes(
    tmp_path: Path, producer: RecordingProducer, start: Start
) -> None:
    dashboard = Dashboard()
    dashboard.messages.append("rubbish")
    server = await start({"/ws/dashboard": dashboard.talk, "/q/health": health})
    settings = feeds_config(tmp_path, server.port, "/ws/dashboard")
    async with collecting(producer, settings) as collector:
        metrics = await producer.until("ledger_transactions_total", 91223344)
        performance = await producer.until("ledger_latency_average_seconds", 0.0047)
        state = await producer.until("websocket_errors_total", 1)
        (client,) = [w for w in collector._feeds.watchers if isinstance(w, FeedClient)]
        assert client.state.messages == 5
        dashboard.leave.set()
        ended = await producer.until("ledger_transactions_total", "stale")
        again = await producer.until("websocket_connects_total", 2)

    assert by_name(state) == {
        "websocket_up": 1,
        "websocket_connects_total": 1,
        "websocket_messages_total": 5,
        "websocket_errors_total": 1,
    }
    assert all(dict(labels)["feed"] == "/ws/dashboard" for labels in state)
    assert not by_name(metrics).keys() & by_name(performance).keys()
    assert by_name(ended)["ledger_latency_seconds"] == "stale"
    assert by_name(again)["websocket_errors_total"] >= 2  # type: ignore[operator]  # a number
    assert json.loads(dashboard.subscriptions[0]) == {
        "action": "subscribe",
        "channels": ["metrics", "nodes", "performance"],
    }


async def test_a_feed_that_can_t_be_reached_still_says_so_every_second(
    tmp_path: Path, producer: RecordingProducer, start: Start
) -> None:
    server = await start({})
    settings = feeds_config(tmp_path, server.port, "/ws/metrics")
    async with collecting(producer, settings):
        first = by_name(await producer.until("websocket_up", 0, "/ws/metrics#state"))
        await producer.until("websocket_errors_total", 2)

    assert first["websocket_connects_total"] == 0
    assert producer.frames("/ws/metrics") == []


async def test_a_health_endpoint_that_answers_503_tells_which_check_is_down(
    tmp_path: Path, producer: RecordingProducer, start: Start
) -> None:
    server = await start({"/q/health": health})
    settings = feeds_config(tmp_path, server.port, "/ws/metrics")
    async with collecting(producer, settings):
        samples = await producer.until("health_up", 0, "/q/health")
        await server.close()
        gone = await producer.until("health_check_up", "stale", "/q/health")

    checks = {
        dict(labels)["check"]: value for labels, value in samples.items() if "check" in dict(labels)
    }
    assert checks["oracle-service"] == 0
    assert checks["alive"] == 1
    assert by_name(gone)["health_up"] == 0


async def page(server: Server, path: str) -> bytes:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.host}:{server.port}{path}") as response,
    ):
        assert response.status == 200
        return await response.read()


async def test_the_fleet_page_passes_promtool_and_has_the_targets_labels(
    tmp_path: Path, producer: RecordingProducer, start: Start, program: ProgramFinder
) -> None:
    promtool = program("promtool")
    node = await start({"/ws/dashboard": Dashboard().talk, "/q/health": health})
    settings = feeds_config(tmp_path, node.port, "/ws/dashboard")
    settings = msgspec.structs.replace(settings, host=True, host_interval=0.1)
    settings = msgspec.structs.replace(settings, node_exporter="127.0.0.1:9")
    async with collecting(producer, settings) as collector:
        await producer.until("ledger_peer_healthy", 1)
        await producer.until("health_up", 0)
        await producer.until("websocket_up", 1)
        await producer.until("up", 1, "host")
        server = await serve(collector.app(), "127.0.0.1:0")
        try:
            text = (await page(server, "/metrics/fleet")).decode()
            targets = json.loads(await page(server, "/api/v1/targets"))
            own = (await page(server, "/metrics")).decode()
        finally:
            await server.close()

    checked = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    complaints = [
        line
        for line in (checked.stdout + checked.stderr).splitlines()
        if not (line.startswith("node_memory_") and "camelCase" in line)  # node_exporter's names
    ]
    assert complaints == []
    line = next(line for line in text.splitlines() if line.startswith("ledger_transactions_total{"))
    assert line == (
        f'ledger_transactions_total{{instance="127.0.0.1:{node.port}",job="ledger",node="n1"}} '
        "91223344.0"
    )
    assert "# TYPE ledger_latency_seconds summary\n" in text
    assert 'node_memory_MemTotal_bytes{instance="' in text
    assert "watchkeeper_samples_total" in own
    active = {target["scrapePool"]: target for target in targets["data"]["activeTargets"]}
    assert targets["status"] == "success"
    assert active["ledger"]["labels"]["node"] == "n1"
    assert active["node"]["health"] == "up"
