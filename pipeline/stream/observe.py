"""The worker looks at itself: gauges each second, and whether its offsets still move."""

from __future__ import annotations

import asyncio
import logging

import faust
from aiokafka.errors import KafkaError
from faust.types import TP

from pipeline.clock import Clock
from pipeline.selfmetrics import fields
from pipeline.settings import Settings
from pipeline.stream import metrics
from pipeline.stream.delivery import Deliver
from pipeline.stream.group_offsets import GroupOffsets
from pipeline.stream.liveness import Place, Progress, Silence, Standing, stuck
from pipeline.stream.silent_input import SilentInput
from pipeline.stream.step import Step
from pipeline.stream.worker import Worker

log = logging.getLogger(__name__)

_GAUGES_S, _ASK_S = 1.0, 5.0


class Observer:
    """Watches one worker; `run` returns when the worker gets on no more."""

    def __init__(
        self,
        app: faust.App,
        worker: Worker,
        settings: Settings,
        offsets: GroupOffsets,
        silent_input: SilentInput,
        deliver: Deliver,
    ) -> None:
        self._app = app
        self._worker = worker
        self._settings = settings
        self._offsets = offsets
        self._silent_input = silent_input
        self._deliver = deliver
        self._clock = Clock(settings.clock)
        self._progress = Progress()
        self._silence = Silence()
        self._standings: dict[Place, Standing] | None = None
        """None: Kafka can't be asked."""

    async def run(self) -> list[Place]:
        """Set the gauges until partitions have stood still for too long; those partitions."""
        asking = asyncio.create_task(self._ask(), name="liveness")
        try:
            while not asking.done():
                await self._tell_silence(self._set_gauges())
                await asyncio.wait([asking], timeout=_GAUGES_S)
            return asking.result()
        finally:
            asking.cancel()

    async def _ask(self) -> list[Place]:
        """Ask Kafka how far the group is, again and again, until it stands still."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._standings = await self._offsets.standings(self._assigned())
            except (KafkaError, OSError) as error:
                # Without the broker nothing can move: patience begins anew when it is back.
                log.warning(fields(event="offsets_unknown", error=repr(error)))
                self._progress, self._standings = Progress(), None
            stalled = self._progress.observe(loop.time(), self._standings or {})
            metrics.STALLED.clear()
            for place in self._standings or {}:
                metrics.STALLED.labels(*place).set(stalled.get(place, 0.0))
            standing = stuck(stalled, self._restored(), self._settings.worker.stuck_after)
            if standing:
                return standing
            await asyncio.sleep(_ASK_S)

    def _assigned(self) -> list[Place]:
        """What the group has given to this worker; nothing while it is rebalanced."""
        prefix = self._settings.kafka.topic_prefix
        return [
            (tp.topic.removeprefix(prefix), tp.partition) for tp in self._app.consumer.assignment()
        ]

    def _restored(self) -> list[Place]:
        worker = self._worker
        return [("telemetry", number) for number in worker.partitions] + [
            ("signals", number) for number in worker.fleetwide
        ]

    async def _tell_silence(self, silent_s: dict[int, float]) -> None:
        """Raise the alert on silent input; not while it is Kafka that is away."""
        if self._standings is None:
            return
        alerts = self._silent_input.reports(silent_s, self._clock.now_ms())
        for alert in alerts:
            log.warning(fields(event="input_silence", state=alert.state, labels=alert.labels))
        await self._deliver(Step(alerts=alerts).records(0, 0))

    def _set_gauges(self) -> dict[int, float]:
        """Set them all; seconds of silence of each partition here."""
        assigned = self._assigned()
        watermarks: dict[int, int | None] = {
            n: None for topic, n in assigned if topic == "telemetry"
        }
        for number, partition in self._worker.partitions.items():
            watermarks[number] = partition.watermark_ms
        silent_s = self._set_input_gauges(watermarks)

        def end(topic: str, number: int) -> int | None:
            place = TP(self._settings.topic(topic), number)
            return self._app.consumer.highwater(place) if (topic, number) in assigned else None

        metrics.LAG.clear()
        for topic, number, lag in self._worker.lags(end):
            metrics.LAG.labels(topic, number).set(lag)
        active = self._worker.alert_counts()
        for state in ("pending", "firing"):
            metrics.ACTIVE_ALERTS.labels(state).set(active[state])
        return silent_s

    def _set_input_gauges(self, watermarks: dict[int, int | None]) -> dict[int, float]:
        """Watermark and silence of the partitions here; what another worker has now is cleared."""
        behind = [
            number
            for (topic, number), standing in (self._standings or {}).items()
            if topic == "telemetry" and standing.lag
        ]
        silent = self._silence.observe(asyncio.get_running_loop().time(), watermarks, behind)
        metrics.WATERMARK.clear()
        metrics.SILENT.clear()
        for number, watermark_ms in watermarks.items():
            if watermark_ms is not None:
                metrics.WATERMARK.labels(number).set(watermark_ms / 1000)
            metrics.SILENT.labels(number).set(silent[number])
        return silent
