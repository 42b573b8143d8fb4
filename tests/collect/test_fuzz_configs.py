"""Whatever a configuration file holds, it is read, or its problems are told with their places."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.collect.feeds_config import load_feeds_config
from pipeline.collect.scrape_config import load_scrape_config
from pipeline.collect.static_targets import read_target_file
from pipeline.collect.targets import feed_targets, health_targets, scrape_targets
from pipeline.document import ConfigError

Config = TypeVar("Config")

FEEDS = b"""\
websocket_configs:
  - job_name: ledger
    feeds: [/ws/metrics, /ws/v11]
    scheme: wss
    authorization: {credentials_file: token}
    static_configs: [{targets: ["a:1"], labels: {node: n1}}]
health_configs:
  - {job_name: ledger, path: /q/health, interval: 5s, timeout: 1s}
"""
SCRAPES = b"""\
global: {scrape_interval: 15s}
scrape_configs:
  - job_name: node
    scrape_interval: 5s
    params: {module: [a]}
    static_configs: [{targets: ["a:9100", "b"], labels: {node: n1}}]
    file_sd_configs: [{files: ["*.json"]}]
    relabel_configs: [{source_labels: [__address__], regex: "b(.*)", action: drop}]
"""
TARGETS = b'[{"targets": ["a:1", "b:2"], "labels": {"x": "y"}}]'
PIECES = st.sampled_from(
    [b"", b"null", b"[]", b"{}", b"- ", b": ", b"&a ", b"*a", b"!!int ", b"!!binary x", b"\x00",
     b"\xff", b"\n", b"<<: *a", b"? ", b"1e999", b"(", b"\\", b"'", b"%", b"\t", b"5s", b"-1s"]
)  # fmt: skip
quick = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 12)))
        content = content[:start] + draw(PIECES | st.binary(max_size=3)) + content[end:]
    return content


def read(load: Callable[[Path], Config], path: Path, content: bytes) -> Config | None:
    """What the file gives; None if it has problems, and all of them name it."""
    path.write_bytes(content)
    problems: list[str] = []
    try:
        return load(path)
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert all(problem.startswith(f"{path}") for problem in problems)
    return None


@quick
@given(mutated(FEEDS) | st.binary(max_size=60))
def test_any_feeds_file_is_read_or_told(tmp_path: Path, content: bytes) -> None:
    config = read(load_feeds_config, tmp_path / "feeds.yml", content)
    if config is None:
        return
    for feed in config.feeds:
        feed_targets(feed, feed.sources.groups)
    for probe in config.health:
        assert 0 < probe.timeout_ms <= probe.interval_ms
        health_targets(probe, probe.sources.groups)


@quick
@given(mutated(SCRAPES) | st.binary(max_size=60))
def test_any_scrape_file_is_read_or_told(tmp_path: Path, content: bytes) -> None:
    for job in read(load_scrape_config, tmp_path / "scrape.yml", content) or ():
        scrape_targets(job, job.sources.groups, [])


@quick
@given(mutated(TARGETS) | st.binary(max_size=60))
def test_any_file_of_targets_is_read_or_told(tmp_path: Path, content: bytes) -> None:
    read(read_target_file, tmp_path / "targets.json", content)
