"""A group of alerts with its timer, and the decision what of it is to be told.

References
----------
alertmanager 0.25, dispatch/dispatch.go: aggrGroup; notify/notify.go: DedupStage.needsUpdate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from pipeline.alerts.incident import Incident
from pipeline.alerts.notification import AlertInMessage
from pipeline.alerts.route import Route
from pipeline.model import Labels


class Group(msgspec.Struct, kw_only=True):
    """Alerts of one route with the same group labels; changed in place by the board."""

    id: str
    route_id: str
    key: str
    labels: Labels
    members: set[int]
    """Fingerprints."""
    next_flush_ms: int
    flushed: bool = False


class LogEntry(msgspec.Struct, frozen=True):
    """What one integration was last told about a group."""

    time_ms: int
    firing: tuple[int, ...]
    resolved: tuple[int, ...]


def group_id(route: Route, labels: Labels) -> str:
    return f"{route.id} {route.group_key(labels)}"


def new_group(route: Route, labels: Labels, now_ms: int) -> Group:
    return Group(
        id=group_id(route, labels),
        route_id=route.id,
        key=route.group_key(labels),
        labels=labels,
        members=set(),
        next_flush_ms=now_ms + route.group_wait_ms,
    )


def join(group: Group, incident: Incident, group_wait_ms: int, now_ms: int) -> bool:
    """Take the alert in; True if that changed the group.

    An alert that has waited long enough elsewhere makes a group that was never flushed due.
    """
    overdue = incident.starts_at_ms + group_wait_ms < now_ms < group.next_flush_ms
    if overdue and not group.flushed:
        group.next_flush_ms = now_ms
    elif incident.fingerprint in group.members:
        return False
    group.members.add(incident.fingerprint)
    return True


Reason = Literal["first", "new", "all resolved", "some resolved", "repeat"]


def reason_to_notify(
    entry: LogEntry | None,
    firing: Iterable[int],
    resolved: Iterable[int],
    send_resolved: bool,
    repeat_interval_ms: int,
    now_ms: int,
) -> Reason | None:
    """Why an integration that was told `entry` is to be told the group's state; None: it is not."""
    firing_now = frozenset(firing)
    if entry is None:
        return "first" if firing_now else None
    if not firing_now <= frozenset(entry.firing):
        return "new"
    if not firing_now:
        return "all resolved" if entry.firing else None
    if send_resolved and not frozenset(resolved) <= frozenset(entry.resolved):
        return "some resolved"
    return "repeat" if entry.time_ms < now_ms - repeat_interval_ms else None


def alert_in_message(incident: Incident, entry: LogEntry | None, now_ms: int) -> AlertInMessage:
    """The alert as it is told at `now_ms` to someone who was told `entry`."""
    resolved = incident.resolved(now_ms)
    told = () if entry is None else (entry.resolved if resolved else entry.firing)
    return AlertInMessage(
        fingerprint=incident.fingerprint,
        episode_ms=incident.episode_ms,
        status="resolved" if resolved else "firing",
        labels=incident.labels,
        annotations=incident.annotations,
        starts_at_ms=incident.starts_at_ms,
        ends_at_ms=incident.ends_at_ms if resolved else 0,
        generator_url=incident.generator_url,
        sample_time_ms=incident.sample_time_ms,
        news=incident.fingerprint not in told,
    )


def in_order(incidents: Iterable[Incident]) -> list[Incident]:
    """By job, then instance (without one: last), then number of labels, then their content.

    References
    ----------
    alertmanager 0.25, types/types.go: AlertSlice.Less; prometheus/common: LabelSet.Before.
    """
    return sorted(incidents, key=_order)


def _order(incident: Incident) -> tuple[object, ...]:
    labels = incident.labels
    values = dict(labels)
    job = ("job" not in values, values.get("job", ""))
    instance = ("instance" not in values, values.get("instance", ""))
    return job, instance, labels_order(labels)


def labels_order(labels: Labels) -> tuple[object, ...]:
    """A sort key that puts label sets into Alertmanager's order."""
    return len(labels), [(_descending(name), value) for name, value in labels]


def _descending(name: str) -> tuple[int, ...]:
    """Sorts names backwards: of two sets the one without the first name that differs is first."""
    return (*(-ord(character) for character in name), 1)
