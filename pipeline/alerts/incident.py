"""What is known of one alert: reports of its state from several sources, merged.

An alert has the same identity (fingerprint) whoever reports it. Its *episode* opens with the first
firing report from any source and ends when it resolves; the pair of fingerprint and episode names
it for good.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pipeline.model import Alert, Labels

Source = Literal["worker", "backstop", "api"]

ECHO_MS = 60_000
"""For this long after the worker has closed an episode, the backstop's word that it still fires is
an echo: Prometheus evaluates less often, and repeats itself once a minute."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One source's word on an alert: firing until `ends_at_ms`, resolved when that has passed.

    `time_ms` is when the source said so. `timed_out` says that the end is only our guess, because
    the source named none.
    """

    fingerprint: int
    labels: Labels
    annotations: Labels
    starts_at_ms: int
    ends_at_ms: int
    time_ms: int
    source: Source
    timed_out: bool = False
    generator_url: str = ""
    sample_time_ms: int = 0
    """Time of the sample that changed the alert's state; 0: not known."""


class Claim(msgspec.Struct, frozen=True):
    """The newest word of one source."""

    time_ms: int
    ends_at_ms: int


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as the dispatcher holds it."""

    fingerprint: int
    labels: Labels
    annotations: Labels
    starts_at_ms: int
    ends_at_ms: int
    updated_at_ms: int
    episode_ms: int
    """Names the episode; never earlier than that of the episode before."""
    claims: dict[Source, Claim]
    timed_out: bool = False
    generator_url: str = ""
    sample_time_ms: int = 0

    def resolved(self, now_ms: int) -> bool:
        return self.ends_at_ms <= now_ms


def report_of(alert: Alert, fingerprint: int) -> Report:
    """The report that a record of the `alerts` topic makes; pending is not firing (any more)."""
    return Report(
        fingerprint=fingerprint,
        labels=alert.labels,
        annotations=alert.annotations,
        starts_at_ms=min(alert.starts_at_ms, alert.ends_at_ms),
        ends_at_ms=alert.time_ms if alert.state == "pending" else alert.ends_at_ms,
        time_ms=alert.time_ms,
        source=alert.source,
        generator_url=alert.generator_url,
        sample_time_ms=alert.sample_time_ms,
    )


Ignored = Literal["old", "unknown", "echo"]
"""Why a report changes nothing: not newer than what the worker said before; the end of something
that was never reported to fire; the backstop's echo of what the worker has closed."""


def merge(held: Incident | None, report: Report, now_ms: int) -> Incident | Ignored:
    """`held` with `report` taken in.

    While the worker's word is valid it decides whether the alert fires; the backstop's is kept for
    the time after it. Between reports of equal rank Alertmanager's rules hold.
    """
    claim = Claim(report.time_ms, report.ends_at_ms)
    if held is None:
        if report.source == "worker" and report.ends_at_ms <= report.time_ms:
            return "unknown"
        return _opened(report, {report.source: claim}, report.starts_at_ms)
    earlier = held.claims.get(report.source)
    if report.source == "worker" and earlier is not None and report.time_ms <= earlier.time_ms:
        return "old"
    claims = held.claims | {report.source: claim}
    if report.source == "backstop" and "worker" in held.claims:
        worker = held.claims["worker"]
        if worker.ends_at_ms > now_ms:
            return _with_backstop(held, report, claims)
        if _is_echo(worker, report, now_ms):
            return "echo"
    return _merged(held, report, claims, now_ms)


def _is_echo(worker: Claim, report: Report, now_ms: int) -> bool:
    """Whether the worker said "ended" (and did not merely fall silent) a moment ago."""
    said_ended = worker.ends_at_ms <= worker.time_ms
    return said_ended and report.ends_at_ms > now_ms and now_ms - worker.ends_at_ms < ECHO_MS


def _with_backstop(held: Incident, report: Report, claims: dict[Source, Claim]) -> Incident:
    """The worker decides that it fires; the backstop's word counts when the worker's runs out."""
    ends_at_ms = max(claims["worker"].ends_at_ms, report.ends_at_ms)
    return msgspec.structs.replace(held, ends_at_ms=ends_at_ms, claims=claims)


def _opened(report: Report, claims: dict[Source, Claim], episode_ms: int) -> Incident:
    return Incident(
        fingerprint=report.fingerprint,
        labels=report.labels,
        annotations=report.annotations,
        starts_at_ms=report.starts_at_ms,
        ends_at_ms=report.ends_at_ms,
        updated_at_ms=report.time_ms,
        episode_ms=episode_ms,
        claims=claims,
        timed_out=report.timed_out,
        generator_url=report.generator_url,
        sample_time_ms=report.sample_time_ms,
    )


def _merged(held: Incident, report: Report, claims: dict[Source, Claim], now_ms: int) -> Incident:
    """Alertmanager's rules: what overlaps is one alert with the earliest start.

    References
    ----------
    alertmanager 0.25, provider/mem/mem.go: Put; types/types.go: Alert.Merge.
    """
    opens = held.resolved(now_ms) and report.ends_at_ms > now_ms
    episode_ms = held.episode_ms
    if opens:
        # The same start may come again after a time-out; the episode is another one.
        newer = report.starts_at_ms > held.episode_ms
        episode_ms = report.starts_at_ms if newer else max(report.time_ms, held.episode_ms + 1)
    incident = _opened(report, claims, episode_ms)
    ends_inside = held.starts_at_ms < report.ends_at_ms < held.ends_at_ms
    starts_inside = held.starts_at_ms < report.starts_at_ms < held.ends_at_ms
    if not (ends_inside or starts_inside):
        return incident
    ends_at_ms = report.ends_at_ms
    if ends_at_ms <= now_ms:
        if held.resolved(now_ms):
            ends_at_ms = max(ends_at_ms, held.ends_at_ms)
    elif not held.timed_out:
        ends_at_ms = max(ends_at_ms, held.ends_at_ms)
    starts_at_ms = min(held.starts_at_ms, report.starts_at_ms)
    return msgspec.structs.replace(incident, starts_at_ms=starts_at_ms, ends_at_ms=ends_at_ms)
