"""Asks one health endpoint over and over."""

from __future__ import annotations

import time

import aiohttp
import numpy as np

from pipeline.clock import Clock
from pipeline.collect import metrics
from pipeline.collect.fetch import FetchError, fetch
from pipeline.collect.frames import FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.collect.outlet import Outlet
from pipeline.collect.pacing import interval_ms, next_due_ms
from pipeline.collect.status import Status
from pipeline.collect.targets import Watched
from pipeline.ingest.health import HEALTH_UP, PROBE_DURATION, read_health
from pipeline.ingest.readings import PayloadError, Readings
from pipeline.settings import CollectSettings

ACCEPTED = frozenset({200, 503})
"""503 is how a node says that it is down."""
MAX_HEALTH_BYTES = 1024 * 1024
_UNREACHABLE = Readings((HEALTH_UP,), np.zeros(1))


class HealthProbe:
    """The health endpoint of one instance."""

    def __init__(
        self,
        watched: Watched,
        session: aiohttp.ClientSession,
        outlet: Outlet,
        clock: Clock,
        settings: CollectSettings,
    ) -> None:
        self.status = Status(watched)
        self._watched = watched
        self._session = session
        self._outlet = outlet
        self._clock = clock
        self._builder = FrameBuilder(
            watched.target, SeriesNaming(watched.labels), settings.max_series_per_target
        )

    async def run(self) -> None:
        """Probe at each due time until cancelled."""
        pause = interval_ms(self._watched.interval_ms, self._clock.speed)
        while True:
            due_ms = next_due_ms(self._watched.target, pause, self._clock.now_ms())
            await self._clock.sleep_until(due_ms / 1000)
            await self.probe()

    async def probe(self) -> None:
        """One question; no answer, or one that can't be read, means that the node isn't up."""
        time_ms = self._clock.now_ms()
        with self._outlet.holding(self._watched.target, time_ms):
            began = time.perf_counter()
            readings = _UNREACHABLE
            error, outcome = "", "ok"
            try:
                timeout_s = self._watched.timeout_ms / 1000
                body = await fetch(
                    self._session,
                    self._watched.url,
                    timeout_s,
                    MAX_HEALTH_BYTES,
                    http=self._watched.http,
                    accept=ACCEPTED,
                )
                readings = read_health(body)
            except FetchError as failure:
                error, outcome = str(failure), failure.outcome
            except PayloadError as failure:
                error, outcome = str(failure), "malformed"
                metrics.REJECTED.labels(failure.reason).inc()
            metrics.PROBES.labels(outcome).inc()
            duration_s = time.perf_counter() - began
            series = (*readings.series, PROBE_DURATION)
            values = np.append(readings.values, duration_s)
            built = self._builder.complete(Readings(series, values), time_ms)
            self._outlet.put(self._watched.target, built, len(series))
        if error:
            self.status.failed(error, time_ms, duration_s)
        else:
            self.status.succeeded(time_ms, duration_s)

    def end(self) -> None:
        """The endpoint is no longer watched: its series end."""
        self._outlet.end(self._watched.target, self._builder.end(self._clock.now_ms()))
