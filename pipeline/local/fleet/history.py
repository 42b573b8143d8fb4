"""The fleet's past into Kafka: what a collector would have written, had it been there.

The payloads of the past are rendered and then parsed as the collector parses them, so that a
series of the past goes on as the live one, without a seam.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

import numpy as np

from pipeline.codec import dictionary_key, encode_dictionary, encode_frames, encode_tick
from pipeline.collect.feed_state import STATE, FeedState
from pipeline.collect.frames import Built, FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.collect.producer import Producer
from pipeline.ingest.health import PROBE_DURATION, read_health
from pipeline.ingest.ledger import read_message
from pipeline.ingest.prometheus_text import TextParser
from pipeline.ingest.readings import Readings
from pipeline.local.fleet import payloads, quarkus
from pipeline.local.fleet.model import GENESIS_S, FleetModel, FleetState, Node, NodeState
from pipeline.local.fleet.sessions import ENDPOINTS, Endpoint, Message
from pipeline.local.fleet.targets import (
    HEALTH_PATH,
    JOB,
    METRICS_PATH,
    address_of,
    feeds_of,
    labels_of,
)
from pipeline.model import Frame, Target, Tick, labels_from, partition_of
from pipeline.settings import Settings, SimulateSettings

COLLECTOR = "simulated-past"
"""The name in the ticks."""
SCRAPE_S, PROBE_S = 0.004, 0.002
"""How long a scrape and a probe are said to have taken."""
_BATCH_BYTES = 256 * 1024
"""A partition's record is sent when it has come to this."""


class _Feed(NamedTuple):
    """A WebSocket that was followed: what was said there, and how the connection fared."""

    endpoint: Endpoint
    said: FrameBuilder
    state: FeedState
    stated: FrameBuilder


class NodeRecorder:
    """Turns what one node said at one instant into frames, as if it was followed from the first."""

    def __init__(self, simulate: SimulateSettings, node: Node, first_ms: int) -> None:
        self._node = node
        self._first_ms = first_ms
        self.instance = address_of(simulate, node)
        labels = {"job": JOB, "instance": self.instance} | labels_of(node)
        self._naming = SeriesNaming(labels_from(labels))
        self._parser = TextParser()
        self._scrape = self._builder(METRICS_PATH)
        self._health = self._builder(HEALTH_PATH)
        self._feeds = []
        for path in feeds_of(node):
            state = FeedState(path)
            state.up, state.connects = True, 1
            self._feeds.append(
                _Feed(ENDPOINTS[path], self._builder(path), state, self._builder(path + STATE))
            )

    def record(self, moment: Moment) -> Iterator[Built]:
        node = moment.state.nodes[self._node.index]
        time_ms = moment.state.time_ms
        readings = self._parser.parse(quarkus.render(node))
        yield self._scrape.scrape(readings, time_ms, SCRAPE_S)
        yield self._health.complete(_probe(node), time_ms)
        for feed in self._feeds:
            for message in feed.endpoint.messages:
                said = moment.readings(feed.endpoint, message, self._node.index)
                if said is not None:
                    yield feed.said.message(said, time_ms)
            feed.state.messages = sum(
                (time_ms - self._first_ms) // (1000 * message.every_s)
                for message in feed.endpoint.messages
            )
            yield feed.stated.complete(feed.state.readings(), time_ms)

    def _builder(self, feed: str) -> FrameBuilder:
        return FrameBuilder(Target(JOB, self.instance, feed), self._naming)


class Moment:
    """The fleet at one instant; what all nodes say alike is rendered and read once."""

    def __init__(self, state: FleetState) -> None:
        self.state = state
        self._shared: dict[Message, Readings | None] = {}

    def readings(self, endpoint: Endpoint, message: Message, index: int) -> Readings | None:
        if message.of_node:
            return read_message(endpoint.path, message.render(self.state, index))
        if message not in self._shared:
            self._shared[message] = read_message(endpoint.path, message.render(self.state, index))
        return self._shared[message]


async def write_past(
    producer: Producer, settings: Settings, model: FleetModel, first_ms: int,
    now_ms: Callable[[], int],
) -> AsyncIterator[int]:  # fmt: skip
    """Write a healthy fleet from `first_ms` (or genesis) until now; the times that are done.

    Raises
    ------
    SendError
        Kafka doesn't take it.
    """
    step_ms = max(1, int(settings.simulate.history_step * 1000))
    time_ms = max(first_ms, GENESIS_S * 1000) // step_ms * step_ms + step_ms
    recorders = [NodeRecorder(settings.simulate, node, time_ms) for node in model.nodes]
    outbox = Outbox(producer, settings)
    healthy = model.timeline(())
    while time_ms <= now_ms():
        moment = Moment(model.state(time_ms, healthy))
        for recorder in recorders:
            for built in recorder.record(moment):
                outbox.put(recorder.instance, built)
        time_ms += step_ms
        if outbox.is_full():
            await outbox.send(time_ms)
            yield time_ms
    await outbox.send(time_ms)


class Outbox:
    """Frames on their way: records by partition, each with the dictionaries it needs before it."""

    def __init__(self, producer: Producer, settings: Settings) -> None:
        self._producer = producer
        self._telemetry, self._series = settings.topic("telemetry"), settings.topic("series")
        self._frames: list[list[Frame]] = [[] for _ in range(settings.kafka.partitions)]
        self._bytes = [0] * settings.kafka.partitions
        self._dictionaries: dict[int, bytes] = {}

    def put(self, instance: str, built: Built) -> None:
        for dictionary in built.dictionaries:
            self._dictionaries[dictionary.id] = encode_dictionary(dictionary)
        partition = partition_of(instance, len(self._frames))
        self._frames[partition].extend(built.frames)
        self._bytes[partition] += sum(frame.values.nbytes for frame in built.frames)

    def is_full(self) -> bool:
        return max(self._bytes) >= _BATCH_BYTES

    async def send(self, before_ms: int) -> None:
        """Send everything, and the word that all before `before_ms` has been sent."""
        for key, dictionary in self._dictionaries.items():
            await self._producer.send(self._series, 0, dictionary_key(key), dictionary)
        self._dictionaries.clear()
        tick = encode_tick(Tick(COLLECTOR, before_ms))
        for partition, frames in enumerate(self._frames):
            if frames:
                record = encode_frames(frames)
                await self._producer.send(self._telemetry, partition, None, record)
            await self._producer.send(self._telemetry, partition, None, tick)
            frames.clear()
            self._bytes[partition] = 0


def _probe(node: NodeState) -> Readings:
    _, body = payloads.health(node)
    readings = read_health(body)
    return Readings((*readings.series, PROBE_DURATION), np.append(readings.values, PROBE_S))
