"""Prometheus' `/api/v1/targets` and `/api/v1/targets/metadata` for what the collector watches.

References
----------
https://prometheus.io/docs/prometheus/latest/querying/api/#targets
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from pipeline.collect.status import Status
from pipeline.ingest.readings import Family


class _Target(msgspec.Struct, rename="camel"):
    discovered_labels: dict[str, str]
    labels: dict[str, str]
    scrape_pool: str
    scrape_url: str
    global_url: str
    last_error: str
    last_scrape: str
    last_scrape_duration: float
    health: str
    scrape_interval: str
    scrape_timeout: str


class _Targets(msgspec.Struct, rename="camel"):
    active_targets: list[_Target]
    dropped_targets: list[_Target] = []


class _Metadata(msgspec.Struct):
    target: dict[str, str]
    metric: str
    type: str
    help: str
    unit: str


class _Answer(msgspec.Struct):
    data: _Targets | list[_Metadata]
    status: str = "success"


def targets_json(statuses: Iterable[Status]) -> bytes:
    """The answer of `/api/v1/targets`."""
    return msgspec.json.encode(_Answer(_Targets([_target(status) for status in statuses])))


def metadata_json(targets: Iterable[tuple[Status, Mapping[str, Family]]]) -> bytes:
    """The answer of `/api/v1/targets/metadata`: HELP, TYPE and UNIT as the targets gave them."""
    return msgspec.json.encode(
        _Answer(
            [
                _Metadata(dict(status.watched.labels), name, family.kind, family.help, family.unit)
                for status, families in targets
                for name, family in families.items()
            ]
        )
    )


def _target(status: Status) -> _Target:
    watched = status.watched
    last = datetime.fromtimestamp(status.last_ms / 1000, UTC)
    return _Target(
        discovered_labels=dict(watched.discovered),
        labels=dict(watched.labels),
        scrape_pool=watched.pool,
        scrape_url=watched.url,
        global_url=watched.url,
        last_error=status.last_error,
        last_scrape=last.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        last_scrape_duration=status.last_duration_s,
        health=status.health,
        scrape_interval=f"{watched.interval_ms}ms",
        scrape_timeout=f"{watched.timeout_ms}ms",
    )
