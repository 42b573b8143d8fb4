"""What a node said at one instant, to the frames that a collector would have made of it.

What it says is rendered and then parsed as the collector parses it, so that a series of the past
goes on as the live one, without a seam.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from pipeline.collect.feed_state import STATE, FeedState
from pipeline.collect.frames import Built, FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.ingest.health import PROBE_DURATION, read_health
from pipeline.ingest.ledger import read_message
from pipeline.ingest.prometheus_text import TextParser
from pipeline.ingest.readings import Readings
from pipeline.local.fleet import payloads, quarkus
from pipeline.local.fleet.model import FleetState, Node, NodeState
from pipeline.local.fleet.sessions import ENDPOINTS, Endpoint, Message
from pipeline.local.fleet.targets import (
    HEALTH_PATH,
    JOB,
    METRICS_PATH,
    address_of,
    feeds_of,
    labels_of,
)
from pipeline.model import IntArray, Target, labels_from
from pipeline.settings import SimulateSettings

SCRAPE_S, PROBE_S = 0.004, 0.002
"""How long a scrape and a probe are said to have taken."""


class Said(NamedTuple):
    """What was read of one source at one instant."""

    source: Literal["scrape", "probe", "message", "state"]
    readings: Readings
    path: str = ""
    """Of the endpoint, for a message and for the state of a feed."""
    message: Message | None = None


class NodeRecorder:
    """What one node said, as if it was followed from the first."""

    def __init__(self, simulate: SimulateSettings, node: Node, first_ms: int) -> None:
        self.node = node
        self.instance = address_of(simulate, node)
        self._paths = feeds_of(node)
        self._first_ms = first_ms
        labels = {"job": JOB, "instance": self.instance} | labels_of(node)
        self._naming = SeriesNaming(labels_from(labels))
        self._parser = TextParser()
        self._builders: dict[str, FrameBuilder] = {}

    def hear(self, moment: Moment) -> Iterator[Said]:
        """Everything that is said at that instant, in order."""
        node = moment.state.nodes[self.node.index]
        yield Said("scrape", self._parser.parse(quarkus.render(node)))
        yield Said("probe", _probe(node))
        for path in self._paths:
            for message in ENDPOINTS[path].messages:
                yield from self._hear(moment, path, message)
            yield Said("state", self._state(path, moment.state.time_ms), path)

    def hear_events(self, moment: Moment) -> Iterator[Said]:
        """Of it the messages that tell each time of another thing."""
        for path in self._paths:
            for message in ENDPOINTS[path].messages:
                if message.event:
                    yield from self._hear(moment, path, message)

    def _hear(self, moment: Moment, path: str, message: Message) -> Iterator[Said]:
        readings = moment.readings(ENDPOINTS[path], message, self.node.index)
        if readings is not None:
            yield Said("message", readings, path, message)

    def build(self, said: Said, time_ms: int) -> Built:
        """The frame of it."""
        if said.source == "scrape":
            return self._builder(METRICS_PATH).scrape(said.readings, time_ms, SCRAPE_S)
        if said.source == "probe":
            return self._builder(HEALTH_PATH).complete(said.readings, time_ms)
        if said.source == "state":
            return self._builder(said.path + STATE).complete(said.readings, time_ms)
        return self._builder(said.path).message(said.readings, time_ms)

    def messages_until(self, path: str, times_ms: IntArray) -> IntArray:
        """How many messages that endpoint has sent at each of those times."""
        every_ms = [1000 * message.every_s for message in ENDPOINTS[path].messages]
        counts = np.zeros_like(times_ms)
        for each in every_ms:
            counts += (times_ms - self._first_ms) // each
        return counts

    def _state(self, path: str, time_ms: int) -> Readings:
        state = FeedState(path)
        state.up, state.connects = True, 1
        state.messages = int(self.messages_until(path, np.array([time_ms]))[0])
        return state.readings()

    def _builder(self, feed: str) -> FrameBuilder:
        if feed not in self._builders:
            target = Target(JOB, self.instance, feed)
            self._builders[feed] = FrameBuilder(target, self._naming)
        return self._builders[feed]


class Moment:
    """The fleet at one instant; what all nodes say alike is rendered and read once."""

    def __init__(self, state: FleetState) -> None:
        self.state = state
        self._shared: dict[tuple[str, Message], Readings | None] = {}

    def readings(self, endpoint: Endpoint, message: Message, index: int) -> Readings | None:
        if message.of_node:
            return self._read(endpoint, message, index)
        key = (endpoint.path, message)
        if key not in self._shared:
            self._shared[key] = self._read(endpoint, message, index)
        return self._shared[key]

    def _read(self, endpoint: Endpoint, message: Message, index: int) -> Readings | None:
        return read_message(endpoint.path, payloads.encode(message.content(self.state, index)))


def _probe(node: NodeState) -> Readings:
    _, body = payloads.health(node)
    readings = read_health(body)
    return Readings((*readings.series, PROBE_DURATION), np.append(readings.values, PROBE_S))
