"""What is lost, doubled or unaccounted for while processes are killed under load.

    python benchmarks/chaos.py --kills 10            a few minutes
    python benchmarks/chaos.py --kills 100 --json
    python benchmarks/chaos.py --only kill:worker,freeze:kafka

100 HTTP targets of 500 series are scraped each second by the real collector and by a real
Prometheus; worker, dispatcher, Kafka and a supervisor that starts again what has ended. Every other
second one of 2,000 queues goes over its limit for 45 s. Meanwhile, at seeded random moments,
processes are killed (SIGKILL) or frozen (SIGSTOP) alone and in pairs, a second worker joins and
leaves, the dispatcher's and the collector's disk is full, the broker is away for a minute.

The receiver applies its own key: posts with an `Idempotency-Key` that it has seen are one. At the
end it holds what was told against the schedule, and follows every scrape through Kafka's topics
(chaos_account.py).

`doubled_by_disagreement` is the part of `doubled` in which the second episode is Prometheus': on a
machine that is too slow for its load the collector's scrapes time out where Prometheus' don't, and
the two, seeing different data, disagree (the backstop's word is then delivered, marked).

`recover_s` is the time until every process answers and the evaluation mark of every partition is
less than 3 s old: from the kill, the end of a freeze, the broker's start after its minute.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import machine
import msgspec
from aiohttp import web
from aiokafka import AIOKafkaConsumer, TopicPartition
from chaos_account import Told, alerts_account, frames_account, read_traces
from chaos_load import BREACH_S, JOB, LIMIT, QUEUE, TARGETS, TURN, breaches, instance_of
from chaos_parts import Part, SmallDisk, answers_at, supervise

from pipeline.alerts.referee import SOURCE_ANNOTATION
from pipeline.codec import CodecError, decode_signal
from pipeline.local.kafka_probe import answers
from pipeline.local.ports import free_ports
from pipeline.local.prometheus import find_prometheus, prometheus_command, write_config
from pipeline.local.topics import ensure_topics
from pipeline.model import Evaluated
from pipeline.settings import (
    CollectSettings,
    DispatchSettings,
    ExportSettings,
    KafkaSettings,
    LocalSettings,
    RulesSettings,
    Settings,
    WorkerSettings,
    environment_of,
)

FRESH_S, RECOVERY_LIMIT_S, START_LIMIT_S = 3.0, 180.0, 1800.0
WINDOW_S, SETTLE_S, AWAY_S, FULL_S = 30.0, 30.0, 60.0, 15.0
_LOOK_S = 0.2

_RULES = f"""\
groups:
  - name: chaos
    interval: 5s
    rules:
      - alert: QueueTooLong
        # Over a window: a scrape that fails, or a collector that is away, ends no episode.
        expr: max_over_time({QUEUE}[{WINDOW_S:.0f}s]) > {LIMIT}
        labels: {{severity: critical}}
      - alert: TurnsGoBack
        # Never fires; a global rule, so that the worker forwards each frame's turn.
        expr: sum({TURN}) < 0
"""
_ALERTMANAGER = """\
route:
  receiver: bench
  group_by: ['...']
  group_wait: 0s
  group_interval: 5s
  repeat_interval: 24h
receivers:
  - name: bench
    webhook_configs:
      - url: {url}
"""


class Receiver:
    """Takes notifications and remembers each alert of each post."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        app = web.Application()
        app.router.add_post("/", self._notify)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _notify(self, request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        for alert in (await request.json())["alerts"]:
            labels = alert["labels"]
            if labels["alertname"] == "QueueTooLong":
                place = labels["instance"], labels["queue"]
                source = alert["annotations"].get(SOURCE_ANNOTATION, "")
                self.told.append(Told(key, alert["status"], *place, time.time(), source))
        return web.Response()


class Marks:
    """The newest evaluation mark of each partition, read from `signals`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._times_ms = dict.fromkeys(range(settings.kafka.partitions), 0)

    def oldest(self) -> float:
        return min(self._times_ms.values()) / 1000

    async def follow(self) -> None:
        """Read until cancelled, whatever happens to the broker."""
        while True:
            with suppress(Exception):  # the broker is killed on purpose
                await self._read()
            await asyncio.sleep(0.5)

    async def _read(self) -> None:
        topic = self._settings.topic("signals")
        consumer = AIOKafkaConsumer(
            bootstrap_servers=list(self._settings.brokers), request_timeout_ms=5000
        )
        try:
            await consumer.start()
            consumer.assign([TopicPartition(topic, number) for number in self._times_ms])
            await consumer.seek_to_end()
            while True:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        self._note(record.value)
        finally:
            await consumer.stop()

    def _note(self, value: bytes) -> None:
        try:
            signal = decode_signal(value)
        except CodecError:
            return
        if isinstance(signal, Evaluated):
            newest = max(self._times_ms[signal.partition], signal.time_ms)
            self._times_ms[signal.partition] = newest


class Chaos:
    """One run: the parts, the load, and what is done to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.start = 0.0
        self.parts: dict[str, Part] = {}
        self.kills: list[float] = []
        """When the collector was killed."""
        self.events: list[dict[str, object]] = []
        self.left_out: list[str] = []
        self._rng = random.Random(seed)  # noqa: S311  # which process to kill is no secret
        self.receiver = Receiver()
        self.disk = SmallDisk(folder / "disk", 64)
        if not self.disk.mounted:
            self.left_out.append("full disk: mounting a small file system isn't allowed here")
        self._tasks: list[asyncio.Task[None]] = []
        self._load: subprocess.Popen[bytes] | None = None

    async def set_up(self) -> None:
        """Start everything, and return when it runs steadily."""
        url = await self.receiver.start()
        (self.folder / "alertmanager.yml").write_text(_ALERTMANAGER.format(url=url))
        (self.folder / "chaos.yml").write_text(_RULES)
        command = [str(Path(__file__).with_name("chaos_load.py")), str(self.seed)]
        self._load = subprocess.Popen(  # noqa: ASYNC220 - before anything runs
            [sys.executable, *command, str(self.folder / "served.json")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._load.stdout is not None
        port = int(self._load.stdout.readline())
        self.settings = self._settings(port)
        self._add("kafka", inner="java", healthy=lambda: answers(self.settings.brokers[0]))
        self._tasks.append(asyncio.create_task(supervise(self.parts)))
        await self._until(self.parts["kafka"].healthy, START_LIMIT_S)
        await asyncio.to_thread(ensure_topics, self.settings)
        for name in ("dispatch", "worker", "collect"):
            part = self._add(name, healthy=self._healthy(getattr(self.settings, name).listen))
            await self._until(part.healthy, START_LIMIT_S)  # the worker compiles first
        self._add_prometheus()
        self.marks = Marks(self.settings)
        self._tasks.append(asyncio.create_task(self.marks.follow()))
        if await self._recovered(time.monotonic(), START_LIMIT_S) is None:
            raise SystemExit(f"the stack didn't come up; see {self.folder}")
        assert self._load.stdin is not None
        self.start = time.time() + 1
        self._load.stdin.write(f"{self.start}\n".encode())
        self._load.stdin.flush()
        await asyncio.sleep(10)

    async def tear_down(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for part in reversed(list(self.parts.values())):
            await asyncio.to_thread(part.stop)
        self._end_load()
        with suppress(OSError):  # what was written there, for those who look at --keep
            shutil.copytree(self.disk.folder, self.folder / "disk-after", dirs_exist_ok=True)
        self.disk.close()
        await self.receiver.stop()

    def _end_load(self) -> None:
        """Let the targets write down what they served."""
        if self._load is not None and self._load.stdin is not None:
            self._load.stdin.close()
            self._load.wait()
            self._load = None

    def _settings(self, port: int) -> Settings:
        jobs = "".join(
            f"- {{job_name: {JOB}-{i}, metrics_path: /t{i}, scrape_interval: 1s, static_configs: "
            f'[{{targets: ["127.0.0.1:{port}"], labels: {{'
            f'instance: "{instance_of(i)}"}}}}]}}\n'
            for i in range(TARGETS)
        )
        scrape = self.folder / "scrape.yml"
        scrape.write_text(f"scrape_configs:\n{jobs}")
        kafka, controller, *ports = free_ports(7)
        collect, worker, dispatch, export, prometheus = (f"127.0.0.1:{port}" for port in ports)
        return Settings(
            data=str(self.folder / "data"),
            brokers=(f"127.0.0.1:{kafka}",),
            kafka=KafkaSettings(controller_port=controller, heap_mb=512),
            collect=CollectSettings(listen=collect, scrape_config=str(scrape), host=False),
            rules=RulesSettings(
                files=(str(self.folder / "chaos.yml"),), evaluation_interval=5.0, prometheus="2"
            ),
            worker=WorkerSettings(listen=worker),
            dispatch=DispatchSettings(
                listen=dispatch, config_file=str(self.folder / "alertmanager.yml")
            ),
            export=ExportSettings(listen=export),
            local=LocalSettings(prometheus_listen=prometheus),
        )

    def _environment(self, name: str) -> dict[str, str]:
        outside = {k: v for k, v in os.environ.items() if not k.startswith("WATCHKEEPER_")}
        here = environment_of(self.settings)
        # The parts whose disk is to be full keep what they write on the small one.
        if name in ("dispatch", "collect") and self.disk.mounted:
            here["WATCHKEEPER_DATA"] = str(self.disk.folder / name)
        return outside | here

    def _add(self, name: str, *, healthy: Callable[[], bool], inner: str = "") -> Part:
        command = [sys.executable, "-m", "pipeline", name]
        log = self.folder / f"{name}.log"
        part = Part(name, command, log, self._environment(name), healthy, inner)
        self.parts[name] = part
        return part

    def _add_prometheus(self) -> None:
        program = find_prometheus()
        if program is None:
            self.left_out.append("prometheus: not installed")
            return
        config = write_config(self.settings, self.folder)
        command = prometheus_command(self.settings, program, config)
        healthy = answers_at(f"{self.settings.local.prometheus_listen}/-/ready")
        log = self.folder / "prometheus.log"
        self.parts["prometheus"] = Part("prometheus", command, log, dict(os.environ), healthy)

    def _healthy(self, listen: str) -> Callable[[], bool]:
        return answers_at(f"{listen}/-/healthy")

    async def _until(self, true: Callable[[], bool], limit: float) -> None:
        deadline = time.monotonic() + limit
        while not await asyncio.to_thread(true):
            if time.monotonic() > deadline:
                raise SystemExit(f"not ready in time; see {self.folder}")
            await asyncio.sleep(_LOOK_S)

    async def _recovered(self, since: float, limit: float) -> float | None:
        """Seconds from `since` (monotonic) until all is well again; None: not within `limit`."""
        while time.monotonic() - since < limit:
            if time.time() - self.marks.oldest() < FRESH_S:
                checks = [asyncio.to_thread(part.healthy) for part in self.parts.values()]
                if all(await asyncio.gather(*checks)):
                    return time.monotonic() - since
            await asyncio.sleep(_LOOK_S)
        return None

    # -- what is done

    async def kill(self, *names: str) -> float:
        if "collect" in names:
            self.kills.append(time.time())
        for name in names:
            self.parts[name].kill()
        return time.monotonic()

    async def freeze(self, *names: str) -> float:
        for name in names:
            self.parts[name].freeze()
        await asyncio.sleep(self._rng.uniform(2.0, 12.0))
        for name in names:
            self.parts[name].thaw()
        return time.monotonic()

    async def away(self, *_names: str) -> float:
        """The broker is gone for a minute."""
        kafka = self.parts["kafka"]
        kafka.held = True
        kafka.kill()
        await asyncio.sleep(AWAY_S)
        kafka.held = False
        return time.monotonic()

    async def full(self, *_names: str) -> float:
        """The disk of the dispatcher and of the collector is full for a while."""
        self.disk.fill()
        await asyncio.sleep(FULL_S)
        self.disk.free()
        return time.monotonic()

    async def join(self, *_names: str) -> float:
        """A second worker comes, and goes after a while, by a kill or by itself."""
        (port,) = free_ports(1)
        listen = f"127.0.0.1:{port}"
        environment = self._environment("worker") | {"WATCHKEEPER_WORKER_LISTEN": listen}
        command = [sys.executable, "-m", "pipeline", "worker"]
        log = self.folder / "worker-2.log"
        second = Part("worker-2", command, log, environment, self._healthy(listen))
        await self._until(second.healthy, START_LIMIT_S)
        await asyncio.sleep(self._rng.uniform(5.0, 20.0))
        since = time.monotonic()
        if self._rng.random() < 0.5:
            second.held = True
            second.kill()
        await asyncio.to_thread(second.stop)
        return since

    def schedule(self, kills: int) -> list[tuple[str, tuple[str, ...]]]:
        """What is done, in what order."""
        names = sorted(self.parts)
        rare = {"away": max(1, kills // 25), "join": max(1, kills // 12)}
        if self.disk.mounted:
            rare["full"] = max(1, kills // 15)
        plan: list[tuple[str, tuple[str, ...]]] = [
            (what, ()) for what, times in rare.items() for _ in range(times)
        ]
        while len(plan) < kills:
            what = "kill" if self._rng.random() < 0.6 else "freeze"
            plan.append((what, tuple(self._rng.sample(names, 1 + (self._rng.random() < 0.35)))))
        self._rng.shuffle(plan)
        return plan[:kills]

    async def run(self, plan: list[tuple[str, tuple[str, ...]]]) -> None:
        deeds: dict[str, Callable[..., Awaitable[float]]] = {
            "kill": self.kill, "freeze": self.freeze, "away": self.away,
            "full": self.full, "join": self.join,
        }  # fmt: skip
        for number, (what, names) in enumerate(plan):
            await asyncio.sleep(self._rng.uniform(1.0, 6.0))
            began = time.time()
            since = await deeds[what](*names)
            took = await self._recovered(since, RECOVERY_LIMIT_S)
            event: dict[str, object] = {
                "at_s": round(began - self.start, 1),
                "what": " ".join((what, *names)),
                "recover_s": None if took is None else round(took, 2),
            }
            self.events.append(event)
            print(f"# {number + 1}/{len(plan)} {event}", file=sys.stderr, flush=True)

    async def account(self) -> dict[str, object]:
        """Let what is under way end, and hold it against the record."""
        until = time.time()
        await asyncio.sleep(BREACH_S + WINDOW_S + SETTLE_S)
        last = time.time() - 10
        told = list(self.receiver.told)
        await asyncio.to_thread((self.folder / "told.json").write_bytes, msgspec.json.encode(told))
        exits = {name: list(part.exits) for name, part in self.parts.items() if part.exits}
        kafka = self.parts["kafka"]
        for name in reversed([name for name in self.parts if name != "kafka"]):
            await asyncio.to_thread(self.parts[name].stop)
        self._end_load()
        await self._until(kafka.healthy, START_LIMIT_S)
        traces = await read_traces(self.settings, LIMIT)
        recovery = sorted(
            float(str(event["recover_s"]))
            for event in self.events
            if event["recover_s"] is not None
        )
        alerts = alerts_account(breaches(self.seed, self.start), until, traces, told)
        frames = frames_account(self.folder / "served.json", traces, self.kills, last)
        return {
            "kills": len(self.events),
            "lost": alerts["lost"],
            "doubled": alerts["doubled"],
            "unaccounted": frames["unaccounted"],
            "recover_s": recovery[-1] if recovery else None,
            "recover_p50_s": recovery[len(recovery) // 2] if recovery else None,
            "not_recovered": len(self.events) - len(recovery),
            "alerts": alerts,
            "frames": frames,
            "events": self.events,
            "exits": exits,
            "left_out": self.left_out,
            "seed": self.seed,
        }


def parse_plan(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """`kill:worker+kafka,away` as deeds.

    >>> parse_plan("kill:worker+kafka,away")
    [('kill', ('worker', 'kafka')), ('away', ())]
    """
    plan = []
    for deed in text.split(","):
        what, _, names = deed.partition(":")
        plan.append((what, tuple(names.split("+")) if names else ()))
    return plan


async def measure(kills: int, seed: int, only: str, folder: Path) -> dict[str, object]:
    chaos = Chaos(folder, seed)
    try:
        await chaos.set_up()
        await chaos.run(parse_plan(only) if only else chaos.schedule(kills))
        return await chaos.account()
    finally:
        await chaos.tear_down()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="deeds instead of random ones")
    parser.add_argument("--keep", type=Path, help="work in this new folder and leave it there")
    chosen = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # its broker is killed on purpose
    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="watchkeeper-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    # What was started and mounted is cleared away, also when this is told to end.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    try:
        result = asyncio.run(measure(chosen.kills, chosen.seed, chosen.only, folder.resolve()))
    finally:
        if chosen.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    result["machine"] = machine.describe()
    if chosen.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:16} {value}")


if __name__ == "__main__":
    main()
