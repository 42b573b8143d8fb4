"""Keeps one WebSocket feed connected and turns its messages into frames."""

from __future__ import annotations

import asyncio
import logging
import random

import aiohttp
import msgspec
import numpy as np

from pipeline.api.client import login_of
from pipeline.clock import Clock
from pipeline.collect import metrics
from pipeline.collect.feed_state import STATE, FeedState
from pipeline.collect.feeds_config import Token
from pipeline.collect.frames import FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.collect.outlet import Outlet
from pipeline.collect.pacing import interval_ms
from pipeline.collect.status import Status
from pipeline.collect.targets import Watched
from pipeline.ingest.ledger import FeedReader, Heard
from pipeline.ingest.ledger_feeds import FEEDS, RefusedError
from pipeline.ingest.readings import PayloadError, Readings
from pipeline.model import Target
from pipeline.secret import SecretError
from pipeline.selfmetrics import fields
from pipeline.settings import CollectSettings
from pipeline.tls import TlsError

log = logging.getLogger(__name__)

BACKOFF_FIRST, BACKOFF_MOST = 0.5, 4.0
"""Seconds of event time; a feed that is down makes more than ten errors a minute."""
STATE_INTERVAL_MS = 1000
KEEP_ALIVE_MS = 20_000
"""Event time. The platform closes who says nothing for 60 s."""
MOST_AHEAD_MS = 1000
"""Messages that come faster than one a millisecond are refused beyond this."""
CONNECT_TIMEOUT, SILENCE_TIMEOUT, HEARTBEAT = 10.0, 30.0, 15.0
"""Seconds on the wall clock. The slowest message of a feed that isn't quiet comes every 5 s; a
connection over which nothing comes for `HEARTBEAT` gets a ping, and has half of it for the pong."""
MAX_MESSAGE_BYTES = 1024 * 1024
"""A list of all the platform's 145 nodes has a third of it."""
MAX_SERIES = 2000
"""Of one feed; those that nobody mentions for five minutes make room."""

_POLICY_VIOLATION, _TOO_BIG = 1008, 1009


class FeedSpec(msgspec.Struct, frozen=True):
    """The socket, and which of the platform's feeds it is."""

    watched: Watched
    feed: str
    token: Token = Token()


class FeedError(Exception):
    """Why a feed can't be followed any longer; `reason` is one of a small fixed set."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


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
        self._feed = FEEDS[spec.feed]
        self._reader = FeedReader(spec.feed)
        self._token = ""  # nosec B105 - none yet: it is read when the socket opens
        self._session = session
        self._outlet = outlet
        self._clock = clock
        naming = SeriesNaming(spec.watched.labels)
        most = min(MAX_SERIES, settings.max_series_per_target)
        self._builder = FrameBuilder(target, naming, most)
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
        """The state of the connection and what was counted, every second."""
        pause = interval_ms(STATE_INTERVAL_MS, self._clock.speed) / 1000
        while True:
            readings = _both(self.state.readings(), self._reader.counted())
            built = self._state_builder.complete(readings, self._clock.now_ms())
            self._outlet.put(self._state_target, built)
            await self._clock.sleep(pause)

    async def _stay_connected(self) -> None:
        backoff = BACKOFF_FIRST
        while True:
            heard = self.state.messages
            try:
                await self._follow()
            except FeedError as error:
                self._failed(error.reason, str(error))
            except (aiohttp.ClientError, OSError, ValueError) as error:
                self._failed("connection", str(error) or type(error).__name__)
            finally:
                self.state.up = False
            now_ms = self._clock.now_ms()
            self._outlet.put(self._spec.watched.target, self._builder.end(now_ms))
            if self.state.messages > heard:
                backoff = BACKOFF_FIRST
            # Jitter, so that a fleet doesn't come back in step; nothing secret.
            await self._clock.sleep(backoff * random.uniform(0.8, 1.0))  # noqa: S311
            backoff = min(2 * backoff, BACKOFF_MOST)

    async def _follow(self) -> None:
        """Connect, say what has to be said, and read.

        Raises
        ------
        FeedError, aiohttp.ClientError, OSError, ValueError
            It can't go on.
        """
        async with await self._connect() as socket:
            self.state.connects += 1
            self.state.up = True
            if self._feed.login == "none":
                self._succeeded(self._clock.now_ms())
            for text in self._feed.opening(self._token):
                await socket.send_str(text)
            speaking = asyncio.create_task(self._keep_alive(socket))
            try:
                await self._listen(socket)
            finally:
                speaking.cancel()
                await asyncio.wait([speaking])

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        headers = {}
        if self._feed.login != "none":
            try:
                self._token = self._spec.token.read()
            except SecretError as error:
                raise FeedError("token", str(error)) from error
        if self._feed.login == "request":
            headers["Authorization"] = f"Bearer {self._token}"
        watched = self._spec.watched
        try:
            keywords = login_of(watched.http).keywords(headers)
        except (SecretError, TlsError) as error:
            raise FeedError("token", str(error)) from error
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await self._session.ws_connect(
                    watched.url,
                    **keywords,
                    heartbeat=HEARTBEAT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
                    max_msg_size=MAX_MESSAGE_BYTES,
                )
        except TimeoutError:
            message = f"no connection within {CONNECT_TIMEOUT:g} s"
            raise FeedError("connection", message) from None

    async def _keep_alive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        pause = interval_ms(KEEP_ALIVE_MS, self._clock.speed) / 1000
        while self._feed.keep_alive:
            await self._clock.sleep(pause)
            for text in self._feed.keep_alive:
                try:
                    await socket.send_str(text)
                except ConnectionError:
                    return  # the reader sees it too

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Read until it can't go on."""
        silence = None if self._feed.quiet else SILENCE_TIMEOUT
        while True:
            try:
                async with asyncio.timeout(silence):  # aiohttp's own would begin anew at each pong
                    message = await socket.receive()
            except TimeoutError:
                raise FeedError("silent", f"no message within {SILENCE_TIMEOUT:g} s") from None
            if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                for text in self._message(message.data):
                    await socket.send_str(text)
                # What is in the buffer comes without waiting: others have their turn in between.
                await asyncio.sleep(0)
            elif message.type is aiohttp.WSMsgType.ERROR:
                raise _broken(message.data)
            else:
                code = socket.close_code
                reason = "refused" if code == _POLICY_VIOLATION else "closed"
                raise FeedError(reason, f"closed by the other side with code {code}")

    def _message(self, payload: str | bytes) -> tuple[str, ...]:
        """Take over what a message says; what to answer."""
        time_ms = self._clock.now_ms()
        self.state.messages += 1
        try:
            if self._builder.last_ms > time_ms + MOST_AHEAD_MS:
                raise PayloadError("too_fast", "expected at most a message a millisecond")
            heard = self._reader.read(payload)
        except RefusedError as error:
            raise FeedError("refused", str(error)) from error
        except PayloadError as error:
            self.state.errors += 1
            metrics.REJECTED.labels(error.reason).inc()
            self.status.last_error = self._hidden(str(error))
            return ()
        # Before we are let in by message, there is but the request to show the token.
        if self._feed.login != "message" or heard != Heard() or self.status.health == "up":
            self._succeeded(time_ms)
        if heard.readings is not None:
            built = self._builder.message(heard.readings, time_ms)
            self._outlet.put(self._spec.watched.target, built, len(heard.readings.series))
        return heard.answers

    def _succeeded(self, time_ms: int) -> None:
        if self.status.health == "down":
            log.info("feed is up again: %s", fields(url=self._spec.watched.url))
        self.status.succeeded(time_ms)

    def _failed(self, reason: str, message: str) -> None:
        error = self._hidden(message)
        self.state.errors += 1
        metrics.FEED_FAILURES.labels(reason).inc()
        if self.status.health != "down":
            log.warning("feed is down: %s", fields(url=self._spec.watched.url, error=error))
        self.status.failed(error, self._clock.now_ms())

    def _hidden(self, text: str) -> str:
        """`text` without our token, which the other side may have sent back."""
        return text.replace(self._token, "<secret>") if self._token else text


def _broken(error: object) -> FeedError:
    """What aiohttp found wrong with the connection."""
    if isinstance(error, aiohttp.ServerTimeoutError):
        return FeedError("silent", f"no pong within {HEARTBEAT / 2:g} s of a ping")
    if isinstance(error, aiohttp.WebSocketError):
        reason = "too_large" if error.code == _TOO_BIG else "protocol"
        return FeedError(reason, str(error))
    return FeedError("connection", str(error) or type(error).__name__)


def _both(readings: Readings, more: Readings | None) -> Readings:
    if more is None:
        return readings
    return Readings((*readings.series, *more.series), np.append(readings.values, more.values))
