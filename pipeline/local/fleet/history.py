"""The fleet's past into Kafka: what a collector would have written, had it been there.

The first two steps are recorded one by one; from them `slots.py` learns what the others look like,
which are then made a few hundred at a time.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np

from pipeline.codec import dictionary_key, encode_dictionary, encode_frames, encode_tick
from pipeline.collect.frames import Built
from pipeline.collect.producer import Producer
from pipeline.local.fleet.model import GENESIS_S, FleetModel, FleetState
from pipeline.local.fleet.recorder import Moment, NodeRecorder
from pipeline.local.fleet.sessions import Message
from pipeline.local.fleet.slots import Reading, Slot, slot_of, with_positions
from pipeline.local.fleet.stretch import Block, Messages, NodeStretch
from pipeline.model import Frame, IntArray, Tick, partition_of
from pipeline.settings import Settings

COLLECTOR = "simulated-past"
"""The name in the ticks."""
_BATCH_BYTES = 256 * 1024
"""A partition's record is sent when it has come to this."""
_STRETCH = 240
"""Steps that are made at once."""
_LEARNED = 2
"""Steps that are recorded one by one. The others are as the last of them: in the first one every
series is new."""

StepFrames = dict[int, list[list[Frame]]]
"""Frames by partition and step."""


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
    past = Past(producer, settings, model, time_ms)
    healthy = model.timeline(())
    while (left := (now_ms() - time_ms) // step_ms + 1) > 0:
        count = 1 if past.steps < _LEARNED else min(left, _STRETCH)
        states = [model.state(time_ms + i * step_ms, healthy) for i in range(count)]
        time_ms += count * step_ms
        await past.write(states, step_ms)
        yield time_ms


class Past:
    """Writes one stretch of steps after the other."""

    def __init__(
        self, producer: Producer, settings: Settings, model: FleetModel, first_ms: int
    ) -> None:
        self.steps = 0
        """How many have been written."""
        self._producer = producer
        self._telemetry, self._series = settings.topic("telemetry"), settings.topic("series")
        self._partitions = range(settings.kafka.partitions)
        simulate = settings.simulate
        self._recorders = [NodeRecorder(simulate, node, first_ms) for node in model.nodes]
        self._twins = [NodeRecorder(simulate, node, first_ms) for node in model.nodes]
        """They record positions in the place of numbers."""
        self._nodes: dict[int, list[NodeStretch]] = defaultdict(list)
        self._readings: dict[tuple[str, Message], Reading] = {}

    async def write(self, states: Sequence[FleetState], step_ms: int) -> None:
        """Write the frames of `states`, `step_ms` apart; the first steps one by one."""
        times_ms = np.array([state.time_ms for state in states], dtype=np.int64)
        blocks: dict[int, Block] = {}
        if self.steps < _LEARNED:
            frames = await self._record(states[0])
        else:
            messages = Messages(states, self._readings)
            blocks = {p: Block(each, times_ms, messages) for p, each in self._nodes.items()}
            frames = await self._record_events(states)
        await asyncio.gather(
            *(self._send(p, times_ms, step_ms, blocks.get(p), frames[p]) for p in self._partitions)
        )
        self.steps += len(states)

    async def _record(self, state: FleetState) -> StepFrames:
        """Everything that is said at that instant; at the second one the others are learned."""
        frames: StepFrames = defaultdict(lambda: [[]])
        moment = Moment(state)
        for recorder, twin in zip(self._recorders, self._twins, strict=True):
            slots: list[Slot] = []
            partition = self._partition_of(recorder)
            for said in recorder.hear(moment):
                built = recorder.build(said, state.time_ms)
                positions = twin.build(with_positions(said), state.time_ms)
                await self._send_dictionaries(built)
                frames[partition][0].extend(built.frames)
                if said.message is None or not said.message.event:
                    slots.append(slot_of(said, state.time_ms, built, positions))
            if self.steps == _LEARNED - 1:
                self._nodes[partition].append(NodeStretch(recorder, slots))
        return frames

    async def _record_events(self, states: Sequence[FleetState]) -> StepFrames:
        """The messages that tell each time of another thing."""
        frames: StepFrames = defaultdict(lambda: [[] for _ in states])
        for step, state in enumerate(states):
            moment = Moment(state)
            for recorder in self._recorders:
                for said in recorder.hear_events(moment):
                    built = recorder.build(said, state.time_ms)
                    await self._send_dictionaries(built)
                    frames[self._partition_of(recorder)][step].extend(built.frames)
        return frames

    def _partition_of(self, recorder: NodeRecorder) -> int:
        return partition_of(recorder.instance, len(self._partitions))

    async def _send_dictionaries(self, built: Built) -> None:
        for dictionary in built.dictionaries:
            key = dictionary_key(dictionary.id)
            await self._producer.send(self._series, 0, key, encode_dictionary(dictionary))

    async def _send(
        self,
        partition: int,
        times_ms: IntArray,
        step_ms: int,
        block: Block | None,
        frames: Sequence[Sequence[Frame]],
    ) -> None:
        """Send the steps of a partition; after each record, that all before has been sent."""
        at_once = len(times_ms) if block is None else max(1, _BATCH_BYTES // block.step_bytes)
        for first in range(0, len(times_ms), at_once):
            last = min(first + at_once, len(times_ms))
            if block is not None:
                await self._producer.send(
                    self._telemetry, partition, None, block.record(first, last)
                )
            if single := [frame for step in frames[first:last] for frame in step]:
                await self._producer.send(self._telemetry, partition, None, encode_frames(single))
            tick = encode_tick(Tick(COLLECTOR, int(times_ms[last - 1]) + step_ms))
            await self._producer.send(self._telemetry, partition, None, tick)
