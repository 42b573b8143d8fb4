"""What is known of one alert: reports of its state, merged.

An alert has the same identity (fingerprint) whoever reports it. Its *episode* opens with the first
firing report from any source and ends when it resolves; the pair of fingerprint and episode names
it for good. Whose word counts when sources differ is decided before, in `pipeline.alerts.referee`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pipeline.model import Alert, Labels

Source = Literal["worker", "backstop", "api"]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One source's word on an alert: firing until `ends_at_ms`, resolved when that has passed.

    `time_ms` is when the source said so. `timed_out` says that the end is only our guess, because
    the source named none. `supports` says that it only lengthens what fires already: the word of a
    source that agrees with the one that decides.
    """

    fingerprint: int
    labels: Labels
    annotations: Labels
    starts_at_ms: int
    ends_at_ms: int
    time_ms: int
    source: Source
    timed_out: bool = False
    supports: bool = False
    generator_url: str = ""
    sample_time_ms: int = 0
    """Time of the sample that changed the alert's state; 0: not known."""

    @property
    def says_end(self) -> bool:
        """Whether its source says that the alert has ended, by then."""
        return self.ends_at_ms <= self.time_ms


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
    timed_out: bool = False
    generator_url: str = ""
    sample_time_ms: int = 0

    def resolved(self, now_ms: int) -> bool:
        return self.ends_at_ms <= now_ms

    @property
    def ended_by_silence(self) -> bool:
        """Whether its end, once passed, is that nobody renewed it, and not a source's word."""
        return self.ends_at_ms > self.updated_at_ms


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


def merge(held: Incident | None, report: Report, now_ms: int) -> Incident:
    """`held` with `report` taken in by Alertmanager's rules: what overlaps is one alert.

    References
    ----------
    alertmanager 0.25, provider/mem/mem.go: Put; types/types.go: Alert.Merge.
    """
    if held is None:
        return _opened(report, report.starts_at_ms)
    if report.supports:
        ends_at_ms = max(held.ends_at_ms, report.ends_at_ms)
        return msgspec.structs.replace(held, ends_at_ms=ends_at_ms)
    opens = held.resolved(now_ms) and report.ends_at_ms > now_ms
    episode_ms = held.episode_ms
    if opens:
        # The same start may come again after a time-out; the episode is another one.
        newer = report.starts_at_ms > held.episode_ms
        episode_ms = report.starts_at_ms if newer else max(report.time_ms, held.episode_ms + 1)
    incident = _opened(report, episode_ms)
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


def _opened(report: Report, episode_ms: int) -> Incident:
    return Incident(
        fingerprint=report.fingerprint,
        labels=report.labels,
        annotations=report.annotations,
        starts_at_ms=report.starts_at_ms,
        ends_at_ms=report.ends_at_ms,
        updated_at_ms=report.time_ms,
        episode_ms=episode_ms,
        timed_out=report.timed_out,
        generator_url=report.generator_url,
        sample_time_ms=report.sample_time_ms,
    )
