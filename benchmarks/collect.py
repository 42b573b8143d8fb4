"""How many samples a second one core scrapes: 200 HTTP targets x 500 series to `telemetry`.

    python benchmarks/collect.py [--sink kafka|null] [--seconds 10] [--json]

The targets are another process, which serves prepared bodies whose values change. The collector is
the real one (`pipeline.collect`), with a scrape interval that keeps it busy but not late; its rate
is samples by CPU time of its own process. Layouts: `unchanged`; `changing`, where a tenth of the
series are new in each body; and `churn`, where all of them are. The ratio is to the time that
prometheus_client's parser takes for the same bodies, in this run.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import machine
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from pipeline.api.http import serve
from pipeline.brokers import connection_of
from pipeline.collect.collector import Collector, load_config
from pipeline.collect.metrics import FRAMES, SAMPLES
from pipeline.collect.producer import KafkaProducer, Producer
from pipeline.settings import CollectSettings, KafkaSettings, Settings

TARGETS, FAMILIES, PER_FAMILY, BODIES = 200, 50, 10, 20
LAYOUTS = {"unchanged": (0, 1000), "changing": (1, 4000), "churn": (PER_FAMILY, 8000)}
"""Of the ten series of a family, how many are new in each body; the scrape interval in ms."""
START_TIMEOUT = 60.0


class NullProducer:
    """Takes everything at once."""

    async def send(self, *_record: object) -> None:
        await asyncio.sleep(0)


def body(seed: int, new: int) -> bytes:
    """An exposition of 500 series in 50 families; seeded."""
    rng = random.Random(seed)  # noqa: S311  # numbers, no secrets
    lines = []
    for family in range(FAMILIES):
        name = f"node_subsystem{family}_operations_total"
        lines.append(f"# HELP {name} Operations of subsystem {family}.\n# TYPE {name} counter\n")
        for i in range(PER_FAMILY):
            run = f',run="{seed}"' if i < new else ""
            value = f"{rng.random() * 1e6:.2f}"
            lines.append(f'{name}{{device="sda{i}",mode="read",cpu="{i % 4}"{run}}} {value}\n')
    return "".join(lines).encode()


async def serve_targets(new: int) -> None:
    """Serve until the standard input ends; the port goes to standard output."""
    bodies = [body(seed, new) for seed in range(BODIES)]
    asked: dict[str, int] = {}

    async def metrics(request: web.Request) -> web.Response:
        turn = asked[request.path] = asked.get(request.path, -1) + 1
        return web.Response(body=bodies[turn % BODIES])

    app = web.Application()
    app.router.add_get("/t{number}", metrics)
    server = await serve(app, "127.0.0.1:0")
    print(server.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close()


async def measure(
    layout: str, settings: Settings, producer: Producer, seconds: float, folder: Path
) -> dict[str, float]:
    """Samples by CPU second of this process, and what came through."""
    new, interval_ms = LAYOUTS[layout]
    command = (sys.executable, __file__, "--serve", str(new))
    child = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        port = int(await child.stdout.readline())
        config = folder / f"{layout}.yml"
        config.write_text(
            "scrape_configs:\n"
            + "".join(
                f"- {{job_name: t{i}, metrics_path: /t{i}, scrape_interval: {interval_ms}ms, "
                f'static_configs: [{{targets: ["127.0.0.1:{port}"], '
                f'labels: {{instance: "node-{i}:9100"}}}}]}}\n'
                for i in range(TARGETS)
            )
        )
        collect = CollectSettings(host=False, scrape_config=str(config))
        kafka, brokers = settings.kafka, settings.brokers
        here = Settings(data=str(folder), collect=collect, kafka=kafka, brokers=brokers)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            collector = Collector(here, load_config(here), producer, session)
            task = asyncio.create_task(collector.run())
            await until_all_are_up(collector)
            await asyncio.sleep(2 * interval_ms / 1000)
            samples, frames = _count(SAMPLES), _count(FRAMES)
            cpu, wall = time.process_time(), time.perf_counter()
            await asyncio.sleep(seconds)
            samples, frames = _count(SAMPLES) - samples, _count(FRAMES) - frames
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            task.cancel()
            await asyncio.wait([task])
    finally:
        child.stdin.close()
        await child.wait()
    return {
        "samples_per_cpu_second": round(samples / cpu),
        "samples_per_second": round(samples / wall),
        "frames_per_second": round(frames / wall),
        "cpu_share": round(cpu / wall, 3),
    }


async def until_all_are_up(collector: Collector) -> None:
    """Return when every target's layout has been seen once."""
    async with asyncio.timeout(START_TIMEOUT):
        up = ["up"] * TARGETS
        while [status.health for status in collector.statuses()] != up:  # noqa: ASYNC110  # a poll
            await asyncio.sleep(0.2)


def _count(counter) -> float:  # type: ignore[no-untyped-def]  # of prometheus_client
    return sum(
        sample.value
        for metric in counter.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


def prometheus_client_rate() -> float:
    """Samples by CPU second of prometheus_client's parser, for parsing alone."""
    texts = [body(seed, 0).decode() for seed in range(BODIES)]
    began = time.process_time()
    samples = sum(
        len(family.samples) for text in texts for family in text_string_to_metric_families(text)
    )
    return round(samples / (time.process_time() - began))


async def measure_all(
    settings: Settings, producer: Producer, seconds: float
) -> dict[str, dict[str, float]]:
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for layout in LAYOUTS:
            print(f"measuring: {layout}", file=sys.stderr)
            results[layout] = await measure(layout, settings, producer, seconds, Path(folder))
    return results


async def with_kafka(seconds: float) -> dict[str, dict[str, float]]:
    """A broker of our own, gone afterwards."""
    # Only here: a run without Kafka needs no Java.
    from pipeline.local.kafka import LocalKafka
    from pipeline.local.ports import free_ports
    from pipeline.local.topics import ensure_topics

    with tempfile.TemporaryDirectory() as folder:
        ports = free_ports(2)
        kafka = LocalKafka(
            Path(folder), f"127.0.0.1:{ports[0]}", controller_port=ports[1], heap_mb=384
        )
        await asyncio.to_thread(kafka.start, lambda _line: None)
        settings = Settings(brokers=(kafka.address,), kafka=KafkaSettings())
        producer = KafkaProducer(connection_of(settings))
        try:
            await asyncio.to_thread(ensure_topics, settings)
            return await measure_all(settings, producer, seconds)
        finally:
            await producer.close()
            await asyncio.to_thread(kafka.stop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sink", choices=("kafka", "null"), default="kafka")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each layout")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(serve_targets(arguments.serve))
        return
    logging.disable(logging.WARNING)
    reference = prometheus_client_rate()
    gc.freeze()  # as the command does
    if arguments.sink == "kafka":
        layouts = asyncio.run(with_kafka(arguments.seconds))
    else:
        layouts = asyncio.run(measure_all(Settings(), NullProducer(), arguments.seconds))
    unchanged = layouts["unchanged"]["samples_per_cpu_second"]
    result = {
        "samples_per_second": unchanged,
        "changing_samples_per_second": layouts["changing"]["samples_per_cpu_second"],
        "churn_samples_per_second": layouts["churn"]["samples_per_cpu_second"],
        "prometheus_client_samples_per_second": reference,
        "ratio_to_prometheus_client": round(unchanged / reference, 1),
        "sink": arguments.sink,
        "layouts": layouts,
        "machine": machine.describe(),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"machine: {machine.describe()}")
    print(f"{TARGETS} targets x {FAMILIES * PER_FAMILY} series to {arguments.sink}")
    for layout, figures in layouts.items():
        rate = figures["samples_per_cpu_second"]
        print(f"{layout:10} {rate:>10,.0f} samples/s a core   {figures}")
    print(f"prometheus_client's parser alone: {reference:,.0f} samples/s a core")


if __name__ == "__main__":
    main()
