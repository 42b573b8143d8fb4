"""The shell with fakes in the place of Kafka: what is sent, rejected, repeated and restored."""

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka.errors import KafkaConnectionError
from fleet import SETTINGS, START_MS, dictionary, fleetwide, frame, partition

from pipeline.codec import decode_alert, decode_signal, encode_frames, encode_mark, encode_tick
from pipeline.model import Evaluated, FrameBatch, SeriesDictionary, Tick
from pipeline.stream.delivery import Record
from pipeline.stream.underway import Effects
from pipeline.stream.worker import Worker

PARTITIONS = SETTINGS.kafka.partitions


class Kafka:
    """What a worker is given instead of a broker: the topics as lists."""

    def __init__(self) -> None:
        self.sent: list[Record] = []
        self.dictionaries: dict[int, SeriesDictionary] = {}
        self.past: dict[tuple[str, int], list[bytes]] = {}
        self.fail = self.fail_later = False

    async def deliver(self, records: Sequence[Record]) -> Effects | None:
        if self.fail:
            raise KafkaConnectionError("broker away")
        if not records:
            return None
        self.sent += records
        effects: Effects = asyncio.get_running_loop().create_future()
        if self.fail_later:
            effects.set_exception(KafkaConnectionError("broker away"))
        else:
            effects.set_result(None)
        return effects

    async def find(self, dictionary_id: int) -> SeriesDictionary | None:
        return self.dictionaries.get(dictionary_id)

    async def restore(self, topic, number, offset, replay) -> int:
        past = self.past.get((topic, number), [])[:offset]
        for value in past:
            await replay(value)
        return len(past)

    def of(self, topic: str) -> list[Record]:
        return [record for record in self.sent if record.topic == topic]


@pytest.fixture
def kafka() -> Kafka:
    kafka = Kafka()
    known = dictionary("a")
    kafka.dictionaries[known.id] = known
    return kafka


@pytest.fixture
def new_worker(tmp_path, kafka):
    def make() -> Worker:
        return Worker(
            lambda number: partition(tmp_path, number),
            lambda number: fleetwide(tmp_path, PARTITIONS) if number == 3 else None,
            PARTITIONS,
            kafka.deliver,
            kafka.find,
            kafka.restore,
        )

    return make


def tick(at_s: float) -> bytes:
    return encode_tick(Tick("c", START_MS + int(at_s * 1000)))


def frames(*given) -> bytes:
    return encode_frames(list(given))


async def test_alerts_reach_their_topic_and_forwarded_frames_their_owner(kafka, new_worker):
    worker = new_worker()
    await worker.on_telemetry(1, 0, frames(frame("a", 1, 11.0)))
    names = [dict(decode_alert(r.value).labels)["alertname"] for r in kafka.of("alerts")]
    assert names == ["TooMuch"]
    assert [record.partition for record in kafka.of("signals")] == [3]
    assert isinstance(decode_signal(kafka.of("signals")[0].value), FrameBatch)
    (reduced,) = kafka.of("series")
    assert kafka.sent.index(reduced) == 0, "the dictionary is acknowledged first"


async def test_a_tick_marks_every_partition_of_signals(kafka, new_worker):
    worker = new_worker()
    await worker.on_telemetry(1, 0, tick(1))
    marks = [decode_signal(record.value) for record in kafka.of("signals")]
    assert [record.partition for record in kafka.of("signals")] == [0, 1, 2, 3]
    assert all(isinstance(m, Evaluated) and m.partition == 1 for m in marks)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", b"truncated"),
        (b"rubbish, and more of it", b"not_a_record"),
        (b"WK\x02\x01\x00\x00\x00\x00", b"version"),
        (frames(frame("b", 1, 1.0)), b"dictionary"),
    ],
)
async def test_what_cannot_be_processed_is_rejected_with_its_reason(
    kafka, new_worker, value, reason
):
    worker = new_worker()
    await worker.on_telemetry(2, 0, value)
    (rejected,) = kafka.of("telemetry.rejected")
    assert rejected.value == value
    assert rejected.headers[0] == ("reason", reason)
    assert rejected.headers[2] == ("partition", b"2")
    assert rejected.partition == 0, "the topic has one"
    await worker.on_telemetry(2, 1, frames(frame("a", 1, 11.0)))
    assert len(kafka.of("alerts")) == 1, "the next record is processed as ever"


async def test_a_rejected_signal_disturbs_nothing(kafka, new_worker):
    worker = new_worker()
    await worker.on_signal(3, 0, b"rubbish, and more of it")
    assert [record.topic for record in kafka.sent] == ["signals.rejected"]


async def test_a_record_seen_again_is_skipped(kafka, new_worker):
    worker = new_worker()
    record = frames(frame("a", 1, 11.0))
    await worker.on_telemetry(1, 5, record)
    before = len(kafka.sent)
    await worker.on_telemetry(1, 5, record)
    assert len(kafka.sent) == before


async def test_a_record_whose_outputs_were_not_sent_is_not_taken_as_processed(kafka, new_worker):
    worker = new_worker()
    kafka.fail = True
    with pytest.raises(KafkaConnectionError):
        await worker.on_telemetry(1, 0, tick(1))
    assert worker.lags(lambda _topic, _number: 1) == []
    assert isinstance(worker.fault, KafkaConnectionError), "its process must end"
    assert kafka.of("telemetry.rejected") == [], "the record is not at fault"


async def test_effects_that_fail_after_they_were_sent_end_the_process_too(kafka, new_worker):
    worker = new_worker()
    kafka.fail_later = True
    effects = await worker.on_telemetry(1, 0, tick(1))
    with pytest.raises(KafkaConnectionError):
        await effects
    await asyncio.sleep(0)
    assert isinstance(worker.fault, KafkaConnectionError)


async def test_a_new_owner_knows_what_was_pending_and_sends_what_fires(kafka, new_worker):
    kafka.past["telemetry", 1] = [
        tick(0),
        frames(frame("a", 1, 11.0)),
        b"rubbish, and more of it",
        frames(frame("a", 4, 11.0)),
    ]
    worker = new_worker()
    await worker.on_telemetry(1, 4, frames(frame("a", 6, 11.0)))
    fired = [decode_alert(record.value) for record in kafka.of("alerts")]
    assert [(dict(a.labels)["alertname"], a.state) for a in fired] == [("TooLong", "firing")]
    assert fired[0].active_at_ms == START_MS + 1000
    await worker.on_telemetry(1, 5, tick(7))
    names = {dict(decode_alert(r.value).labels)["alertname"] for r in kafka.of("alerts")}
    assert names == {"TooMuch", "TooLong"}
    assert kafka.of("telemetry.rejected") == []


async def test_partitions_that_moved_away_are_forgotten(new_worker):
    worker = new_worker()
    await worker.on_telemetry(1, 0, frames(frame("a", 1, 11.0)))
    await worker.on_telemetry(2, 0, tick(1))
    await worker.on_signal(3, 0, encode_mark(Evaluated("w", 0, START_MS)))
    assert set(worker.fleetwide) == {3}
    worker.on_assigned("telemetry", frozenset({2}))
    worker.on_assigned("signals", frozenset({2}))
    assert set(worker.partitions) == {2}
    assert worker.fleetwide == {}
    assert [(topic, number) for topic, number, _ in worker.lags(lambda _t, _n: 10)] == [
        ("telemetry", 2)
    ]


async def test_active_alerts_are_those_of_all_partitions(new_worker):
    worker = new_worker()
    await worker.on_telemetry(1, 0, tick(0))
    await worker.on_telemetry(1, 1, frames(frame("a", 1, 11.0)))
    await worker.on_telemetry(1, 2, tick(2))
    found = {(dict(a.labels)["alertname"], a.state) for a in worker.active_alerts()}
    assert found == {("TooMuch", "firing"), ("TooLong", "pending")}


async def test_lag_is_what_is_still_to_come(new_worker):
    worker = new_worker()
    await worker.on_telemetry(1, 6, tick(0))
    assert worker.lags(lambda _topic, _number: 10) == [("telemetry", 1, 3)]
    assert worker.lags(lambda _topic, _number: None) == [("telemetry", 1, 0)]
