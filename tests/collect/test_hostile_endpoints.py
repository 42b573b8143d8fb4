"""Endpoints that do everything wrong: each has its outcome, and the others don't notice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import REGISTRY

from pipeline.collect.collector import Collector, load_config
from pipeline.settings import CollectSettings, KafkaSettings, Settings
from tests.collect import hostile
from tests.collect.recording import RecordingProducer

MAX_BODY = 12 * hostile.MEGABYTE
FUTURE = 4_102_444_800_000  # 2100-01-01T00:00:00Z
OK = hostile.http
LONGER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na 1\n"
GZIPPED = OK(hostile.BOMB, "200 OK", "Content-Encoding: gzip")


@asynccontextmanager
async def collecting(
    producer: RecordingProducer, folder: Path, collect: CollectSettings
) -> AsyncIterator[Collector]:
    settings = Settings(
        data=str(folder / "data"), kafka=KafkaSettings(partitions=1), collect=collect
    )
    async with aiohttp.ClientSession() as session:
        collector = Collector(settings, load_config(settings), producer, session)
        task = asyncio.create_task(collector.run())
        try:
            yield collector
        finally:
            task.cancel()
            await asyncio.wait([task])


def scraping(folder: Path, port: int, path: str, timeout: str = "30s") -> CollectSettings:
    config = folder / "scrape.yml"
    config.write_text(f"""\
scrape_configs:
  - job_name: hostile
    metrics_path: {path}
    scrape_interval: {timeout}
    scrape_timeout: {timeout}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
""")
    return CollectSettings(
        host=False, scrape_config=str(config), batch_ms=1, max_body_bytes=MAX_BODY
    )


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def scraped(
    producer: RecordingProducer, folder: Path, answer: hostile.Answer, limit: str = "30s"
) -> tuple[dict[str, float | str], str]:
    """One scrape: the samples that came of it, by name, and the error."""
    async with (
        hostile.http_server({"/x": answer, "/loop": answer}) as port,
        collecting(producer, folder, scraping(folder, port, "/x", limit)) as collector,
    ):
        await collector.discover()
        (scraper,) = collector._scrapes.watchers
        await scraper.scrape()
        await producer_has(producer, "/x")
        error = scraper.status.last_error
    (_, samples), *_ = producer.frames("/x")
    return {dict(labels)["__name__"]: value for labels, value in samples.items()}, error


async def producer_has(producer: RecordingProducer, feed: str) -> None:
    async with asyncio.timeout(30):
        while not producer.frames(feed):
            producer.changed.clear()
            await producer.changed.wait()


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (hostile.says(OK(b"<html><body>Welcome</body></html>")), "malformed", "line 1: expected"),
        (hostile.says(OK(b'a 1\nb{x="y')), "malformed", "line 2: expected"),
        (hostile.says(OK(b"a 1\nb")), "malformed", "line 2: expected a value"),
        (hostile.says(OK(b"\xff\xfe\x00" * 100)), "malformed", "line 1: expected"),
        (hostile.says(OK(b"a 1\n" * 9)[:-20]), "body", ""),
        (hostile.says(LONGER), "connection", ""),
        (hostile.says(OK(b"a 1\n").replace(b"gth: 4", b"gth: x")), "connection", ""),
        (hostile.says(OK(b"", "500 Oh no")), "status", "HTTP status 500"),
        (hostile.says(OK(b"", "302 Found", "Location: /x")), "redirect", ""),
        (hostile.says(OK(b"", "302 Found", "Location: ftp://x/y")), "connection", ""),
        (hostile.says(OK(b"rubbish", "200 OK", "Content-Encoding: gzip")), "body", ""),
        (hostile.says(GZIPPED), "too_large", "at most"),
        (hostile.says(OK(b"", "200 OK", "X: " + "y" * 100_000)), "connection", ""),
        (hostile.says(b"\x00\x01rubbish\r\n\r\n"), "connection", ""),
        (hostile.says(b""), "connection", ""),
        (hostile.cuts, "connection", ""),
        (hostile.pours, "too_large", f"expected at most {MAX_BODY} bytes"),
    ],
    ids=[
        "html", "half_a_line", "half_a_sample", "bytes", "shorter_than_announced",
        "longer_than_announced", "length_no_number", "status_500", "redirect_loop",
        "redirect_elsewhere", "no_gzip", "gzip_bomb", "long_header", "no_http", "nothing", "cut",
        "endless",
    ],
)  # fmt: skip
async def test_what_can_t_be_scraped_is_down_and_counted_by_reason(
    producer: RecordingProducer, tmp_path: Path, answer: hostile.Answer, outcome: str, error: str
) -> None:
    before = counted("watchkeeper_scrapes_total", outcome=outcome)

    samples, said = await scraped(producer, tmp_path, answer)

    assert samples["up"] == 0
    assert samples["scrape_samples_scraped"] == 0
    assert len(samples) == 5
    assert counted("watchkeeper_scrapes_total", outcome=outcome) == before + 1
    assert said
    assert error in said
    assert len(said) < 400


@pytest.mark.parametrize(
    "answer",
    [
        hostile.drips,
        hostile.hangs_after(b""),
        hostile.hangs_after(b"HTTP/1.1 200 OK\r\n"),
        hostile.hangs_after(OK(b"a 1\n" * 9)[:-20]),
    ],
    ids=["slow_drip", "hang", "hang_in_headers", "hang_after_headers"],
)
async def test_a_scrape_ends_with_its_time(
    producer: RecordingProducer, tmp_path: Path, answer: hostile.Answer
) -> None:
    before = counted("watchkeeper_scrapes_total", outcome="timeout")

    samples, error = await scraped(producer, tmp_path, answer, "300ms")

    assert samples["up"] == 0
    assert error == "no complete answer within 0.3 s"
    assert counted("watchkeeper_scrapes_total", outcome="timeout") > before


async def test_ten_megabytes_of_metrics_are_read(
    producer: RecordingProducer, tmp_path: Path
) -> None:
    assert 10_000_000 < len(hostile.BIG) < MAX_BODY

    samples, error = await scraped(producer, tmp_path, hostile.says(OK(hostile.BIG)))

    assert error == ""
    assert samples["up"] == 1
    assert samples["scrape_samples_scraped"] == hostile.BIG_SERIES
    assert samples["scrape_series_added"] == hostile.BIG_SERIES


async def test_of_a_series_given_twice_the_first_counts(
    producer: RecordingProducer, tmp_path: Path
) -> None:
    before = counted("watchkeeper_collect_rejected_total", reason="duplicate_series")

    samples, _ = await scraped(producer, tmp_path, hostile.says(OK(b"a 1\na 2\nb 3\n")))

    assert (samples["up"], samples["a"], samples["b"]) == (1, 1, 3)
    assert counted("watchkeeper_collect_rejected_total", reason="duplicate_series") == before + 1


async def test_values_that_are_no_numbers_are_samples_like_others(
    producer: RecordingProducer, tmp_path: Path
) -> None:
    samples, _ = await scraped(
        producer, tmp_path, hostile.says(OK(b"a NaN\nb +Inf\nc -Inf\nd 1e999\ne -0\n"))
    )

    assert samples["up"] == 1
    assert repr([samples[name] for name in "abcde"]) == "[nan, inf, -inf, inf, -0.0]"


async def test_a_sample_from_the_future_is_left_out_as_in_prometheus(
    producer: RecordingProducer, tmp_path: Path
) -> None:
    before = counted("watchkeeper_collect_rejected_total", reason="future_sample")

    samples, error = await scraped(
        producer, tmp_path, hostile.says(OK(f"a 1 {FUTURE}\nb 2\n".encode()))
    )

    assert (samples["up"], samples["b"], error) == (1, 2, "")
    assert "a" not in samples
    assert producer.frames("/x#own-time") == []
    assert counted("watchkeeper_collect_rejected_total", reason="future_sample") == before + 1


HEALTHY = b'{"status":"UP","checks":[{"name":"Redis","status":"UP"}]}'


@pytest.mark.parametrize(
    ("answer", "outcome", "up"),
    [
        (hostile.says(OK(HEALTHY)), "ok", 1),
        (hostile.says(OK(HEALTHY.replace(b"UP", b"DOWN"), "503 Down")), "ok", 0),
        (hostile.says(OK(b'{"status":"UP","version":"12.0.0","timestamp":1}')), "ok", 1),
        (hostile.says(OK(b'{"status":"up","checks":[]}')), "ok", 1),
        (hostile.says(OK(b'{"status":"UNKNOWN","checks":[]}')), "ok", 0),
        (hostile.says(OK(b"<html>UP</html>")), "malformed", 0),
        (hostile.says(OK(b"UP")), "malformed", 0),
        (hostile.says(OK(b'{"status":true}')), "malformed", 0),
        (hostile.says(OK(b'{"checks":[]}')), "malformed", 0),
        (hostile.says(OK(b'{"status":"UP","checks":[{"name":"","status":"UP"}]}')), "malformed", 0),
        (hostile.says(OK(b'{"status":"UP","checks":[{"name":"a"}]}')), "malformed", 0),
        (hostile.says(OK(b'{"status":"UP","checks":' + b"[" * 100_000)), "malformed", 0),
        (
            hostile.says(OK(b'{"status":"UP","checks":[%s]}' % b",".join([HEALTHY[25:-2]] * 1001))),
            "malformed",
            0,
        ),
        (hostile.says(OK(b"", "500 Oh no")), "status", 0),
        (hostile.says(OK(b"", "302 Found", "Location: /x")), "redirect", 0),
        (hostile.says(OK(b" " * (2 * hostile.MEGABYTE))), "too_large", 0),
        (hostile.pours, "too_large", 0),
        (hostile.cuts, "connection", 0),
        (hostile.hangs_after(b"HTTP/1.1 200 OK\r\n\r\n"), "timeout", 0),
    ],
)
async def test_health_is_up_only_if_the_endpoint_says_so_and_outcomes_are_counted(
    producer: RecordingProducer, tmp_path: Path, answer: hostile.Answer, outcome: str, up: int
) -> None:
    config = tmp_path / "feeds.yml"
    timeout = "300ms" if outcome == "timeout" else "30s"
    before = counted("watchkeeper_probes_total", outcome=outcome)
    async with hostile.http_server({"/x": answer}) as port:
        config.write_text(f"""\
health_configs:
  - job_name: hostile
    path: /x
    interval: {timeout}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
""")
        collect = CollectSettings(host=False, feeds_config=str(config), batch_ms=1)
        async with collecting(producer, tmp_path, collect) as collector:
            await collector.discover()
            (probe,) = collector._health.watchers
            await probe.probe()
            await producer_has(producer, "/x")

    (_, samples), *_ = producer.frames("/x")
    found = {dict(labels)["__name__"]: value for labels, value in samples.items()}
    assert found["health_up"] == up
    assert counted("watchkeeper_probes_total", outcome=outcome) > before
    assert bool(probe.status.last_error) == (outcome != "ok")
