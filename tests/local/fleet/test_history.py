import numpy as np
import pytest

from pipeline.brokers import connection_of
from pipeline.codec import decode_dictionary, decode_telemetry
from pipeline.collect.producer import KafkaProducer, SendError
from pipeline.ingest.prometheus_text import TextParser
from pipeline.local.fleet import quarkus
from pipeline.local.fleet.history import COLLECTOR, write_past
from pipeline.local.fleet.model import GENESIS_S, FleetModel
from pipeline.local.fleet.recorder import Moment, NodeRecorder
from pipeline.local.fleet.targets import address_of
from pipeline.model import FrameBatch, Target, Tick, is_absent, is_stale, partition_of
from pipeline.settings import Settings, SimulateSettings

END_MS = 1_767_604_530_000
STEP_MS = 60_000
STEPS = 30
FIRST_MS = END_MS - STEPS * STEP_MS


class Kept:
    """A producer that keeps what it was given, decoded."""

    def __init__(self):
        self.dictionaries = {}
        self.telemetry = {}

    async def send(self, topic, partition, key, value):
        if topic == "series":
            dictionary = decode_dictionary(value)
            assert key == f"{dictionary.id:016x}".encode()
            self.dictionaries[dictionary.id] = dictionary
            return
        record = decode_telemetry(value)
        if isinstance(record, FrameBatch):
            assert set(record.dictionaries.tolist()) <= self.dictionaries.keys()
        self.telemetry.setdefault((topic, partition), []).append(record)

    def frames(self, target):
        records = [record for records in self.telemetry.values() for record in records]
        batches = [record for record in records if isinstance(record, FrameBatch)]
        frames = [batch.frame(i) for batch in batches for i in range(len(batch))]
        return [frame for frame in frames if frame.target_id == target.id]


SETTINGS = Settings(simulate=SimulateSettings(nodes=2))


async def _write(settings=SETTINGS, first_ms=FIRST_MS, end_ms=END_MS):
    kept = Kept()
    model = FleetModel(settings.simulate.nodes, settings.simulate.seed)
    async for _ in write_past(kept, settings, model, first_ms, lambda: end_ms):
        pass
    return kept, model


async def test_every_feed_has_a_frame_each_step():
    kept, model = await _write()
    for node in model.nodes:
        instance = address_of(SETTINGS.simulate, node)
        for feed, each_step in (
            ("/q/metrics", 1), ("/q/health", 1), ("/ws/metrics", 1), ("/ws/dashboard", 3),
            ("/api/v11/live/stream", 4),
        ):  # fmt: skip
            frames = kept.frames(Target("aurigraph-production", instance, feed))
            assert len(frames) == STEPS * each_step
            times = [frame.time_ms for frame in frames]
            assert times == sorted(set(times))
            assert {time_ms // STEP_MS for time_ms in times} == {
                FIRST_MS // STEP_MS + i + 1 for i in range(STEPS)
            }


async def test_past_values_are_those_that_a_collector_would_have_read():
    kept, model = await _write()
    target = Target(
        "aurigraph-production", address_of(SETTINGS.simulate, model.nodes[1]), "/q/metrics"
    )
    last = kept.frames(target)[-1]
    dictionary = kept.dictionaries[last.dictionary_id]
    state = model.state(last.time_ms, model.timeline(()))
    read = TextParser().parse(quarkus.render(state.nodes[1]))
    held = {
        series.labels: value for series, value in zip(dictionary.series, last.values, strict=True)
    }
    extra = {
        "instance": target.instance,
        "job": target.job,
        "node": "business-000",
        "node_type": "business",
        "simulated": "true",
    }
    for series, value in zip(read.series, read.values, strict=True):
        labels = dict(series.labels)
        if "simulated" in labels:  # the node's own label gives way to the target's
            labels["exported_simulated"] = labels.pop("simulated")
        assert held[tuple(sorted((labels | extra).items()))] == value
    assert held[tuple(sorted(({"__name__": "up"} | extra).items()))] == 1.0


async def test_feeds_were_up_and_gave_messages_at_their_cadence():
    kept, model = await _write()
    instance = address_of(SETTINGS.simulate, model.nodes[0])
    target = Target("aurigraph-production", instance, "/ws/dashboard#state")
    frames = kept.frames(target)
    assert len(frames) == STEPS
    series = kept.dictionaries[frames[0].dictionary_id].series
    assert [each.name for each in series] == [
        "websocket_up",
        "websocket_connects_total",
        "websocket_messages_total",
        "websocket_errors_total",
    ]
    # Each minute 60 messages of metrics, 20 of nodes and 12 of performance.
    assert frames[0].values.tolist() == [1, 1, 0, 0]
    assert frames[-1].values.tolist() == [1, 1, 92 * (STEPS - 1), 0]


async def test_transactions_grow_without_a_seam_into_the_present():
    kept, model = await _write()
    target = Target(
        "aurigraph-production", address_of(SETTINGS.simulate, model.nodes[0]), "/ws/dashboard"
    )
    seen = []
    for frame in kept.frames(target):
        names = [series.name for series in kept.dictionaries[frame.dictionary_id].series]
        value = frame.values[[names.index("ledger_transactions_total")]]
        if not is_absent(value)[0] and not is_stale(value)[0]:
            seen.append((frame.time_ms, float(value[0])))
    now = model.state(END_MS, model.timeline(())).network.transactions
    times, values = (np.array(each) for each in zip(*[*seen, (END_MS, now)], strict=True))
    rates = np.diff(values) / np.diff(times) * 1000
    assert len(rates) == STEPS
    assert rates.min() > 2.1e6
    assert rates.max() < 3.1e6


async def test_records_go_where_the_instance_belongs_and_ticks_follow_them():
    kept, _ = await _write()
    partitions = SETTINGS.kafka.partitions
    assert set(kept.telemetry) == {("telemetry", i) for i in range(partitions)}
    owners = {
        dictionary.target.id: partition_of(dictionary.target.instance, partitions)
        for dictionary in kept.dictionaries.values()
    }
    for (_, partition), records in kept.telemetry.items():
        told = 0
        for record in records:
            if isinstance(record, Tick):
                assert record.collector == COLLECTOR
                told = record.time_ms
                continue
            assert {owners[each] for each in record.targets.tolist()} == {partition}
            assert record.times_ms.min() >= told
            newest = int(record.times_ms.max())
        assert isinstance(records[-1], Tick)
        if len(records) > 1:
            assert told > newest


async def test_step_is_that_of_the_settings():
    settings = Settings(simulate=SimulateSettings(nodes=1, history_step=300.0))
    kept, _ = await _write(settings)
    target = Target("aurigraph-production", "127.0.0.1:19200", "/q/metrics")
    assert [frame.time_ms % 300_000 for frame in kept.frames(target)] == [0] * 6


async def test_past_does_not_begin_before_genesis():
    kept, _ = await _write(first_ms=0, end_ms=GENESIS_S * 1000 + 3 * STEP_MS)
    target = Target("aurigraph-production", "127.0.0.1:19200", "/ws/metrics")
    assert [frame.time_ms for frame in kept.frames(target)] == [
        GENESIS_S * 1000 + i * STEP_MS for i in (1, 2, 3)
    ]


async def test_without_kafka_it_says_so(unused_tcp_port):
    producer = KafkaProducer(connection_of(Settings(brokers=(f"127.0.0.1:{unused_tcp_port}",))))
    with pytest.raises(SendError, match=r"telemetry|series"):
        async for _ in write_past(producer, SETTINGS, FleetModel(2, 1), FIRST_MS, lambda: END_MS):
            pass
    await producer.close()


async def test_many_steps_at_once_say_what_each_said_by_itself():
    settings = Settings(simulate=SimulateSettings(nodes=6))
    kept, model = await _write(settings)
    alone = {}
    recorders = [
        NodeRecorder(settings.simulate, node, FIRST_MS // STEP_MS * STEP_MS + STEP_MS)
        for node in model.nodes
    ]
    healthy = model.timeline(())
    for step in range(1, STEPS + 1):
        time_ms = FIRST_MS // STEP_MS * STEP_MS + step * STEP_MS
        moment = Moment(model.state(time_ms, healthy))
        for recorder in recorders:
            for said in recorder.hear(moment):
                for frame in recorder.build(said, time_ms).frames:
                    alone[frame.target_id, frame.time_ms] = frame
    written = {
        (frame.target_id, frame.time_ms): frame
        for records in kept.telemetry.values()
        for batch in records
        if isinstance(batch, FrameBatch)
        for frame in map(batch.frame, range(len(batch)))
    }
    assert written.keys() == alone.keys()
    for key, frame in alone.items():
        values = written[key].values
        assert written[key].dictionary_id == frame.dictionary_id
        # Rounding the product of a number and a factor once or twice is all the difference.
        np.testing.assert_allclose(values, frame.values, rtol=1e-15, atol=0.0)
        assert np.array_equal(is_stale(values), is_stale(frame.values))
        assert np.array_equal(is_absent(values), is_absent(frame.values))


async def test_written_twice_it_is_the_same_so_that_all_of_it_is_known():
    first, _ = await _write()
    second, _ = await _write()
    assert first.dictionaries == second.dictionaries
    for place, records in first.telemetry.items():
        for one, other in zip(records, second.telemetry[place], strict=True):
            if isinstance(one, Tick):
                assert one == other
            else:
                assert one.times_ms.tolist() == other.times_ms.tolist()
                assert one.targets.tolist() == other.targets.tolist()


async def test_a_dictionary_comes_before_the_first_frame_that_uses_it_and_says_simulated():
    kept, _ = await _write()  # `Kept` looks at the order
    assert kept.dictionaries
    for dictionary in kept.dictionaries.values():
        assert all(("simulated", "true") in series.labels for series in dictionary.series)
