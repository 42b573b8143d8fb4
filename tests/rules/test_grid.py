"""Evaluation times of groups: hand-computed ones, and those of a real Prometheus."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xxhash

from pipeline.local.ports import free_ports
from pipeline.promql.plan import Version
from pipeline.rules import grid
from pipeline.rules.files import load_rules
from pipeline.rules.grid import Grid, group_hash
from pipeline.rules.rule import RuleGroup


def group(interval_ms: int = 0, file: str = "a.yml") -> RuleGroup:
    return RuleGroup(
        file=file, name="g", interval_ms=interval_ms, limit=0, query_offset_ms=0, rules=()
    )


@pytest.fixture
def offset_ns(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the hash, and so the phase, of every group."""

    def fix(value: int) -> None:
        def fixed(_file: str, _name: str, _prometheus: Version) -> int:
            return value

        monkeypatch.setattr(grid, "group_hash", fixed)

    return fix


def test_the_hash_is_xxhash64() -> None:
    """The empty input's value from the xxHash specification."""
    assert xxhash.xxh64_intdigest(b"") == 0xEF46DB3751D8E999


def test_what_is_hashed_depends_on_the_version() -> None:
    two = b"file\xffa.yml\xffname\xffg\xff"
    three = b"\x04file\x05a.yml\x04name\x01g"
    assert group_hash("a.yml", "g", "2") == xxhash.xxh64_intdigest(two)
    assert group_hash("a.yml", "g", "3") == xxhash.xxh64_intdigest(three)


def test_a_long_path_has_a_length_of_three_bytes() -> None:
    """300 = 0x12c, little endian."""
    path = "a" * 300
    data = b"\x04file\xff\x2c\x01\x00" + path.encode() + b"\x04name\x01g"
    assert group_hash(path, "g", "3") == xxhash.xxh64_intdigest(data)
    data = b"\x04file\xff\xff\x00\x00" + b"a" * 255 + b"\x04name\x01g"
    assert group_hash("a" * 255, "g", "3") == xxhash.xxh64_intdigest(data)


def test_instants_are_an_interval_apart_and_shifted_by_the_hash(
    offset_ns: Callable[[int], None],
) -> None:
    offset_ns(15_000_000_000 * 7 + 4_000_000_000)
    instants = Grid(group(15_000), 1000, "3").instants(100_000, 150_000)
    assert instants.tolist() == [109_000, 124_000, 139_000]


def test_a_span_has_its_end_and_not_its_start(offset_ns: Callable[[int], None]) -> None:
    offset_ns(4_000_000_000)
    fifteen = Grid(group(15_000), 1000, "3")
    assert fifteen.instants(109_000, 124_000).tolist() == [124_000]
    assert fifteen.instants(109_000, 123_999).tolist() == []
    assert fifteen.instants(108_999, 109_000).tolist() == [109_000]


def test_spans_side_by_side_have_each_instant_once(offset_ns: Callable[[int], None]) -> None:
    """Prometheus counts in ns: an offset of 4.7 ms is stamped as 4 ms."""
    offset_ns(4_700_000)
    ten = Grid(group(10), 1000, "3")
    marks = [0, 3, 4, 5, 13, 14, 24, 30]
    found = [
        instant
        for after, until in itertools.pairwise(marks)
        for instant in ten.instants(after, until).tolist()
    ]
    assert found == [4, 14, 24]


def test_the_phase_is_counted_in_nanoseconds(offset_ns: Callable[[int], None]) -> None:
    """One nanosecond less than an interval of a minute is stamped as 59,999 ms."""
    offset_ns(59_999_999_999)
    assert Grid(group(60_000), 1000, "3").instants(0, 120_000).tolist() == [59_999, 119_999]


def test_a_group_without_an_interval_takes_the_default(offset_ns: Callable[[int], None]) -> None:
    offset_ns(0)
    assert Grid(group(), 60_000, "3").instants(0, 120_000).tolist() == [60_000, 120_000]


@pytest.fixture
def prometheus(program: Callable[[str], str], tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A Prometheus with two groups that record something; its address and their file."""
    rules = tmp_path / "recorded.yml"
    rules.write_text(
        "groups:\n"
        "- {name: quick, interval: 700ms, rules: [{record: quick, expr: vector(1)}]}\n"
        "- {name: slow one, interval: 2s, rules: [{record: slow, expr: vector(2)}]}\n",
        encoding="utf-8",
    )
    config = tmp_path / "prometheus.yml"
    config.write_text(f"rule_files: [{rules}]\n", encoding="utf-8")
    (port,) = free_ports(1)
    log = tmp_path / "prometheus.log"
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            [
                program("prometheus"), f"--config.file={config}",
                f"--storage.tsdb.path={tmp_path / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output, stderr=output,
        )  # fmt: skip
        try:
            yield f"http://127.0.0.1:{port}", rules
        finally:
            process.terminate()
            process.wait(20)


def recorded_times(address: str, series: str) -> list[int]:
    """Times in ms of the samples of a series; empty while Prometheus starts."""
    query = urllib.parse.urlencode({"query": f"{series}[1m]"})
    try:
        with urllib.request.urlopen(f"{address}/api/v1/query?{query}", timeout=5) as answer:
            result = json.load(answer)["data"]["result"]
    except OSError:
        return []
    return [round(time_s * 1000) for row in result for time_s, _ in row["values"]]


@pytest.mark.parts
def test_a_real_prometheus_evaluates_at_these_instants(prometheus: tuple[str, Path]) -> None:
    address, rules = prometheus
    groups, problems = load_rules([str(rules)], "2")
    assert [str(problem) for problem in problems] == []
    with urllib.request.urlopen(f"{ready(address)}/api/v1/status/buildinfo") as answer:
        version = json.load(answer)["data"]["version"]
    major: Version = "3" if version.startswith("3") else "2"
    for found, series in zip(groups, ("quick", "slow"), strict=True):
        times: list[int] = []
        deadline = time.monotonic() + 30
        while len(times) < 3 and time.monotonic() < deadline:
            times = recorded_times(address, series)
            time.sleep(0.2)  # between two questions to another process
        expected = Grid(found, 60_000, major).instants(times[0] - 1, times[-1])
        assert times == expected.tolist()


def ready(address: str) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{address}/-/ready", timeout=5):
                return address
        except OSError:
            time.sleep(0.1)  # until the port is open
    raise TimeoutError(address)
