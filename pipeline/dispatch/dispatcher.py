"""The alert desk with its surroundings: the clock, the store, and the channels to the receivers.

Everything runs on arrival or on one timer. The order of things is always: change the desk, commit,
then answer or send.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import partial

from pipeline.alerts.desk import Desk
from pipeline.alerts.incident import Report
from pipeline.alerts.notification import Intent
from pipeline.alerts.referee import BELIEVED, Believed, Ignored
from pipeline.clock import Clock
from pipeline.dispatch.delivery import Channel
from pipeline.dispatch.metrics import (
    ALERTS_ACTIVE,
    ALERTS_DECIDED,
    ALERTS_IGNORED,
    ALERTS_RECEIVED,
    DISAGREEMENTS,
    GROUPS,
    LATENCY,
    MARK_AGE,
    OLDEST_UNDELIVERED,
    OUTBOX,
    SLEEPS,
    STORE_ERRORS,
    TAKEOVERS,
)
from pipeline.dispatch.store import Store, StoreError
from pipeline.selfmetrics import fields

log = logging.getLogger(__name__)

SHORTEST_PATIENCE = 10.0
"""A delivery is tried for a group_interval, but not for less than this (Alertmanager's rule)."""
LAST_REQUESTS = 2.0
"""How long closing waits for requests that are under way."""


HEARTBEAT = 5.0
"""The timer goes off at least this often (wall time): to notice sleep, and to commit what the store
refused before."""
ASLEEP = 15.0
"""Seconds of wall time without a heartbeat, or by which the clock jumped, after which others are
given time to be heard."""


class Dispatcher:
    """Takes reports in, and sees to it that receivers are told."""

    def __init__(
        self, desk: Desk, store: Store, channels: Mapping[str, Channel], clock: Clock
    ) -> None:
        """Restore what `store` holds; `channels` has one for each integration, by its id."""
        self.board = desk.board
        self._desk = desk
        self._store = store
        self._channels = channels
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._deliveries: set[asyncio.Task[None]] = set()
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._seen = (self._loop.time(), clock.now_ms())
        saved = store.load()
        self._offsets = saved.offsets
        self._restored = desk.restore(saved, clock.now_ms())
        self._observe_state()
        board = desk.board
        log.info(
            "restored %s",
            fields(alerts=len(board.alerts), groups=len(board.groups), outbox=len(board.outbox)),
        )

    def start(self) -> None:
        """Go on where the store's last commit was: nothing is sent before."""
        restored, self._restored = self._restored, []
        self._proceed(restored)

    def offset(self, topic: str) -> int | None:
        """The record of `topic` at which to go on reading; None: nothing of it was stored."""
        return self._offsets.get(topic)

    def accept(
        self, reports: Iterable[Report], offsets: Mapping[str, int] | None = None
    ) -> asyncio.Future[None]:
        """A future that is done when `reports` are stored; it raises StoreError if they aren't.

        What is due at once is sent as soon as it is stored. `offsets` are stored with the reports:
        where in its topic to go on after them.
        """
        now_ms = self._notice_sleep()
        intents: list[Intent] = []
        seen: set[int] = set()
        for report in reports:
            ALERTS_RECEIVED.labels(report.source).inc()
            if report.fingerprint in seen:
                # An alert that fired and ended while we were away is told as it would have been.
                intents += self.board.flush_due(now_ms)
                seen.clear()
            seen.add(report.fingerprint)
            _count(self._desk.report(report, now_ms))
        committed = self._proceed(intents, offsets)
        if offsets is not None:
            committed.add_done_callback(partial(self._note_offsets, offsets))
        return committed

    def _note_offsets(self, offsets: Mapping[str, int], committed: asyncio.Future[None]) -> None:
        if not committed.cancelled() and committed.exception() is None:
            self._offsets |= offsets

    def mark(self, partition: int, time_ms: int) -> None:
        """The worker has evaluated a partition up to an event time."""
        now_ms = self._notice_sleep()
        self._desk.marks.hear(partition, time_ms, now_ms)
        self._hand_over(now_ms)

    async def close(self) -> None:
        """Stop the timer, let requests under way end, and store how they ended.

        What is not delivered by then stays in the outbox for the next start.
        """
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._deliveries:
            _, late = await asyncio.wait(self._deliveries, timeout=LAST_REQUESTS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _proceed(
        self, intents: list[Intent], offsets: Mapping[str, int] | None = None
    ) -> asyncio.Future[None]:
        """Flush what is due, store all changes, then deliver `intents` and what the flush gave."""
        now_ms = self._notice_sleep()
        if not self._closed:
            self._hand_over(now_ms)
            for reason in self._desk.settle(now_ms):
                _count(reason)
            intents = intents + self.board.flush_due(now_ms)
            self._desk.clean_up(now_ms)
            self._arm(now_ms)
        changes = self._desk.take_changes()
        changes.offsets = dict(offsets or {})
        committed = self._store.write(changes)
        committed.add_done_callback(_count_failure)
        for intent in intents:
            # A notification that can't be written down is better sent twice than not at all; the
            # failure itself is counted and logged where it happened.
            committed.add_done_callback(partial(self._send, intent))
        return committed

    def _send(self, intent: Intent, _committed: asyncio.Future[None]) -> None:
        if self._closed:  # it stays in the outbox
            return
        task = self._loop.create_task(self._deliver(intent))
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)

    def _arm(self, now_ms: int) -> None:
        """Wake when the next thing is due."""
        if self._timer is not None:
            self._timer.cancel()
        wait = self._clock.wall((self._desk.next_due_ms() - now_ms) / 1000)
        self._timer = self._loop.call_later(min(max(0.0, wait), HEARTBEAT), self._proceed, [])

    def _notice_sleep(self) -> int:
        """The time; if much of it has passed unnoticed, others get time to be heard first."""
        before, before_ms = self._seen
        now, now_ms = self._seen = self._loop.time(), self._clock.now_ms()
        passed = self._clock.wall((now_ms - before_ms) / 1000)
        if now - before > ASLEEP or abs(passed - (now - before)) > ASLEEP:
            log.warning("slept, or the clock jumped %s", fields(seconds=f"{passed:.1f}"))
            SLEEPS.inc()
            self._desk.wake(now_ms)
        return now_ms

    def _hand_over(self, now_ms: int) -> None:
        """Say who decides in which partition, when that has changed."""
        for handover in self._desk.marks.handovers(now_ms):
            decides = "worker" if handover.worker_decides else "backstop"
            log.warning("handover %s", fields(partition=handover.partition, decides=decides))
            if not handover.worker_decides:
                TAKEOVERS.inc()

    async def _deliver(self, intent: Intent) -> None:
        patience = self._clock.wall(self.board.group_interval_ms(intent.group_id) / 1000)
        channel = self._channels[intent.integration]
        delivered = await channel.deliver(
            intent, max(patience, SHORTEST_PATIENCE), self._observe_latency
        )
        self.board.finish(intent, delivered, self._clock.now_ms())
        self._proceed([])

    def _observe_latency(self, intent: Intent) -> None:
        """Of what newly fires; an end may have waited for its group's interval."""
        now_ms = self._clock.now_ms()
        for alert in intent.message.alerts:
            if alert.news and alert.sample_time_ms and alert.status == "firing":
                LATENCY.observe(max(0, now_ms - alert.sample_time_ms) / 1000)

    def _observe_state(self) -> None:
        """Gauges that are computed when they are asked for."""
        board = self.board

        def oldest() -> float:
            now_ms = self._clock.now_ms()
            ages = [now_ms - intent.created_ms for intent in board.outbox.values()]
            return max(ages, default=0) / 1000

        def active() -> float:
            now_ms = self._clock.now_ms()
            return sum(not incident.resolved(now_ms) for incident in board.alerts.values())

        ALERTS_ACTIVE.set_function(active)
        GROUPS.set_function(lambda: len(board.groups))
        OUTBOX.set_function(lambda: len(board.outbox))
        OLDEST_UNDELIVERED.set_function(oldest)
        for partition in self._desk.marks.partitions:
            MARK_AGE.labels(str(partition)).set_function(partial(self._mark_age, partition))

    def _mark_age(self, partition: int) -> float:
        age_ms = self._desk.marks.age_ms(partition, self._clock.now_ms())
        return float("inf") if age_ms is None else age_ms / 1000


def _count(reason: Believed | Ignored) -> None:
    if reason in BELIEVED:
        ALERTS_DECIDED.labels(reason).inc()
    else:
        ALERTS_IGNORED.labels(reason).inc()
    if reason == "disagreement":
        DISAGREEMENTS.inc()


def _count_failure(committed: asyncio.Future[None]) -> None:
    error = None if committed.cancelled() else committed.exception()
    if isinstance(error, StoreError):
        STORE_ERRORS.inc()
        log.error("%s", error)
