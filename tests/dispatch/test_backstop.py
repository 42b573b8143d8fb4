"""A real Prometheus posting to `/backstop`, beside a worker whose words come by Kafka."""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer

from pipeline.codec import alert_key, encode_alert, encode_mark
from pipeline.local.ports import free_ports
from pipeline.model import Alert, Evaluated, labels_from
from pipeline.settings import Settings
from tests.conftest import ProgramFinder
from tests.dispatch.conftest import Process, Receiver, StartProcess, configuration

pytestmark = pytest.mark.parts

INTERVAL, LIFETIME = 1, 4.0
RULES = f"""
groups:
  - name: g
    interval: {INTERVAL}s
    rules:
      - alert: Down
        expr: broken == 1
        annotations: {{summary: "{{{{ $labels.instance }}}} is broken"}}
"""


class Node:
    """What is watched; Prometheus scrapes it."""

    def __init__(self) -> None:
        self.broken = False
        self.address = ""

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=f"broken {int(self.broken)}\n")


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    it = Node()
    app = web.Application()
    app.router.add_get("/metrics", it.metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield it
    await runner.cleanup()


class Worker:
    """Writes what the worker would: marks while it is there, and its word on the alert."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, node: Node) -> None:
        self._settings = settings
        self._producer = producer
        self._node = node
        self._since_ms = 0
        self.there = True

    async def marks(self) -> None:
        partitions = self._settings.kafka.partitions
        while True:
            if self.there:
                now_ms = int(time.time() * 1000)
                for partition in range(partitions):
                    mark = encode_mark(Evaluated("w", partition, now_ms))
                    await self._producer.send_and_wait(
                        self._settings.topic("signals"), mark, partition=0
                    )
            await asyncio.sleep(0.2)

    async def say(self, *, firing: bool) -> None:
        now_ms = int(time.time() * 1000)
        self._since_ms = self._since_ms if firing and self._since_ms else now_ms
        alert = Alert(
            labels=labels_from({"alertname": "Down", "job": "fleet"} | self.labels()),
            annotations=(("summary", f"{self._node.address} is broken"),),
            state="firing" if firing else "inactive",
            time_ms=now_ms,
            active_at_ms=self._since_ms,
            starts_at_ms=self._since_ms,
            ends_at_ms=now_ms + 240_000 if firing else now_ms,
            value=1.0,
            sample_time_ms=now_ms,
            group="rules.yml;g",
        )
        await self._producer.send_and_wait(
            self._settings.topic("alerts"), encode_alert(alert), key=alert_key(alert)
        )

    def labels(self) -> dict[str, str]:
        return {"instance": self._node.address}


@pytest.fixture
async def worker(kafka_settings: Settings, node: Node) -> AsyncIterator[Worker]:
    producer = AIOKafkaProducer(bootstrap_servers=list(kafka_settings.brokers))
    await producer.start()
    it = Worker(kafka_settings, producer, node)
    marks = asyncio.create_task(it.marks())
    yield it
    marks.cancel()
    await asyncio.gather(marks, return_exceptions=True)
    await producer.stop()


@pytest.fixture
async def process(
    new_process: StartProcess,
    receiver: Receiver,
    kafka_settings: Settings,
    tmp_path: Path,
    session: aiohttp.ClientSession,
) -> Process:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    it = new_process(
        configuration(receiver.url, interval="200ms"),
        kafka_settings.brokers[0],
        kafka_settings.kafka.topic_prefix,
        rules=(str(rules),),
        mark_lifetime=LIFETIME,
    )
    await it.start(session)
    return it


@pytest.fixture
async def prometheus(
    program: ProgramFinder, tmp_path: Path, process: Process, node: Node
) -> AsyncIterator[str]:
    (tmp_path / "prometheus.yml").write_text(f"""
rule_files: [rules.yml]
scrape_configs:
  - {{job_name: fleet, scrape_interval: 500ms, static_configs: [{{targets: ["{node.address}"]}}]}}
alerting:
  alertmanagers:
    - {{path_prefix: /backstop, static_configs: [{{targets: ["{process.address}"]}}]}}
""")
    address = f"127.0.0.1:{free_ports(1)[0]}"
    it = await asyncio.create_subprocess_exec(
        program("prometheus"),
        f"--config.file={tmp_path}/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/tsdb",
        f"--web.listen-address={address}",
        # Else it repeats itself once a minute.
        "--rules.alert.resend-delay=1s",
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    yield f"http://{address}"
    it.send_signal(signal.SIGTERM)
    await it.wait()


async def eventually(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not await condition():  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"not within 60 s: {what}")


async def test_on_call_sees_one_episode_whoever_saw_it_first(
    process: Process,
    prometheus: str,
    worker: Worker,
    node: Node,
    receiver: Receiver,
    session: aiohttp.ClientSession,
) -> None:
    async def prometheus_fires() -> bool:
        try:
            async with session.get(f"{prometheus}/api/v1/alerts") as response:
                return bool((await response.json())["data"]["alerts"])
        except aiohttp.ClientError:
            return False

    async def prometheus_is_quiet() -> bool:
        return not await prometheus_fires()

    async def count(series: str) -> float:
        return await process.count(session, f"watchkeeper_{series}")

    firing, resolved = [("Down", "firing")], [("Down", "resolved")]

    # The worker is first; Prometheus agrees, and later echoes or says the end too.
    await eventually(lambda: _at_most(count('mark_age_seconds{partition="3"}'), 3.0), "marks")
    node.broken = True
    await worker.say(firing=True)
    await receiver.until(lambda: receiver.told() == [firing])
    await eventually(lambda: _at_least(count('alerts_decided_total{by="agreement"}'), 2), "agrees")
    node.broken = False
    await worker.say(firing=False)
    await receiver.until(lambda: receiver.told() == [firing, resolved])
    await eventually(prometheus_is_quiet, "Prometheus sees the end")

    # The worker is gone: the backstop decides.
    worker.there = False
    await eventually(lambda: _at_least(count("backstop_takeovers_total"), 4), "takeover")
    node.broken = True
    await receiver.until(lambda: receiver.told()[2:] == [firing], within=40)
    assert receiver.posts[2][1]["alerts"][0]["annotations"]["watchkeeper_source"] == "backstop"

    # It is back, and adopts the episode: the notification stays the only one.
    worker.there = True
    await eventually(lambda: _at_most(count('mark_age_seconds{partition="0"}'), 3.0), "it is back")
    await worker.say(firing=True)
    before = await count('alerts_decided_total{by="agreement"}')
    await eventually(
        lambda: _at_least(count('alerts_decided_total{by="agreement"}'), before + 2), "agrees again"
    )
    node.broken = False
    await worker.say(firing=False)
    await receiver.until(lambda: receiver.told()[3:] == [resolved])
    await eventually(prometheus_is_quiet, "Prometheus sees the end again")
    assert await count("backstop_disagreements_total") == 0

    # The worker is there and misses it: told after two intervals, marked and counted.
    node.broken = True
    await receiver.until(lambda: receiver.told()[4:] == [firing], within=40)
    assert await count("backstop_disagreements_total") == 1
    node.broken = False
    await receiver.until(lambda: receiver.told()[5:] == [resolved], within=40)

    labels = [body["alerts"][0]["labels"] for _, body in receiver.posts]
    assert labels == [{"alertname": "Down", "job": "fleet"} | worker.labels()] * 6
    assert len(receiver.taken()) == 6


async def _at_least(value: Awaitable[float], least: float) -> bool:
    return await value >= least


async def _at_most(value: Awaitable[float], most: float) -> bool:
    return 0 < await value <= most


async def test_new_database_has_what_fires_now_and_no_history(
    new_process: StartProcess,
    worker: Worker,
    receiver: Receiver,
    kafka_settings: Settings,
    session: aiohttp.ClientSession,
) -> None:
    for firing in (True, False, True, False, True):
        await worker.say(firing=firing)
        await asyncio.sleep(0.002)  # reports of one alert differ in their time
    for _ in range(2):
        it = new_process(
            configuration(receiver.url, interval="100ms"),
            kafka_settings.brokers[0],
            kafka_settings.kafka.topic_prefix,
        )
        receiver.posts.clear()
        await it.start(session)
        await receiver.until(lambda: receiver.told() == [[("Down", "firing")]])
        assert await it.count(session, 'watchkeeper_alerts_received_total{source="worker"}') == 1
        async with session.get(f"{it.url}/api/v2/alerts") as response:
            alerts = msgspec.json.decode(await response.read())
        assert [alert["labels"]["alertname"] for alert in alerts] == ["Down"]
        assert receiver.told() == [[("Down", "firing")]]
        it.ensure_stopped()
