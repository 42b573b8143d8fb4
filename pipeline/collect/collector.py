"""The collector as a whole: everything that is watched, what it feeds, and what it serves."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import aiohttp
from aiohttp import web

from pipeline.api.http import new_app
from pipeline.clock import Clock
from pipeline.collect.batcher import Batcher
from pipeline.collect.discovery import CollectorConfig, Discovery
from pipeline.collect.feed_state import FAMILIES as FEED_FAMILIES
from pipeline.collect.feeds import FeedClient, FeedSpec
from pipeline.collect.feeds_config import FeedsConfig, load_feeds_config
from pipeline.collect.fleet_metrics import CONTENT_TYPE, FleetPage
from pipeline.collect.health import HealthProbe
from pipeline.collect.host import HostWatcher, host_watched
from pipeline.collect.outlet import Outlet
from pipeline.collect.pool import Pool
from pipeline.collect.producer import Producer
from pipeline.collect.scrape_config import ScrapeJob, load_scrape_config
from pipeline.collect.scraper import Scraper, ScrapeSpec
from pipeline.collect.status import Status
from pipeline.collect.targets import Watched
from pipeline.collect.targets_api import metadata_json, targets_json
from pipeline.collect.turns import Turns
from pipeline.document import ConfigError
from pipeline.ingest import health, host, ledger
from pipeline.ingest.readings import Family
from pipeline.settings import Settings

log = logging.getLogger(__name__)

DISCOVERY_INTERVAL = 1.0
"""Seconds on the wall clock between two looks at the files that list targets."""
_JSON = "application/json"
_LAST_WORDS = 3.0
"""Seconds that stopping waits for Kafka."""
_REPORT_FAMILIES = {
    "up": Family("gauge", "1 if the last scrape succeeded."),
    "scrape_duration_seconds": Family("gauge", "Duration of the scrape."),
    "scrape_samples_scraped": Family("gauge", "Samples that the target exposed."),
    "scrape_samples_post_metric_relabeling": Family("gauge", "Samples left after relabelling."),
    "scrape_series_added": Family("gauge", "Series that were new in this scrape."),
}


def load_config(settings: Settings) -> CollectorConfig:
    """The scrape and feed configurations that `settings` names.

    Raises
    ------
    ConfigError
        With every problem of both files.
    """
    problems: list[str] = []
    jobs: tuple[ScrapeJob, ...] = ()
    feeds = FeedsConfig()
    try:
        if settings.collect.scrape_config:
            jobs = load_scrape_config(Path(settings.collect.scrape_config))
    except ConfigError as error:
        problems += error.problems
    try:
        if settings.collect.feeds_config:
            feeds = load_feeds_config(Path(settings.collect.feeds_config))
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)
    return CollectorConfig(jobs, feeds)


class Collector:
    """Watches what the configuration names; `run` it as a task."""

    def __init__(
        self,
        settings: Settings,
        config: CollectorConfig,
        producer: Producer,
        session: aiohttp.ClientSession,
    ) -> None:
        collect = settings.collect
        clock = Clock(settings.clock)
        hostname = socket.gethostname()
        self._discovery = Discovery(config)
        self.batcher = Batcher(producer, settings, clock, collect.name or hostname)
        self.page = FleetPage(
            ledger.families() | FEED_FAMILIES | health.FAMILIES | host.FAMILIES | _REPORT_FAMILIES
        )
        turns = Turns()
        scraped = Outlet(self.batcher, "scrape")
        pushed = Outlet(self.batcher, "websocket", self.page)
        probed = Outlet(self.batcher, "health", self.page)
        built_in = Outlet(self.batcher, "host", self.page)
        self._scrapes: Pool[ScrapeSpec, Scraper] = Pool(
            "scrape", lambda spec: Scraper(spec, session, scraped, clock, collect, turns)
        )
        self._feeds: Pool[FeedSpec, FeedClient] = Pool(
            "websocket", lambda spec: FeedClient(spec, session, pushed, clock, collect)
        )
        self._health: Pool[Watched, HealthProbe] = Pool(
            "health", lambda spec: HealthProbe(spec, session, probed, clock, collect)
        )
        self._host: Pool[Watched, HostWatcher] = Pool(
            "host", lambda spec: HostWatcher(spec, session, (scraped, built_in), clock, collect)
        )
        self._this_machine = [host_watched(hostname, collect)] if collect.host else []

    async def run(self) -> None:
        """Watch, and follow the files that list targets, until cancelled."""
        sending = asyncio.create_task(self.batcher.run())
        try:
            while not sending.done():
                await self.discover()
                await asyncio.sleep(DISCOVERY_INTERVAL)
            await sending
        finally:
            for pool in (self._scrapes, self._feeds, self._health, self._host):
                await pool.stop()
            await self._send_the_rest(sending)

    async def discover(self) -> None:
        """Start and end watching as the lists of targets say now."""
        discovered = self._discovery.look()
        await self._scrapes.reconcile(discovered.scrapes)
        await self._feeds.reconcile(discovered.feeds)
        await self._health.reconcile(discovered.probes)
        await self._host.reconcile(self._this_machine)

    def app(self) -> web.Application:
        """What the collector serves."""
        app = new_app()

        async def fleet(_request: web.Request) -> web.Response:
            return web.Response(
                body=self.page.render().encode(), headers={"Content-Type": CONTENT_TYPE}
            )

        async def targets(_request: web.Request) -> web.Response:
            return web.Response(body=targets_json(self.statuses()), content_type=_JSON)

        async def metadata(_request: web.Request) -> web.Response:
            watchers: list[Scraper | HostWatcher] = [*self._scrapes.watchers, *self._host.watchers]
            body = metadata_json((watcher.status, watcher.parser.families) for watcher in watchers)
            return web.Response(body=body, content_type=_JSON)

        app.router.add_get("/metrics/fleet", fleet)
        app.router.add_get("/api/v1/targets", targets)
        app.router.add_get("/api/v1/targets/metadata", metadata)
        return app

    def statuses(self) -> list[Status]:
        """The state of everything that is watched."""
        return [
            watcher.status
            for pool in (self._scrapes, self._feeds, self._health, self._host)
            for watcher in pool.watchers
        ]

    async def _send_the_rest(self, sending: asyncio.Task[None]) -> None:
        try:
            async with asyncio.timeout(_LAST_WORDS):
                await self.batcher.flush()
        except TimeoutError:
            log.warning("stopped while frames were waiting for Kafka")
        sending.cancel()
        await asyncio.wait([sending])
