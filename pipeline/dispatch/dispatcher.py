"""The board with its surroundings: the clock, the store, and the channels to the receivers.

Everything runs on arrival or on one timer; nothing polls. The order of things is always: change the
board, commit, then answer or send.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from pipeline.alerts.board import Board
from pipeline.alerts.incident import Report
from pipeline.alerts.notification import Intent
from pipeline.clock import Clock
from pipeline.dispatch.delivery import Channel
from pipeline.dispatch.metrics import (
    ALERTS_ACTIVE,
    ALERTS_IGNORED,
    ALERTS_RECEIVED,
    GROUPS,
    LATENCY,
    OLDEST_UNDELIVERED,
    OUTBOX,
    STORE_ERRORS,
)
from pipeline.dispatch.store import Store, StoreError
from pipeline.selfmetrics import fields

log = logging.getLogger(__name__)

SHORTEST_PATIENCE = 10.0
"""A delivery is tried for a group_interval, but not for less than this (Alertmanager's rule)."""
LAST_REQUESTS = 2.0
"""How long closing waits for requests that are under way."""


class Dispatcher:
    """Takes reports in, and sees to it that receivers are told."""

    def __init__(
        self, board: Board, store: Store, channels: Mapping[str, Channel], clock: Clock
    ) -> None:
        """Restore what `store` holds; `channels` has one for each integration, by its id."""
        self.board = board
        self._store = store
        self._channels = channels
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._deliveries: set[asyncio.Task[None]] = set()
        self._closed = False
        self._restored = board.restore(store.load(), clock.now_ms())
        self._observe_state()
        log.info(
            "restored %s",
            fields(alerts=len(board.alerts), groups=len(board.groups), outbox=len(board.outbox)),
        )

    def start(self) -> None:
        """Go on where the store's last commit was: nothing is sent before."""
        restored, self._restored = self._restored, []
        self._proceed(restored)

    def accept(self, reports: Iterable[Report]) -> asyncio.Future[None]:
        """A future that is done when `reports` are stored; it raises StoreError if they aren't.

        What is due at once is sent as soon as it is stored.
        """
        now_ms = self._clock.now_ms()
        for report in reports:
            ALERTS_RECEIVED.labels(report.source).inc()
            outcome = self.board.report(report, now_ms)
            if outcome != "accepted":
                ALERTS_IGNORED.labels(outcome).inc()
        return self._proceed([])

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

    def _proceed(self, intents: list[Intent]) -> asyncio.Future[None]:
        """Flush what is due, store all changes, then deliver `intents` and what the flush gave."""
        now_ms = self._clock.now_ms()
        if not self._closed:
            intents = intents + self.board.flush_due(now_ms)
            self.board.clean_up(now_ms)
            self._arm(now_ms)
        committed = self._store.write(self.board.take_changes())
        committed.add_done_callback(_count_failure)
        for intent in intents:
            task = asyncio.create_task(self._deliver(intent, committed))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)
        return committed

    def _arm(self, now_ms: int) -> None:
        """Wake when the next group is due."""
        if self._timer is not None:
            self._timer.cancel()
        wait = self._clock.wall((self.board.next_due_ms() - now_ms) / 1000)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, wait), self._proceed, [])

    async def _deliver(self, intent: Intent, committed: asyncio.Future[None]) -> None:
        # A notification that can't be written down is better sent twice than not at all; the
        # failure itself is counted and logged where it happened.
        await asyncio.wait([committed])
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


def _count_failure(committed: asyncio.Future[None]) -> None:
    error = None if committed.cancelled() else committed.exception()
    if isinstance(error, StoreError):
        STORE_ERRORS.inc()
        log.error("%s", error)
