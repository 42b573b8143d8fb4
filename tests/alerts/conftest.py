"""Makers of reports, routes and boards for the tests of alerts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.alerts.board import Board
from pipeline.alerts.config import load_config
from pipeline.alerts.incident import Report, Source
from pipeline.alerts.notification import Integration
from pipeline.alerts.route import build_routes
from pipeline.model import fingerprint, labels_from

MINUTE_MS = 60_000

ReportMaker = Callable[..., Report]
BoardMaker = Callable[..., Board]


@pytest.fixture
def report() -> ReportMaker:
    def make(
        time_ms: int,
        name: str = "Down",
        *,
        ends_in_ms: int = 4 * MINUTE_MS,
        starts_at_ms: int | None = None,
        source: Source = "api",
        timed_out: bool = False,
        sample_time_ms: int = 0,
        **labels: str,
    ) -> Report:
        pairs = labels_from({"alertname": name} | labels)
        ends_at_ms = time_ms + ends_in_ms
        return Report(
            fingerprint=fingerprint(pairs),
            labels=pairs,
            annotations=(("summary", name),),
            starts_at_ms=min(time_ms, ends_at_ms) if starts_at_ms is None else starts_at_ms,
            ends_at_ms=ends_at_ms,
            time_ms=time_ms,
            source=source,
            timed_out=timed_out,
            sample_time_ms=sample_time_ms,
        )

    return make


@pytest.fixture
def board() -> BoardMaker:
    """A board at time 0 whose routes are `text`; every receiver has one webhook."""

    def make(text: str, *, send_resolved: bool = True, webhooks: int = 1) -> Board:
        config = load_config(text, "test.yml")
        integrations = {
            receiver.name: tuple(
                Integration(receiver.name, "webhook", i, send_resolved) for i in range(webhooks)
            )
            for receiver in config.receivers
        }
        return Board(build_routes(config.route), integrations, 0)

    return make
