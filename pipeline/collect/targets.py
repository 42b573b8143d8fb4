"""From jobs and the addresses they list to what is watched. Pure.

References
----------
prometheus/scrape/target.go: PopulateLabels.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlencode

import msgspec

from pipeline.collect.feeds_config import FeedJob, HealthJob
from pipeline.collect.relabel import relabel
from pipeline.collect.scrape_config import ScrapeJob
from pipeline.collect.static_targets import TargetGroup
from pipeline.durations import parse_duration
from pipeline.http_config import HttpConfig
from pipeline.model import Labels, Target, labels_from

_DEFAULT_PORTS = {"http": "80", "https": "443"}


class Watched(msgspec.Struct, frozen=True):
    """One thing to watch: where it is, how often, and the labels its series get."""

    target: Target
    pool: str
    """The job's name in the configuration; relabelling may give the target another one."""
    url: str
    labels: Labels
    discovered: Labels
    """Before relabelling."""
    interval_ms: int = 0
    timeout_ms: int = 0
    http: HttpConfig = HttpConfig()


def scrape_targets(
    job: ScrapeJob, groups: Iterable[TargetGroup], problems: list[str]
) -> list[Watched]:
    """What `job` scrapes; a target that can't be scraped becomes a problem."""
    found: dict[Target, Watched] = {}
    for group in groups:
        for address in group.targets:
            try:
                watched = _scrape_target(job, address, group.labels)
            except ValueError as error:
                problems.append(f"job {job.name}: target {address}: {error}")
                continue
            if watched is not None:
                found.setdefault(watched.target, watched)
    return list(found.values())


def _scrape_target(job: ScrapeJob, address: str, group: Labels) -> Watched | None:
    before = {
        "job": job.name,
        "__address__": address,
        "__metrics_path__": job.path,
        "__scheme__": job.scheme,
        "__scrape_interval__": f"{job.interval_ms}ms",
        "__scrape_timeout__": f"{job.timeout_ms}ms",
        **{f"__param_{name}": values[0] for name, values in job.params if values},
        **dict(group),
    }
    labels = relabel(before, job.relabel)
    if labels is None:
        return None
    scheme = labels.get("__scheme__", "")
    if scheme not in _DEFAULT_PORTS:
        raise ValueError(f"expected http or https as __scheme__, got {scheme!r}")
    address = _with_port(labels.get("__address__", ""), scheme)
    interval_ms = round(1000 * parse_duration(labels.get("__scrape_interval__", "")))
    timeout_ms = round(1000 * parse_duration(labels.get("__scrape_timeout__", "")))
    if not 0 < timeout_ms <= interval_ms:
        raise ValueError(f"expected 0 < timeout <= interval, got {timeout_ms} ms, {interval_ms} ms")
    params = dict(job.params)
    for name, value in labels.items():
        if name.startswith("__param_"):
            key = name.removeprefix("__param_")
            params[key] = (value, *params.get(key, ())[1:])
    query = urlencode([(name, value) for name, values in params.items() for value in values])
    path = quote(labels.get("__metrics_path__", "/metrics"), safe="/%")
    feed = f"{path}?{query}" if query else path
    final = {name: value for name, value in labels.items() if not name.startswith("__")}
    final.setdefault("instance", address)
    return Watched(
        Target(final.get("job", job.name), final["instance"], feed),
        job.name,
        f"{scheme}://{address}{feed}",
        labels_from(final),
        labels_from(before),
        interval_ms,
        timeout_ms,
        job.http,
    )


def _with_port(address: str, scheme: str) -> str:
    if not address or "/" in address:
        raise ValueError(f"expected host:port as address, got {address!r}")
    bare = address.rpartition("]")[2]
    return address if ":" in bare else f"{address}:{_DEFAULT_PORTS[scheme]}"


def feed_targets(job: FeedJob, groups: Iterable[TargetGroup]) -> list[Watched]:
    """The sockets of `job`, one for each address and feed."""
    return [
        _plain(job, address, group.labels, feed, 0, 0)
        for group in groups
        for address in group.targets
        for feed in job.feeds
    ]


def health_targets(job: HealthJob, groups: Iterable[TargetGroup]) -> list[Watched]:
    """The health endpoints of `job`."""
    return [
        _plain(job, address, group.labels, job.path, job.interval_ms, job.timeout_ms)
        for group in groups
        for address in group.targets
    ]


def _plain(
    job: FeedJob | HealthJob,
    address: str,
    group: Labels,
    feed: str,
    interval_ms: int,
    timeout_ms: int,
) -> Watched:
    labels = {"job": job.name, "instance": address, **dict(group)}
    before = labels_from({"__address__": address, "job": job.name, **dict(group)})
    return Watched(
        Target(labels["job"], labels["instance"], feed),
        job.name,
        f"{job.scheme}://{address}{feed}",
        labels_from(labels),
        before,
        interval_ms,
        timeout_ms,
        job.http,
    )
