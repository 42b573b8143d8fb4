"""Where the frames of a watcher go: to Kafka, and to the fleet page if it shows them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.collect import metrics
from pipeline.collect.batcher import Batcher
from pipeline.collect.fleet_metrics import FleetPage
from pipeline.collect.frames import Built
from pipeline.model import Target
from pipeline.selfmetrics import fields

log = logging.getLogger(__name__)


class Outlet:
    """Takes what one kind of watcher builds."""

    def __init__(self, batcher: Batcher, source: str, page: FleetPage | None = None) -> None:
        self._batcher = batcher
        self._page = page
        self._samples = metrics.SAMPLES.labels(source)
        self._too_many: set[int] = set()
        """Targets that had more series than they may have."""

    def put(self, target: Target, built: Built, samples: int = 0) -> None:
        """Pass on what was built of `samples` samples."""
        self._samples.inc(samples)
        for reason, count in (
            ("series_limit", built.dropped),
            ("duplicate_series", built.duplicates),
            ("late_sample", built.late),
            ("future_sample", built.ahead),
        ):
            if count:
                metrics.REJECTED.labels(reason).inc(count)
        if built.dropped:
            self._over_limit(target, built.dropped)
        self._batcher.put(target, built)
        if self._page is not None:
            self._page.observe(built)

    def end(self, target: Target, built: Built) -> None:
        """Pass on the last frames of a target that is no longer watched."""
        self.put(target, built)
        self._too_many.discard(target.id)
        if self._page is not None:
            self._page.forget(target)

    def _over_limit(self, target: Target, dropped: int) -> None:
        metrics.OVER_LIMIT.labels(target.job, target.instance, target.feed).inc(dropped)
        if target.id not in self._too_many:
            self._too_many.add(target.id)
            log.warning("more series than collect.max_series_per_target: %s", fields(target=target))

    @contextmanager
    def holding(self, target: Target, time_ms: int) -> Iterator[None]:
        """Within this, a frame of `target` with this time is still to come."""
        with self._batcher.holding(target, time_ms):
            yield
