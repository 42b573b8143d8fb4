"""Scrapes one target over and over, with the report and the staleness that Prometheus gives."""

from __future__ import annotations

import logging
import time
from functools import partial

import aiohttp
import msgspec

from pipeline.clock import Clock
from pipeline.collect import metrics
from pipeline.collect.fetch import FetchError, fetch
from pipeline.collect.frames import Built, FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.collect.outlet import Outlet
from pipeline.collect.pacing import interval_ms, next_due_ms
from pipeline.collect.relabel import Relabel
from pipeline.collect.status import Status
from pipeline.collect.targets import Watched
from pipeline.collect.turns import LARGE_BYTES, LARGE_SERIES, Turns
from pipeline.ingest.prometheus_text import TextParser
from pipeline.ingest.readings import Readings
from pipeline.ingest.series_text import ParseError
from pipeline.model import Series
from pipeline.selfmetrics import fields
from pipeline.settings import CollectSettings

log = logging.getLogger(__name__)

ACCEPT = "text/plain;version=0.0.4;q=1,*/*;q=0.1"


class ScrapeSpec(msgspec.Struct, frozen=True):
    """What to scrape, and what to do with the series."""

    watched: Watched
    honor_labels: bool = False
    honor_timestamps: bool = True
    metric_relabel: tuple[Relabel, ...] = ()


class Scraper:
    """The scrapes of one target."""

    def __init__(
        self,
        spec: ScrapeSpec,
        session: aiohttp.ClientSession,
        outlet: Outlet,
        clock: Clock,
        settings: CollectSettings,
        turns: Turns,
    ) -> None:
        """`turns` is shared by all scrapers."""
        watched = spec.watched
        self.status = Status(watched)
        self.parser = TextParser()
        self._spec = spec
        self._session = session
        self._outlet = outlet
        self._clock = clock
        self._turns = turns
        self._layout: tuple[Series, ...] = ()
        """Of the last scrape: the builder knows it."""
        self._max_bytes = settings.max_body_bytes
        naming = SeriesNaming(watched.labels, spec.honor_labels, spec.metric_relabel)
        self._builder = FrameBuilder(watched.target, naming, settings.max_series_per_target)
        timeout_s = watched.timeout_ms / 1000
        self._headers = {
            "Accept": ACCEPT,
            "X-Prometheus-Scrape-Timeout-Seconds": f"{timeout_s:g}",
        }

    async def run(self) -> None:
        """Scrape at each due time until cancelled; a time that has passed is left out."""
        target = self._spec.watched.target
        pause = interval_ms(self._spec.watched.interval_ms, self._clock.speed)
        while True:
            due_ms = next_due_ms(target, pause, self._clock.now_ms())
            await self._clock.sleep_until(due_ms / 1000)
            await self.scrape()

    async def scrape(self) -> None:
        """One scrape, from the request to the frame."""
        target = self._spec.watched.target
        time_ms = self._clock.now_ms()
        with self._outlet.holding(target, time_ms):
            began = time.perf_counter()
            readings, error = await self._read()
            duration_s = time.perf_counter() - began
            built = await self._frames(readings, time_ms, duration_s)
            self._outlet.put(target, built, 0 if readings is None else len(readings.series))
        self._note(error, time_ms, duration_s)

    def end(self) -> None:
        """The target is no longer there: its series end."""
        self._outlet.end(self._spec.watched.target, self._builder.end(self._clock.now_ms()))

    async def _read(self) -> tuple[Readings | None, FetchError | ParseError | None]:
        watched = self._spec.watched
        try:
            body = await fetch(
                self._session,
                watched.url,
                watched.timeout_ms / 1000,
                self._max_bytes,
                http=watched.http,
                headers=self._headers,
            )
            readings = self.parser.parse_known(body)
            if readings is None:
                readings = await self._parse_new(body)
        except (FetchError, ParseError) as error:
            return None, error
        if not self._spec.honor_timestamps and readings.times_ms is not None:
            readings = msgspec.structs.replace(readings, times_ms=None)
        return readings, None

    async def _parse_new(self, body: bytes) -> Readings:
        return await self._turns.do(partial(self.parser.parse, body), large=len(body) > LARGE_BYTES)

    async def _frames(self, readings: Readings | None, time_ms: int, duration_s: float) -> Built:
        build = partial(self._builder.scrape, readings, time_ms, duration_s)
        if readings is None or readings.series is self._layout:
            return build()
        self._layout = readings.series
        if len(readings.series) <= LARGE_SERIES:
            return build()
        return await self._turns.do(build, large=True)

    def _note(self, error: FetchError | ParseError | None, time_ms: int, duration_s: float) -> None:
        if error is None:
            if self.status.health == "down":
                log.info("target is up again: %s", fields(url=self._spec.watched.url))
            metrics.SCRAPES.labels("ok").inc()
            self.status.succeeded(time_ms, duration_s)
            return
        outcome = error.outcome if isinstance(error, FetchError) else "malformed"
        metrics.SCRAPES.labels(outcome).inc()
        if self.status.health != "down":
            log.warning("scrape failed: %s", fields(url=self._spec.watched.url, error=error))
        self.status.failed(str(error), time_ms, duration_s)
