"""Good targets beside all kinds of hostile ones: they are watched as if they were alone."""

import asyncio
import itertools
from pathlib import Path

from aiohttp import web

from pipeline.ingest.prometheus_text import TextParser
from pipeline.model import Target
from pipeline.settings import CollectSettings
from tests.collect import hostile
from tests.collect.conftest import Start
from tests.collect.hostile import CONTINUED, TEXT, Talker, frame
from tests.collect.recording import RecordingProducer
from tests.collect.test_hostile_endpoints import GZIPPED, MAX_BODY, OK, collecting
from tests.collect.test_hostile_sockets import HEADER_200_MB

INTERVAL_MS = 1000
ROUNDS = 6
CHUNK = bytes(64 * 1024)
ANSWERS = {
    "/html": hostile.says(OK(b"<html>")),
    "/half": hostile.says(OK(b'a 1\nb{x="y')),
    "/big": hostile.says(OK(hostile.BIG)),
    "/bomb": hostile.says(GZIPPED),
    "/twice": hostile.says(OK(b"a 1\na 2\n")),
    "/future": hostile.says(OK(b"a 1 4102444800000\n")),
    "/500": hostile.says(OK(b"", "500 Oh no")),
    "/loop": hostile.says(OK(b"", "302 Found", "Location: /loop")),
    "/short": hostile.says(OK(b"a 1\n" * 9)[:-20]),
    "/cut": hostile.cuts,
    "/endless": hostile.pours,
    "/drip": hostile.drips,
    "/hang": hostile.hangs_after(b"HTTP/1.1 200 OK\r\n"),
}
TALKERS = (
    Talker(then="close"),
    Talker(then="abort"),
    Talker(b"\xff" * 100),
    Talker(HEADER_200_MB, *[CHUNK] * 3000),
    Talker(frame(0x01, CHUNK), *[frame(CONTINUED, CHUNK)] * 400),
    Talker(*[frame(TEXT, b"[" * 900_000)] * 5),
    Talker(*[frame(TEXT, b'{"tps":"x"}') * 50] * 1000),
    Talker(*[frame(TEXT, b'{"tps":1}') * 50] * 1000),
)


async def good_metrics(_request: web.Request) -> web.Response:
    return web.Response(text="good 1\n")


def slots(producer: RecordingProducer, target: Target) -> list[int]:
    """Which of its due times each scrape of a target was for (`pacing.next_due_ms`)."""
    phase = target.id % INTERVAL_MS
    return [
        (sent.time_ms - phase) // INTERVAL_MS
        for sent, samples in producer.frames(target.feed)
        if sent.target_id == target.id and ("good", 1.0) in by_name(samples)
    ]


def by_name(
    samples: dict[tuple[tuple[str, str], ...], float | str],
) -> set[tuple[str, float | str]]:
    return {(dict(labels)["__name__"], value) for labels, value in samples.items()}


async def test_two_good_targets_have_a_sample_at_each_interval(
    producer: RecordingProducer, start: Start, tmp_path: Path
) -> None:
    parser = TextParser()
    for _ in range(2):
        parser.parse(b"good 1\n")  # what it needs is compiled at its first use
    good = [await start({"/metrics": good_metrics}) for _ in range(2)]
    sockets = [await start({"/ws/metrics": talker.handle}) for talker in TALKERS]
    targets = [Target("good", f"127.0.0.1:{server.port}", "/metrics") for server in good]
    async with hostile.http_server(ANSWERS) as port:
        jobs = "".join(
            f"  - {{job_name: '{path}', metrics_path: {path}, scrape_interval: 1s, "
            f"scrape_timeout: 1s, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
            for path in ANSWERS
        )
        probes = "".join(
            f"  - {{job_name: hostile, path: {path}, interval: 1s, "
            f"static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}\n"
            for path in ("/hang", "/endless", "/html")
        )
        (tmp_path / "scrape.yml").write_text(f"""\
scrape_configs:
  - job_name: good
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs: [{{targets: [{", ".join(target.instance for target in targets)}]}}]
{jobs}""")
        (tmp_path / "feeds.yml").write_text(f"""\
websocket_configs:
  - job_name: hostile
    feeds: [/ws/metrics]
    static_configs: [{{targets: [{", ".join(f"127.0.0.1:{each.port}" for each in sockets)}]}}]
health_configs:
{probes}""")
        collect = CollectSettings(
            host=False,
            scrape_config=str(tmp_path / "scrape.yml"),
            feeds_config=str(tmp_path / "feeds.yml"),
            batch_ms=1,
            max_body_bytes=MAX_BODY,
        )
        async with collecting(producer, tmp_path, collect), asyncio.timeout(120):
            while any(len(slots(producer, target)) < ROUNDS for target in targets):
                producer.changed.clear()
                await producer.changed.wait()

    for target in targets:
        seen = slots(producer, target)
        assert {later - earlier for earlier, later in itertools.pairwise(seen)} == {1}
