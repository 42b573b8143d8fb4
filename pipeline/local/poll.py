"""Fills a snapshot from what the processes tell over HTTP."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec

from pipeline.api.client import OwnListeners
from pipeline.clock import Clock
from pipeline.local.receiver import Inbox
from pipeline.local.snapshot import (
    Numbers,
    Samples,
    ShownAlert,
    Snapshot,
    by_urgency,
    group_targets,
    place_of,
    rate,
    read_numbers,
    read_samples,
)
from pipeline.local.supervisor import PartState
from pipeline.selfmetrics import fields
from pipeline.settings import Settings

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class _Target(msgspec.Struct, rename="camel"):
    labels: dict[str, str]
    scrape_url: str
    health: str


class _Targets(msgspec.Struct, rename="camel"):
    active_targets: list[_Target]


class _TargetsAnswer(msgspec.Struct):
    data: _Targets


class _WorkerAlert(msgspec.Struct, rename="camel"):
    labels: dict[str, str]
    state: str
    fires_at: datetime | None = None


class _WorkerAlerts(msgspec.Struct):
    alerts: list[_WorkerAlert]


class _WorkerAnswer(msgspec.Struct):
    data: _WorkerAlerts


class _DispatchAlert(msgspec.Struct, rename="camel"):
    labels: dict[str, str]
    starts_at: datetime


class Poller:
    """Looks at a stack again and again; remembers the last counters, for rates."""

    def __init__(
        self,
        settings: Settings,
        session: aiohttp.ClientSession,
        inbox: Inbox,
        missing: Sequence[str],
        hints: Sequence[tuple[str, str]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = Clock(settings.clock)
        self._own = OwnListeners(session, settings.web)
        self._inbox = inbox
        self._missing, self._hints = tuple(missing), tuple(hints)
        self._now = now
        self._last = (now(), Numbers())

    async def look(self, parts: Sequence[PartState]) -> Snapshot:
        """The stack as it is now; what doesn't answer is left out."""
        settings = self._settings
        worker, dispatch, targets, pending, firing = await asyncio.gather(
            self._metrics(settings.worker.listen),
            self._metrics(settings.dispatch.listen),
            self._json(settings.collect.listen, "/api/v1/targets", _TargetsAnswer),
            self._json(settings.worker.listen, "/api/v1/alerts", _WorkerAnswer),
            self._json(settings.dispatch.listen, "/api/v2/alerts", list[_DispatchAlert]),
        )
        numbers = read_numbers(worker, dispatch, settings.clock.speed)
        (before_s, before), now_s = self._last, self._now()
        self._last = (now_s, numbers)
        groups, down = group_targets(
            (target.labels, urlsplit(target.scrape_url).path, target.health)
            for target in (targets.data.active_targets if targets else [])
        )
        event_time_s = self._clock.now()
        return Snapshot(
            event_time_s=event_time_s,
            speed=settings.clock.speed,
            parts=tuple(parts),
            numbers=numbers,
            samples_per_second=rate(before.samples, numbers.samples, now_s - before_s),
            targets=groups,
            down=down,
            pending=_pending(pending, event_time_s),
            firing=by_urgency(
                [
                    _shown(alert.labels, event_time_s - alert.starts_at.timestamp())
                    for alert in firing or []
                    if alert.labels.get("severity") != _FOR_MACHINES
                ]
            ),
            arrivals=tuple(reversed(self._inbox.arrivals)),
            missing=self._missing,
            hints=self._hints,
        )

    async def _metrics(self, address: str) -> Samples | None:
        body = await self._own.get(address, "/metrics")
        return None if body is None else read_samples(body.decode())

    async def _json(self, address: str, path: str, answer: type[Answer]) -> Answer | None:
        body = await self._own.get(address, path)
        try:
            return None if body is None else msgspec.json.decode(body, type=answer)
        except msgspec.DecodeError as error:
            _log.warning(
                "not understood: %s", fields(url=self._own.url(address, path), error=error)
            )
            return None


_FOR_MACHINES = "none"
"""The severity of an alert that wakes nobody: the heartbeat always fires."""


def _pending(answer: _WorkerAnswer | None, event_time_s: float) -> tuple[ShownAlert, ...]:
    return by_urgency(
        [
            _shown(alert.labels, alert.fires_at.timestamp() - event_time_s)
            for alert in (answer.data.alerts if answer else [])
            if alert.state == "pending" and alert.fires_at is not None
        ]
    )


def _shown(labels: dict[str, str], seconds: float) -> ShownAlert:
    return ShownAlert(
        labels.get("alertname", ""), place_of(labels), labels.get("severity", ""), max(0.0, seconds)
    )
