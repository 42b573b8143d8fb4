from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError
from faust.types import TP
from prometheus_client import REGISTRY

from pipeline.codec import decode_alert
from pipeline.rules.files import load_rules
from pipeline.rules.rendering import Expander
from pipeline.settings import Settings, WorkerSettings
from pipeline.stream import observe, silent_input
from pipeline.stream.delivery import Record
from pipeline.stream.liveness import Place, Standing
from pipeline.stream.observe import Observer
from pipeline.stream.silent_input import NAME, SilentInput

SHIPPED = Path(__file__).parents[2] / "alert_rules/watchkeeper.yml"
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


class Told:
    """What was delivered."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.first = asyncio.Event()

    async def __call__(self, records: Sequence[Record]) -> None:
        self.records += records
        if records:
            self.first.set()


def observer(
    worker: Worker, offsets: Offsets, *places: Place, told: Told | None = None
) -> Observer:
    groups, _ = load_rules([str(SHIPPED)], "3")
    silent_input = SilentInput(groups, Expander({}, "http://p", "3"), 30_000, 240_000)
    app: Any = SimpleNamespace(consumer=Consumer(*places))  # what Observer looks at of an app
    stand_in: Any = worker
    asked: Any = offsets
    return Observer(app, stand_in, SETTINGS, asked, silent_input, told or Told())


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


async def test_silent_input_is_told_unless_it_is_kafka_that_is_away(monkeypatch):
    monkeypatch.setattr(silent_input, "LIMIT_S", 0.05)
    told, place = Told(), ("telemetry", 1)
    running = asyncio.create_task(
        observer(Worker({1: 5000}), Offsets(Standing(9, 9)), place, told=told).run()
    )
    await asyncio.wait_for(told.first.wait(), 20)
    running.cancel()
    (record,) = told.records
    alert = decode_alert(record.value)
    assert (record.topic, alert.state) == ("alerts", "firing")
    assert dict(alert.labels)["alertname"] == NAME
    assert dict(alert.labels)["partition"] == "1"

    unheard = Told()
    away = observer(Worker({1: 5000}), Offsets(KafkaConnectionError("away")), place, told=unheard)
    await away._tell_silence({1: 99.0})
    assert unheard.records == []
    await asyncio.gather(running, return_exceptions=True)
