"""What the terminal shows, as plain data, and how it follows from what the processes tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from pipeline.local.receiver import Arrival
from pipeline.local.supervisor import PartState

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""Values of a `/metrics` page by name and labels."""


class TargetGroup(msgspec.Struct, frozen=True):
    """The targets of one job that are watched in one way."""

    job: str
    feed: str
    up: int
    total: int


class ShownAlert(msgspec.Struct, frozen=True):
    """A pending or firing alert."""

    name: str
    where: str
    severity: str
    seconds: float
    """Until it fires, while pending; since it began, while firing. In event time."""


class Numbers(msgspec.Struct, frozen=True):
    """What the processes count; None while they don't tell."""

    samples: float | None = None
    anomalies: float | None = None
    lag: float | None = None
    delivered: float | None = None
    latency_p50_s: float | None = None
    latency_p99_s: float | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the whole stack."""

    event_time_s: float
    speed: float
    parts: tuple[PartState, ...]
    numbers: Numbers = Numbers()
    samples_per_second: float | None = None
    targets: tuple[TargetGroup, ...] = ()
    down: tuple[str, ...] = ()
    """Names of instances with something that is down."""
    pending: tuple[ShownAlert, ...] = ()
    firing: tuple[ShownAlert, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    """What the local receiver got, the newest first."""
    missing: tuple[str, ...] = ()
    """What this stack is without, a line each."""
    hints: tuple[tuple[str, str], ...] = ()
    """What to try next: what it is for, and the command or address."""


def read_samples(text: str) -> Samples:
    """The values of a page in Prometheus' text format."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float | None:
    """The sum over all series of that name and with those labels; None if there is none."""
    wanted = set(labels.items())
    found = [
        value for (own, given), value in samples.items() if own == name and wanted.issubset(given)
    ]
    return sum(found) if found else None


def quantile(samples: Samples, name: str, q: float) -> float | None:
    """The quantile of a histogram, linear within a bucket, as `histogram_quantile` has it.

    Of the last bucket, which has no upper bound, the lower bound. None when nothing was observed.
    """
    counts: dict[float, float] = {}
    for (own, labels), value in samples.items():
        if own == f"{name}_bucket":
            bound = float(dict(labels)["le"])
            counts[bound] = counts.get(bound, 0.0) + value
    buckets = sorted(counts.items())
    if not buckets or buckets[-1][1] == 0:
        return None
    rank = q * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound) or count == below:
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def read_numbers(worker: Samples | None, dispatch: Samples | None, speed: float) -> Numbers:
    """The numbers of the worker's and the dispatcher's pages; at another speed no latency."""
    worker, dispatch = worker or {}, dispatch or {}
    latency = "watchkeeper_notification_latency_seconds"
    real_time = dispatch if speed == 1.0 else {}
    return Numbers(
        samples=total(worker, "watchkeeper_samples_processed_total"),
        anomalies=total(worker, "watchkeeper_anomalies_total"),
        lag=total(worker, "watchkeeper_kafka_lag_records"),
        delivered=total(dispatch, "watchkeeper_notifications_total", outcome="delivered"),
        latency_p50_s=quantile(real_time, latency, 0.5),
        latency_p99_s=quantile(real_time, latency, 0.99),
    )


def rate(before: float | None, now: float | None, seconds: float) -> float | None:
    """Increase a second of a counter; None across a restart or without two readings."""
    if before is None or now is None or now < before or seconds <= 0:
        return None
    return (now - before) / seconds


def group_targets(
    targets: Iterable[tuple[Mapping[str, str], str, str]],
) -> tuple[tuple[TargetGroup, ...], tuple[str, ...]]:
    """Groups of targets, given as labels, feed and health; and the instances that have one down."""
    counts: dict[tuple[str, str], list[int]] = {}
    down: set[str] = set()
    for labels, feed, health in targets:
        count = counts.setdefault((labels.get("job", ""), feed), [0, 0])
        count[0] += health == "up"
        count[1] += 1
        if health == "down":
            down.add(place_of(labels))
    groups = (TargetGroup(job, feed, up, n) for (job, feed), (up, n) in sorted(counts.items()))
    return tuple(groups), tuple(sorted(down))


def place_of(labels: Mapping[str, str]) -> str:
    """What an alert or target is about, in a word: the node if it is known, else the instance."""
    return next((labels[key] for key in ("node", "instance", "job") if labels.get(key)), "")


def missing_or(value: float | None, form: str) -> str:
    """`value` in the format `form`, or a dash when nobody told.

    >>> missing_or(1234.5, ",.0f"), missing_or(None, ",.0f")
    ('1,234', '–')
    """
    return "–" if value is None else format(value, form)


def by_urgency(alerts: Sequence[ShownAlert]) -> tuple[ShownAlert, ...]:
    """The soonest (or newest) first."""
    return tuple(sorted(alerts, key=lambda alert: (alert.seconds, alert.name, alert.where)))
