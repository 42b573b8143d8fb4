"""The alert board: all alerts, groups, timers and what was told, as one state machine.

The board knows no clock and no network. Its owner passes reports in, asks when something is due,
delivers the intents that a flush returns, and tells the board how each delivery ended; everything
that changed on the way is collected for the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush

import msgspec

from pipeline.alerts.group import (
    Group,
    LogEntry,
    alert_in_message,
    group_id,
    in_order,
    join,
    new_group,
    reason_to_notify,
)
from pipeline.alerts.incident import Incident, Report, merge
from pipeline.alerts.notification import Integration, Intent, Message, intent_id
from pipeline.alerts.route import Route
from pipeline.alerts.saved import Changes, Saved
from pipeline.model import Labels

CLEANUP_INTERVAL_MS = 30_000
"""Emptied groups go this often, as Alertmanager's do."""
RESOLVED_KEPT_MS = 30 * 60_000
LOG_KEPT_MS = 120 * 3_600_000
GRACE_MS = 120_000
"""After a sleep an alert that nobody could renew meanwhile is believed for so long: the worker
repeats itself every 30 s, Prometheus once a minute and an interval."""


class _Flush(msgspec.Struct):
    """A flush whose deliveries are under way: `ended` are the alerts it tells as resolved."""

    waiting: set[str]
    ended: list[Incident]
    failed: bool = False


def log_key(integration: str, group_key: str) -> str:
    return f"{integration} {group_key}"


class Board:
    """All alerts and groups under one route tree. Changed in place, by one owner."""

    def __init__(
        self, root: Route, integrations: Mapping[str, tuple[Integration, ...]], now_ms: int
    ) -> None:
        """`integrations` has those of every receiver, by its name."""
        self._root = root
        self._routes = {route.id: route for route in root.walk()}
        self._integrations = integrations
        self.alerts: dict[int, Incident] = {}
        self.groups: dict[str, Group] = {}
        self.log: dict[str, LogEntry] = {}
        self.outbox: dict[str, Intent] = {}
        self._changes = Changes()
        self._due: list[tuple[int, str]] = []
        self._flushes: dict[str, _Flush] = {}
        self._cleanup_ms = now_ms + CLEANUP_INTERVAL_MS

    def restore(self, saved: Saved, now_ms: int) -> list[Intent]:
        """Take in what was saved before a restart, perhaps under another route tree.

        Returns the intents whose delivery had not ended. Those that nobody can deliver any more
        are dropped from the outbox; their groups tell the new receivers.
        """
        self.alerts = {incident.fingerprint: incident for incident in saved.alerts}
        self.log = dict(saved.log)
        homes = {
            number: {group_id(route, labels) for route, labels in self._homes(incident)}
            for number, incident in self.alerts.items()
        }
        for group in saved.groups:
            if group.route_id not in self._routes:
                self._changes.groups[group.id] = None
                continue
            group.members = {m for m in group.members if group.id in homes.get(m, ())}
            self.groups[group.id] = group
            heappush(self._due, (group.next_flush_ms, group.id))
        for incident in self.alerts.values():
            if not incident.resolved(now_ms):
                self._join_groups(incident, now_ms)
        known = {i.id for integrations in self._integrations.values() for i in integrations}
        for intent in saved.outbox:
            if intent.integration in known and intent.group_id in self.groups:
                self.outbox[intent.id] = intent
                flush = self._flushes.setdefault(intent.group_id, _Flush(set(), []))
                flush.waiting.add(intent.id)
            else:
                self._changes.outbox[intent.id] = None
        return list(self.outbox.values())

    def wake(self, now_ms: int) -> None:
        """After a restart, a stop, or a jump of the clock: believe what nobody could renew.

        An alert whose end is only that nobody renewed it goes on for a grace; one that was told as
        ended, or is being told so, does not. Timers that a clock set back has left far ahead move.
        """
        told = {i.fingerprint for flush in self._flushes.values() for i in flush.ended}
        held = {member for group in self.groups.values() for member in group.members} - told
        for number in held:
            incident = self.alerts[number]
            if incident.ended_by_silence and incident.ends_at_ms < now_ms + GRACE_MS:
                longer = msgspec.structs.replace(incident, ends_at_ms=now_ms + GRACE_MS)
                self.alerts[number] = self._changes.alerts[number] = longer
        for group in self.groups.values():
            route = self._routes[group.route_id]
            wait_ms = route.group_interval_ms if group.flushed else route.group_wait_ms
            if group.next_flush_ms > now_ms + wait_ms:
                group.next_flush_ms = now_ms + wait_ms
                self._changes.groups[group.id] = group
                heappush(self._due, (group.next_flush_ms, group.id))
        self._cleanup_ms = min(self._cleanup_ms, now_ms + CLEANUP_INTERVAL_MS)

    def fires(self, fingerprint: int, now_ms: int) -> bool:
        held = self.alerts.get(fingerprint)
        return held is not None and not held.resolved(now_ms)

    def report(self, report: Report, now_ms: int) -> None:
        """Take one report in; what is due after it, `flush_due` tells."""
        merged = merge(self.alerts.get(report.fingerprint), report, now_ms)
        self.alerts[merged.fingerprint] = merged
        self._changes.alerts[merged.fingerprint] = merged
        self._join_groups(merged, now_ms)

    def next_due_ms(self) -> int:
        """When `flush_due` or `clean_up` has something to do."""
        while self._due and not self._is_current(*self._due[0]):
            heappop(self._due)
        return min(self._due[0][0], self._cleanup_ms) if self._due else self._cleanup_ms

    def flush_due(self, now_ms: int) -> list[Intent]:
        """Flush every group whose time has come; returns what is to be delivered."""
        intents: list[Intent] = []
        while self._due and self._due[0][0] <= now_ms:
            due = heappop(self._due)
            if self._is_current(*due):
                intents += self._flush(self.groups[due[1]], now_ms)
        return intents

    def finish(self, intent: Intent, delivered: bool, now_ms: int) -> None:
        """Note how a delivery ended; the group's next flush tries again what failed."""
        del self.outbox[intent.id]
        self._changes.outbox[intent.id] = None
        if delivered:
            group_key = intent.message.group_key
            self._log(intent.integration, group_key, intent.firing, intent.resolved, now_ms)
        flush = self._flushes[intent.group_id]
        flush.failed |= not delivered
        flush.waiting.discard(intent.id)
        if flush.waiting:
            return
        del self._flushes[intent.group_id]
        group = self.groups[intent.group_id]
        if not flush.failed:
            self._forget_ended(group, flush.ended)
        heappush(self._due, (group.next_flush_ms, group.id))

    def clean_up(self, now_ms: int) -> bool:
        """Drop emptied groups, alerts long resolved and old log entries; false: not yet time to."""
        if now_ms < self._cleanup_ms:
            return False
        self._cleanup_ms = now_ms + CLEANUP_INTERVAL_MS
        for group in list(self.groups.values()):
            if not group.members and group.id not in self._flushes:
                del self.groups[group.id]
                self._changes.groups[group.id] = None
        held = {member for group in self.groups.values() for member in group.members}
        for number, incident in list(self.alerts.items()):
            if number not in held and incident.resolved(now_ms - RESOLVED_KEPT_MS):
                del self.alerts[number]
                self._changes.alerts[number] = None
        for key, entry in list(self.log.items()):
            if entry.time_ms < now_ms - LOG_KEPT_MS:
                del self.log[key]
                self._changes.log[key] = None
        return True

    def take_changes(self) -> Changes:
        """Everything that changed since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    def receivers_of(self, labels: Labels) -> list[str]:
        """The receivers of alerts with these labels, in the order of their routes."""
        return [route.receiver for route in self._root.match(dict(labels))]

    def receiver_of(self, group: Group) -> str:
        return self._routes[group.route_id].receiver

    def group_interval_ms(self, group: str) -> int:
        return self._routes[self.groups[group].route_id].group_interval_ms

    def _is_current(self, due_ms: int, group: str) -> bool:
        """Whether a timer's entry still counts: timers are moved by adding another one."""
        found = self.groups.get(group)
        return found is not None and found.next_flush_ms == due_ms and group not in self._flushes

    def _join_groups(self, incident: Incident, now_ms: int) -> None:
        for route, labels in self._homes(incident):
            group = self.groups.get(group_id(route, labels))
            if group is None:
                group = new_group(route, labels, now_ms)
                self.groups[group.id] = group
                heappush(self._due, (group.next_flush_ms, group.id))
            due_ms = group.next_flush_ms
            if join(group, incident, route.group_wait_ms, now_ms):
                self._changes.groups[group.id] = group
            if group.next_flush_ms != due_ms:
                heappush(self._due, (group.next_flush_ms, group.id))

    def _homes(self, incident: Incident) -> list[tuple[Route, Labels]]:
        """The routes that the alert takes, each with the labels of its group there."""
        routes = self._root.match(dict(incident.labels))
        return [(route, route.group_labels(incident.labels)) for route in routes]

    def _flush(self, group: Group, now_ms: int) -> list[Intent]:
        route = self._routes[group.route_id]
        group.next_flush_ms = now_ms + route.group_interval_ms
        heappush(self._due, (group.next_flush_ms, group.id))
        if not group.flushed:
            group.flushed = True
            self._changes.groups[group.id] = group
        if not group.members:
            return []
        incidents = in_order(self.alerts[member] for member in group.members)
        ended = [incident for incident in incidents if incident.resolved(now_ms)]
        intents = []
        for integration in self._integrations[route.receiver]:
            intent = self._intend(group, route, integration, incidents, now_ms)
            # Twin routes make groups with the same key: one of them tells.
            if intent is not None and intent.id not in self.outbox:
                intents.append(intent)
                self.outbox[intent.id] = intent
                self._changes.outbox[intent.id] = intent
        if intents:
            self._flushes[group.id] = _Flush({intent.id for intent in intents}, ended)
            self._changes.groups[group.id] = group
        else:
            self._forget_ended(group, ended)
        return intents

    def _intend(
        self,
        group: Group,
        route: Route,
        integration: Integration,
        incidents: list[Incident],
        now_ms: int,
    ) -> Intent | None:
        """What `integration` is to be told of `incidents`; None if nothing."""
        firing = tuple(i.fingerprint for i in incidents if not i.resolved(now_ms))
        resolved = tuple(i.fingerprint for i in incidents if i.resolved(now_ms))
        entry = self.log.get(log_key(integration.id, group.key))
        reason = reason_to_notify(
            entry, firing, resolved, integration.send_resolved, route.repeat_interval_ms, now_ms
        )
        if reason is None:
            return None
        told = incidents
        if not integration.send_resolved:
            told = [incident for incident in incidents if not incident.resolved(now_ms)]
        if not told:
            self._log(integration.id, group.key, firing, resolved, now_ms)
            return None
        alerts = tuple(alert_in_message(incident, entry, now_ms) for incident in told)
        previous_ms = 0 if entry is None else entry.time_ms
        return Intent(
            id=intent_id(integration.id, group.key, previous_ms, alerts),
            group_id=group.id,
            integration=integration.id,
            message=Message(route.receiver, group.key, group.labels, alerts),
            firing=firing,
            resolved=resolved,
            created_ms=now_ms,
        )

    def _log(
        self,
        integration: str,
        group_key: str,
        firing: tuple[int, ...],
        resolved: tuple[int, ...],
        now_ms: int,
    ) -> None:
        key = log_key(integration, group_key)
        self.log[key] = LogEntry(now_ms, firing, resolved)
        self._changes.log[key] = self.log[key]

    def _forget_ended(self, group: Group, ended: Iterable[Incident]) -> None:
        """Drop the alerts told as resolved, but not one that was reported again meanwhile."""
        before = len(group.members)
        for incident in ended:
            if self.alerts[incident.fingerprint] is incident:
                group.members.discard(incident.fingerprint)
        if len(group.members) != before:
            self._changes.groups[group.id] = group
