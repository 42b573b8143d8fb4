"""The shell with fakes in the place of Kafka: what is sent, rejected, repeated and restored."""

import asyncio
import contextlib
from collections.abc import Sequence

import pytest
from aiokafka.errors import KafkaConnectionError
from fleet import SETTINGS, START_MS, dictionary, fleetwide, frame, partition

from pipeline.codec import decode_alert, decode_signal, encode_frames, encode_mark, encode_tick
from pipeline.model import Evaluated, FrameBatch, SeriesDictionary, Tick
from pipeline.stream.delivery import Record
from pipeline.stream.digest import digest
from pipeline.stream.restoring import Restoring
from pipeline.stream.snapshot import Snapshot, decode, encode
from pipeline.stream.snapshotting import Snapshotting
from pipeline.stream.underway import Effects
from pipeline.stream.worker import Worker

PARTITIONS = SETTINGS.kafka.partitions


class Past:
    """The records of one partition, all of them."""

    def __init__(self, values: list[bytes]) -> None:
        self.end = len(values)
        self._values = values

    async def some_time_before(self, _offset: int) -> int:
        return 0

    async def records(self, since: int, until: int):
        for value in self._values[since:until]:
            yield value


class Kafka:
    """What a worker is given instead of a broker: the topics as lists."""

    def __init__(self) -> None:
        self.sent: list[Record] = []
        self.dictionaries: dict[int, SeriesDictionary] = {}
        self.past: dict[tuple[str, int], list[bytes]] = {}
        self.snapshots: list[Snapshot] = []
        self.fail = self.fail_later = False
        self.hold: Effects | None = None

    async def deliver(self, records: Sequence[Record]) -> Effects | None:
        if self.fail:
            raise KafkaConnectionError("broker away")
        if not records:
            return None
        self.sent += records
        if self.hold is not None:
            return self.hold
        effects: Effects = asyncio.get_running_loop().create_future()
        if self.fail_later:
            effects.set_exception(KafkaConnectionError("broker away"))
        else:
            effects.set_result(None)
        return effects

    async def find(self, dictionary_id: int) -> SeriesDictionary | None:
        return self.dictionaries.get(dictionary_id)

    @contextlib.asynccontextmanager
    async def open_past(self, topic, number):
        yield Past(self.past.get((topic, number), []))

    def save(self, snapshot: Snapshot) -> int:
        written = b"".join(encode(snapshot))
        self.snapshots.insert(0, decode(written))
        return len(written)

    def load(self, topic, number, _end) -> list[Snapshot]:
        return [s for s in self.snapshots if (s.topic, s.partition) == (topic, number)]

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
    def make(interval: float = 3600.0) -> Worker:
        return Worker(
            lambda number: partition(tmp_path, number),
            lambda _number: fleetwide(tmp_path, PARTITIONS),
            {3},
            PARTITIONS,
            kafka.deliver,
            kafka.find,
            Restoring(kafka.open_past, kafka.find, kafka.load),
            Snapshotting(kafka.save, interval),
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
    assert worker.lags(lambda _topic, _number: 1) == [("telemetry", 1, 1)]
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
    told = [(dict(a.labels)["alertname"], a.state) for a in fired]
    assert told == [("TooMuch", "firing"), ("TooLong", "firing")], "what fires, then what is new"
    assert fired[1].active_at_ms == START_MS + 1000
    assert kafka.of("telemetry.rejected") == []


async def test_a_new_owner_goes_on_from_the_newest_snapshot(kafka, new_worker):
    values = [tick(0), frames(frame("a", 1, 11.0)), frames(frame("a", 2, 1.0)), tick(3)]
    before = new_worker(interval=1e-9)
    for offset, value in enumerate(values[:2]):
        await before.on_telemetry(1, offset, value)
    await before.last_snapshots()
    kafka.sent.clear()
    kafka.past["telemetry", 1] = values
    after = new_worker()
    await after.on_telemetry(1, 3, values[3])
    told_after = [decode_alert(record.value) for record in kafka.of("alerts")]
    kafka.sent.clear()
    for offset in (2, 3):
        await before.on_telemetry(1, offset, values[offset])
    told_before = [decode_alert(record.value) for record in kafka.of("alerts")]
    assert told_after == told_before != [], "what changed since the snapshot is told once more"
    assert digest(after.partitions[1]) == digest(before.partitions[1])


async def test_records_that_are_in_the_snapshot_are_not_stepped_again(kafka, new_worker):
    values = [tick(0), frames(frame("a", 1, 11.0)), tick(2)]
    before = new_worker()
    for offset, value in enumerate(values):
        await before.on_telemetry(1, offset, value)
    await before.last_snapshots()
    kafka.past["telemetry", 1] = values
    after = new_worker()
    for offset in (1, 2):
        await after.on_telemetry(1, offset, values[offset])
    assert digest(after.partitions[1]) == digest(before.partitions[1])
    assert after.partitions[1].counts.duplicate == 0


async def test_a_snapshot_whose_dictionaries_are_gone_is_not_used(kafka, new_worker):
    values = [tick(0), frames(frame("a", 1, 11.0))]
    before = new_worker()
    for offset, value in enumerate(values):
        await before.on_telemetry(1, offset, value)
    await before.last_snapshots()
    kafka.past["telemetry", 1] = values
    kafka.dictionaries.clear()
    after = new_worker()
    await after.on_telemetry(1, 2, tick(2))
    assert after.partitions[1].watermark_ms == START_MS + 2000
    assert after.partitions[1].targets == 0


async def test_a_snapshot_is_not_kept_before_its_effects_are_acknowledged(kafka, new_worker):
    worker = new_worker(interval=1e-9)
    await worker.on_telemetry(1, 0, tick(0))
    kafka.hold = asyncio.get_running_loop().create_future()
    await worker.on_telemetry(1, 1, tick(1))
    await asyncio.sleep(0.05)
    offsets = {snapshot.offset for snapshot in kafka.snapshots}
    assert 2 not in offsets
    kafka.hold.set_result(None)
    await worker.last_snapshots()
    assert max(snapshot.offset for snapshot in kafka.snapshots) == 2


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
