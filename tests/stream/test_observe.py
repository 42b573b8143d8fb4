from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP
from prometheus_client import REGISTRY

from pipeline.settings import Settings, WorkerSettings
from pipeline.stream import observe
from pipeline.stream.liveness import Place, Standing
from pipeline.stream.observe import Observer

SETTINGS = msgspec.structs.replace(Settings(), worker=WorkerSettings(stuck_after=0.05))


class Consumer:
    """Of a Faust application: what is assigned, and how far the partitions reach."""

    def __init__(self, *places: Place) -> None:
        self.places = places

    def assignment(self) -> set[TP]:
        return {TP(topic, number) for topic, number in self.places}

    def highwater(self, _place: TP) -> int:
        return 10


class Offsets:
    """Kafka's answers, one after the other; the last one stays. An error is raised."""

    def __init__(self, *answers: Standing | KafkaConnectionError) -> None:
        self.answers = list(answers)
        self.asked = asyncio.Event()

    async def standings(self, places: Iterable[Place]) -> dict[Place, Standing]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if len(self.answers) == 1:
            self.asked.set()
        if isinstance(answer, KafkaConnectionError):
            raise answer
        return dict.fromkeys(places, answer)


class Worker:
    def __init__(self, watermarks: dict[int, int]) -> None:
        self.partitions = {
            number: SimpleNamespace(watermark_ms=time_ms) for number, time_ms in watermarks.items()
        }
        self.fleetwide: dict[int, object] = {}

    def lags(self, end: Any) -> list[tuple[str, int, int]]:
        return [("telemetry", number, end("telemetry", number) - 4) for number in self.partitions]

    def alert_counts(self) -> dict[str, int]:
        return {"pending": 2, "firing": 1}


def observer(worker: Worker, offsets: Offsets, *places: Place) -> Observer:
    app: Any = SimpleNamespace(consumer=Consumer(*places))  # what Observer looks at of an app
    stand_in: Any = worker
    asked: Any = offsets
    return Observer(app, stand_in, SETTINGS, asked)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "_ASK_S", 0.01)
    monkeypatch.setattr(observe, "_GAUGES_S", 0.01)


def gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_it_ends_with_the_partitions_that_have_stood_still_for_too_long():
    place = ("telemetry", 1)
    stuck = observer(Worker({1: 5000}), Offsets(Standing(4, 9)), place).run()
    assert await asyncio.wait_for(stuck, 20) == [place]
    stalled = gauge("watchkeeper_commits_stalled_seconds", topic="telemetry", partition="1")
    assert stalled is not None
    assert stalled > 0.05


@pytest.mark.parametrize(
    "answer", [Standing(9, 9), KafkaConnectionError("away")], ids=["no lag", "no broker"]
)
async def test_it_goes_on_without_lag_and_without_a_broker(
    answer: Standing | KafkaConnectionError,
):
    # After each of these answers patience begins anew.
    offsets = Offsets(*[Standing(4, 9), answer] * 20, Standing(9, 9))
    running = asyncio.create_task(observer(Worker({1: 5000}), offsets, ("telemetry", 1)).run())
    await asyncio.wait_for(offsets.asked.wait(), 20)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_gauges_are_of_the_partitions_that_are_here_now():
    places = ("telemetry", 0), ("telemetry", 1)
    before = observer(Worker({0: 5000, 1: 7000}), Offsets(Standing(9, 9)), *places)
    before._set_gauges()
    assert gauge("watchkeeper_watermark_timestamp_seconds", partition="1") == 7.0
    after = observer(Worker({0: 6000}), Offsets(Standing(9, 9)), ("telemetry", 0))
    after._set_gauges()
    assert gauge("watchkeeper_watermark_timestamp_seconds", partition="0") == 6.0
    assert gauge("watchkeeper_watermark_timestamp_seconds", partition="1") is None
    assert gauge("watchkeeper_kafka_lag_records", topic="telemetry", partition="0") == 6
    assert gauge("watchkeeper_kafka_lag_records", topic="telemetry", partition="1") is None
    assert gauge("watchkeeper_input_silent_seconds", partition="0") == 0.0
    assert gauge("watchkeeper_active_alerts", state="firing") == 1
