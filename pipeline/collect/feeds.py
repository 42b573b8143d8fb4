"""Keeps one WebSocket feed connected and turns its messages into frames."""

from __future__ import annotations

import asyncio
import logging
import random

import aiohttp
import msgspec

from pipeline.clock import Clock
from pipeline.collect import metrics
from pipeline.collect.feed_state import STATE, FeedState
from pipeline.collect.frames import FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.collect.outlet import Outlet
from pipeline.collect.pacing import interval_ms
from pipeline.collect.status import Status
from pipeline.collect.targets import Watched
from pipeline.ingest.ledger import read_message
from pipeline.ingest.ledger_feeds import FEEDS
from pipeline.ingest.readings import PayloadError
from pipeline.model import Target
from pipeline.selfmetrics import fields
from pipeline.settings import CollectSettings

log = logging.getLogger(__name__)

BACKOFF_FIRST, BACKOFF_MOST = 0.5, 4.0
"""Seconds of event time; a feed that is down makes more than ten errors a minute."""
STATE_INTERVAL_MS = 1000
CONNECT_TIMEOUT, SILENCE_TIMEOUT = 10.0, 30.0
"""Seconds on the wall clock. The slowest message of a feed comes every 5 s."""
MAX_MESSAGE_BYTES = 4 * 1024 * 1024


class FeedSpec(msgspec.Struct, frozen=True):
    """The socket, and which of the platform's feeds it is."""

    watched: Watched
    feed: str


class FeedClient:
    """One feed of one instance."""

    def __init__(
        self,
        spec: FeedSpec,
        session: aiohttp.ClientSession,
        outlet: Outlet,
        clock: Clock,
        settings: CollectSettings,
    ) -> None:
        target = spec.watched.target
        self.status = Status(spec.watched)
        self.state = FeedState(target.feed)
        self._spec = spec
        self._session = session
        self._outlet = outlet
        self._clock = clock
        naming = SeriesNaming(spec.watched.labels)
        self._builder = FrameBuilder(target, naming, settings.max_series_per_target)
        self._state_target = Target(target.job, target.instance, target.feed + STATE)
        self._state_builder = FrameBuilder(self._state_target, naming)

    async def run(self) -> None:
        """Stay connected until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._report())
            tasks.create_task(self._stay_connected())

    def end(self) -> None:
        """The feed is no longer watched: its series end."""
        now_ms = self._clock.now_ms()
        self._outlet.end(self._spec.watched.target, self._builder.end(now_ms))
        self._outlet.end(self._state_target, self._state_builder.end(now_ms))

    async def _report(self) -> None:
        pause = interval_ms(STATE_INTERVAL_MS, self._clock.speed) / 1000
        while True:
            built = self._state_builder.complete(self.state.readings(), self._clock.now_ms())
            self._outlet.put(self._state_target, built)
            await self._clock.sleep(pause)

    async def _stay_connected(self) -> None:
        backoff = BACKOFF_FIRST
        while True:
            heard = self.state.messages
            try:
                await self._listen()
                self._failed("closed by the other side")
            except (aiohttp.ClientError, OSError, ValueError) as error:
                self._failed(str(error) or type(error).__name__)
            finally:
                self.state.up = False
            now_ms = self._clock.now_ms()
            self._outlet.put(self._spec.watched.target, self._builder.end(now_ms))
            if self.state.messages > heard:
                backoff = BACKOFF_FIRST
            # Jitter, so that a fleet doesn't come back in step; nothing secret.
            await self._clock.sleep(backoff * random.uniform(0.8, 1.0))  # noqa: S311
            backoff = min(2 * backoff, BACKOFF_MOST)

    async def _listen(self) -> None:
        """Connect, subscribe and read until the other side closes.

        TimeoutError (an OSError) comes from a socket that says nothing.
        """
        timeout = aiohttp.ClientWSTimeout(ws_receive=SILENCE_TIMEOUT, ws_close=2.0)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            socket = await self._session.ws_connect(
                self._spec.watched.url, timeout=timeout, max_msg_size=MAX_MESSAGE_BYTES
            )
        async with socket:
            self.state.connects += 1
            self.state.up = True
            if self.status.health == "down":
                log.info("feed is up again: %s", fields(url=self._spec.watched.url))
            for text in FEEDS[self._spec.feed].subscribe:
                await socket.send_str(text)
            async for message in socket:
                if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    self._message(message.data)

    def _message(self, payload: str | bytes) -> None:
        time_ms = self._clock.now_ms()
        self.state.messages += 1
        self.status.succeeded(time_ms)
        try:
            readings = read_message(self._spec.feed, payload)
        except PayloadError as error:
            self.state.errors += 1
            metrics.REJECTED.labels(error.reason).inc()
            self.status.last_error = str(error)
            return
        if readings is not None:
            built = self._builder.message(readings, time_ms)
            self._outlet.put(self._spec.watched.target, built, len(readings.series))

    def _failed(self, error: str) -> None:
        self.state.errors += 1
        if self.status.health != "down":
            log.warning("feed is down: %s", fields(url=self._spec.watched.url, error=error))
        self.status.failed(error, self._clock.now_ms())
