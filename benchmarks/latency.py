"""Time from a sample's timestamp to the HTTP request at a receiver, under load.

    python benchmarks/latency.py             2 minutes of 1,000 frames/s, 20 new alerts/s
    python benchmarks/latency.py --long      10 minutes
    python benchmarks/latency.py --json

200 targets of 500 series send five frames a second each through the collector's own batcher. One
worker scores every sample and evaluates the public host rules and one rule that is broken on
purpose: 20 times a second a random queue of a random target goes over its limit; half of them go
back 5 s later. Every alert is a group of its own (`group_by: ['...']`, no group_wait). Real Kafka,
worker and dispatcher, on this machine. Targets are introduced over the first 10 s; the alerts of
the first 20 s warm the stack up and are not counted.

Stages, by the time at which Kafka appended the record: sample -> telemetry -> alerts -> request.
A canary process that only sleeps 5 ms at a time shows how long the machine itself stood still.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import subprocess
import sys
import time
from pathlib import Path

import machine
import msgspec
import numpy as np
from aiohttp import web
from hosts import Hosts
from stack import HOST_RULES, Process, Stack, running_stack, shared_folder
from topic import records_of

from pipeline.brokers import connection_of
from pipeline.clock import Clock
from pipeline.codec import CodecError, decode_alert, decode_telemetry
from pipeline.collect.batcher import Batcher
from pipeline.collect.frames import Built
from pipeline.collect.producer import KafkaProducer
from pipeline.model import FrameBatch
from pipeline.settings import Settings

TARGETS, FRAMES_A_SECOND, ALERTS_A_SECOND = 200, 1000, 20
INTRODUCE_S, WARM_UP_S, RESOLVE_AFTER_S = 10, 20, 5
LIMIT, OVER = 1000.0, 5000.0

_RULES = f"""\
groups:
  - name: bench
    rules:
      - alert: QueueTooLong
        expr: application_queue_depth > {LIMIT}
        labels: {{severity: critical}}
"""
_ALERTMANAGER = """\
route:
  receiver: bench
  group_by: ['...']
  group_wait: 0s
  group_interval: 10s
  repeat_interval: 24h
receivers:
  - name: bench
    webhook_configs:
      - url: {url}
"""
_CANARY = """\
import sys, time
worst, late = 0.0, []
end = time.monotonic() + float(sys.argv[1])
while (start := time.monotonic()) < end:
    time.sleep(0.005)
    late.append(time.monotonic() - start - 0.005)
late.sort()
print(late[int(len(late) * 0.99)] * 1000, late[-1] * 1000)
"""


class Breaches:
    """What was broken, when, and when the receiver heard of it."""

    def __init__(self) -> None:
        self.sampled: dict[tuple[str, str], int] = {}
        self.arrived: dict[tuple[str, str], float] = {}
        self.repeated = 0

    async def notify(self, request: web.Request) -> web.Response:
        now = time.time()
        document = await request.json()
        for alert in document["alerts"]:
            place = (alert["labels"].get("instance", ""), alert["labels"].get("queue", ""))
            if alert["status"] == "firing" and place in self.sampled:
                if place in self.arrived:
                    self.repeated += 1
                else:
                    self.arrived[place] = now * 1000
        return web.Response()


async def offer_load(
    settings: Settings, hosts: Hosts, breaches: Breaches, seconds: float, rate: int
) -> tuple[float, int]:
    """Send frames at the set rate for `seconds`; the rate that was reached, and frames sent."""
    clock = Clock(settings.clock)
    producer = KafkaProducer(connection_of(settings))
    batcher = Batcher(producer, settings, clock, "bench")
    sending = asyncio.create_task(batcher.run())
    rng = np.random.default_rng(5)
    queues = [i for i, c in enumerate(hosts.columns) if c.name == "application_queue_depth"]
    places = [(t, q) for t in range(TARGETS) for q in queues]
    order = iter(rng.permutation(len(places)).tolist())
    offset = np.zeros((TARGETS, len(hosts.columns)))
    back: list[tuple[float, int, int]] = []
    known: set[int] = set()
    start = time.monotonic()
    broken = sent = 0
    values = hosts.next_second()
    while (elapsed := time.monotonic() - start) < seconds:
        due = int(TARGETS * min(elapsed / INTRODUCE_S, 1.0))  # each target's first frame
        due += int(max(elapsed - INTRODUCE_S, 0.0) * rate)
        while sent < due:
            target = sent % TARGETS
            if target == 0:
                values = hosts.next_second()
            while back and back[0][0] <= elapsed:
                _, t, q = heapq.heappop(back)
                offset[t, q] = 0.0
            fresh = []
            while broken < (elapsed - INTRODUCE_S) * ALERTS_A_SECOND:
                t, q = places[next(order)]
                offset[t, q] = OVER
                broken += 1
                fresh.append((t, q))
                if broken % 2:
                    heapq.heappush(back, (elapsed + RESOLVE_AFTER_S, t, q))
            # A breach is in its target's next frame: let that be this one.
            for t, q in fresh or [(target, -1)]:
                now_ms = clock.now_ms()
                dictionary = hosts.dictionaries[t]
                if q >= 0:
                    instance = dictionary.target.instance
                    breaches.sampled[instance, hosts.columns[q].labels["queue"]] = now_ms
                frame = hosts.frame(t, now_ms, values[t] + offset[t])
                new = () if t in known else (dictionary,)
                known.add(t)
                batcher.put(dictionary.target, Built((frame,), new, 0))
                sent += 1
        await asyncio.sleep(0.001)
    reached = (sent - TARGETS) / (time.monotonic() - start - INTRODUCE_S)
    await asyncio.sleep(3)
    await batcher.flush()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await producer.close()
    return reached, sent


async def appended(settings: Settings, hosts: Hosts) -> tuple[dict[str, float], dict[str, float]]:
    """When Kafka appended each target's frame, and each alert's first firing report."""
    names = {d.target.id: d.target.instance for d in hosts.dictionaries}
    frames: dict[str, float] = {}
    alerts: dict[str, float] = {}
    async for record in records_of(settings, "alerts", 1):
        alert = decode_alert(record.value)
        labels = dict(alert.labels)
        if alert.state == "firing" and "queue" in labels:
            alerts.setdefault(f"{labels['instance']} {labels['queue']}", record.timestamp)
    async for record in records_of(settings, "telemetry", settings.kafka.partitions):
        try:
            batch = decode_telemetry(record.value)
        except CodecError:
            continue
        if isinstance(batch, FrameBatch):
            for target, at in zip(batch.targets.tolist(), batch.times_ms.tolist(), strict=True):
                frames[f"{names[target]} {at}"] = record.timestamp
    return frames, alerts


def quantiles(values: list[float]) -> dict[str, float]:
    array = np.array(values)
    return {
        "p50_ms": round(float(np.quantile(array, 0.5)), 2),
        "p99_ms": round(float(np.quantile(array, 0.99)), 2),
        "max_ms": round(float(array.max()), 2),
    }


async def measure(stack: Stack, seconds: float, rate: int) -> dict[str, object]:
    breaches = Breaches()
    app = web.Application()
    app.router.add_post("/", breaches.notify)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    worker, dispatcher = start_processes(stack, url)
    hosts = Hosts(TARGETS)
    canary = subprocess.Popen(  # noqa: ASYNC220 - it is started before the load
        [sys.executable, "-c", _CANARY, str(seconds)], stdout=subprocess.PIPE, text=True
    )
    before = [worker.cpu_seconds(), dispatcher.cpu_seconds()]
    reached, sent = await offer_load(stack.settings, hosts, breaches, seconds, rate)
    used = [worker.cpu_seconds() - before[0], dispatcher.cpu_seconds() - before[1]]
    canary_p99, canary_max = map(float, (canary.communicate()[0] or "0 0").split())
    frames, alerts = await appended(stack.settings, hosts)
    await runner.cleanup()
    return report(breaches, frames, alerts) | {
        "frames_per_second": round(reached),
        "frames": sent,
        "worker_cpu_share": round(used[0] / seconds, 3),
        "dispatcher_cpu_share": round(used[1] / seconds, 3),
        "canary_p99_ms": round(canary_p99, 2),
        "canary_max_ms": round(canary_max, 2),
    }


def start_processes(stack: Stack, url: str) -> tuple[Process, Process]:
    folder = Path(stack.folder)
    (folder / "bench.yml").write_text(_RULES, encoding="utf-8")
    config = folder / "alertmanager.yml"
    config.write_text(_ALERTMANAGER.format(url=url), encoding="utf-8")
    rules = f"{shared_folder() / HOST_RULES},{folder / 'bench.yml'}"
    worker = stack.start("worker", WATCHKEEPER_RULES_FILES=rules)
    dispatcher = stack.start("dispatch", WATCHKEEPER_DISPATCH_CONFIG_FILE=str(config))
    worker.wait_ready()
    dispatcher.wait_ready()
    return worker, dispatcher


def report(
    breaches: Breaches, frames: dict[str, float], alerts: dict[str, float]
) -> dict[str, object]:
    """Quantiles over the breaches after the warm-up, in all and by stage."""
    first = min(breaches.sampled.values()) + (WARM_UP_S - INTRODUCE_S) * 1000
    counted = {place: at for place, at in breaches.sampled.items() if at >= first}
    whole, to_log, to_alert, to_request = [], [], [], []
    for place, at in counted.items():
        arrived = breaches.arrived.get(place)
        if arrived is None:
            continue
        whole.append(arrived - at)
        logged = frames.get(f"{place[0]} {at}")
        told = alerts.get(f"{place[0]} {place[1]}")
        if logged is not None and told is not None:
            to_log.append(logged - at)
            to_alert.append(told - logged)
            to_request.append(arrived - told)
    if not to_request:
        raise SystemExit(
            f"nothing to measure: {len(counted)} breaches, {len(breaches.arrived)} notifications, "
            f"{len(alerts)} alerts in Kafka"
        )
    return {
        **quantiles(whole),
        "measured": len(whole),
        "missing": len(counted) - len(whole),
        "repeated": breaches.repeated,
        "sample_to_telemetry": quantiles(to_log),
        "telemetry_to_alert": quantiles(to_alert),
        "alert_to_request": quantiles(to_request),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--long", action="store_true", help="10 minutes")
    parser.add_argument("--seconds", type=float, default=122.0)
    parser.add_argument("--rate", type=int, default=FRAMES_A_SECOND, help="frames a second")
    parser.add_argument("--batch-ms", type=float, help="the collector's setting")
    chosen = parser.parse_args()
    seconds = 600.0 if chosen.long else chosen.seconds
    with running_stack() as stack:
        if chosen.batch_ms is not None:
            collect = msgspec.structs.replace(stack.settings.collect, batch_ms=chosen.batch_ms)
            stack.settings = msgspec.structs.replace(stack.settings, collect=collect)
        result = asyncio.run(measure(stack, seconds, chosen.rate))
    result["machine"] = machine.describe()
    if chosen.json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:24} {value}")


if __name__ == "__main__":
    main()
