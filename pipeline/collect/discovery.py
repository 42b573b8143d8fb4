"""What is to be watched now: the configuration with what its files of targets say at the moment."""

from __future__ import annotations

import logging

import msgspec

from pipeline.collect.feeds import FeedSpec
from pipeline.collect.feeds_config import FeedsConfig
from pipeline.collect.scrape_config import ScrapeJob
from pipeline.collect.scraper import ScrapeSpec
from pipeline.collect.static_targets import TargetFiles, TargetGroup
from pipeline.collect.targets import Watched, feed_targets, health_targets, scrape_targets

log = logging.getLogger(__name__)


class CollectorConfig(msgspec.Struct, frozen=True):
    """What the configuration files say."""

    jobs: tuple[ScrapeJob, ...] = ()
    feeds: FeedsConfig = FeedsConfig()


class Discovered(msgspec.Struct, frozen=True):
    """Everything to watch, by kind."""

    scrapes: tuple[ScrapeSpec, ...] = ()
    feeds: tuple[FeedSpec, ...] = ()
    probes: tuple[Watched, ...] = ()


class Discovery:
    """Looks at the files of targets, and works out anew what to watch when one has changed."""

    def __init__(self, config: CollectorConfig) -> None:
        self._config = config
        self._files = TargetFiles()
        self._groups: list[list[TargetGroup]] = []
        self._discovered = Discovered()

    def look(self) -> Discovered:
        """What to watch now; what is wrong with the files is logged when they change."""
        problems: list[str] = []
        feeds = self._config.feeds
        sources = [job.sources for job in self._config.jobs]
        sources += [feed_job.sources for feed_job in feeds.feeds]
        sources += [health_job.sources for health_job in feeds.health]
        groups = [self._files.groups(source, problems) for source in sources]
        if groups != self._groups:
            self._groups = groups
            self._discovered = self._discover(groups, problems)
        for problem in problems:
            log.warning("targets: %s", problem)
        return self._discovered

    def _discover(self, groups: list[list[TargetGroup]], problems: list[str]) -> Discovered:
        of_job = iter(groups)
        return Discovered(
            tuple(
                ScrapeSpec(watched, job.honor_labels, job.honor_timestamps, job.metric_relabel)
                for job in self._config.jobs
                for watched in scrape_targets(job, next(of_job), problems)
            ),
            tuple(
                FeedSpec(watched, watched.target.feed, feed_job.token)
                for feed_job in self._config.feeds.feeds
                for watched in feed_targets(feed_job, next(of_job))
            ),
            tuple(
                watched
                for health_job in self._config.feeds.health
                for watched in health_targets(health_job, next(of_job))
            ),
        )
