"""Health endpoints: checks are matched by name, whatever their number."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.health import FAMILIES, read_health
from pipeline.ingest.readings import PayloadError

SAMPLES = Path(__file__).parent / "samples"


def read(sample: str) -> dict[str, float]:
    readings = read_health((SAMPLES / sample).read_bytes())
    return {
        dict(series.labels).get("check", series.name): value
        for series, value in zip(readings.series, readings.values.tolist(), strict=True)
    }


def test_five_checks() -> None:
    assert read("q_health.five_checks.json") == {
        "health_up": 1,
        "alive": 1,
        "Aurigraph V11 is running": 1,
        "Database connections health check": 1,
        "Redis connection health check": 1,
        "gRPC Server": 1,
    }


def test_the_documented_names_are_other_checks() -> None:
    assert read("docvariant.q_health.phase3c.json").keys() == {
        "health_up", "liveness", "readiness", "Database", "Redis", "gRPC",
    }  # fmt: skip


def test_a_check_that_is_down() -> None:
    down = read("q_health.down_503.json")

    assert down["health_up"] == 0
    assert down["oracle-service"] == 0
    assert down["alive"] == 1


@pytest.mark.parametrize("body", [b"OK", b"{}", b'{"status":1}', b'{"status":"UP","checks":[{}]}'])
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError, match="expected health checks in JSON"):
        read_health(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(PayloadError):
        read_health(body)


def test_every_series_is_described() -> None:
    readings = read_health((SAMPLES / "q_health.json").read_bytes())

    assert {series.name for series in readings.series} <= FAMILIES.keys()
