"""Many instants of the past at once: the frames of `recorder.py`, from arrays.

From the second step on the frames of a node have the same targets, dictionaries and columns, and
only numbers change (`slots.py` learns which). They come from the state of many instants, which has
arrays where that of one has numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np

from pipeline.codec import encode_block
from pipeline.collect.feed_state import FAMILIES
from pipeline.local.fleet import quarkus
from pipeline.local.fleet.model import FleetState
from pipeline.local.fleet.recorder import NodeRecorder
from pipeline.local.fleet.sessions import Message
from pipeline.local.fleet.slots import CONSTANT, Reading, Slot, learn_reading, numbers_of
from pipeline.model import FloatArray, IntArray

Struct = TypeVar("Struct", bound=msgspec.Struct)

MESSAGES = list(FAMILIES).index("websocket_messages_total")


def over_time(states: Sequence[FleetState]) -> FleetState:
    """The states of many instants as one: an array for each number that changes."""
    first = states[0]
    return FleetState(
        first.time_ms,
        _joined([state.network for state in states]),
        tuple(_joined([state.nodes[i] for state in states]) for i in range(len(first.nodes))),
    )


def _joined(structs: Sequence[Struct]) -> Struct:
    """What is no number, or stays the same, is that of the first."""
    changed: dict[str, FloatArray] = {}
    for name in structs[0].__struct_fields__:
        values = [getattr(struct, name) for struct in structs]
        if isinstance(values[0], (int, float)) and any(value != values[0] for value in values):
            changed[name] = np.array(values, dtype=np.float64)
    return msgspec.structs.replace(structs[0], **changed)


class Messages:
    """What is read of messages over a stretch; of one that all nodes send it is read once."""

    def __init__(
        self, states: Sequence[FleetState], learned: dict[tuple[str, Message], Reading]
    ) -> None:
        """`learned` is filled, and kept from stretch to stretch."""
        self.state = over_time(states)
        self._steps = len(states)
        self._example = states[0]
        self._learned = learned
        self._shared: dict[tuple[str, Message], FloatArray] = {}

    def readings(self, path: str, message: Message, index: int) -> FloatArray:
        """Shape (steps, readings)."""
        if message.of_node:
            return self._read(path, message, index)
        key = (path, message)
        if key not in self._shared:
            self._shared[key] = self._read(path, message, index)
        return self._shared[key]

    def _read(self, path: str, message: Message, index: int) -> FloatArray:
        key = (path, message)
        if key not in self._learned:
            self._learned[key] = learn_reading(path, message.content(self._example, index))
        reading = self._learned[key]
        numbers = list(numbers_of(message.content(self.state, index)))
        read = side_by_side([numbers[i] for i in reading.numbers.tolist()], self._steps)
        return np.where(reading.numbers == CONSTANT, reading.constants, read * reading.factors)


class NodeStretch:
    """The frames of one node's steps."""

    def __init__(self, recorder: NodeRecorder, slots: Sequence[Slot]) -> None:
        self._recorder = recorder
        self._slots = slots
        self._step = np.concatenate([slot.frame.values for slot in slots])
        self.targets = [slot.frame.target_id for slot in slots]
        self.dictionaries = [slot.frame.dictionary_id for slot in slots]
        self.lengths = [len(slot.frame.values) for slot in slots]
        self.later_ms = [slot.later_ms for slot in slots]

    def values(self, times_ms: IntArray, messages: Messages) -> FloatArray:
        """Shape (steps, sum of `lengths`): a step's frames, one behind the other."""
        whole = np.tile(self._step, (len(times_ms), 1))
        start = 0
        for slot, length in zip(self._slots, self.lengths, strict=True):
            if len(slot.columns):
                readings = self._readings(slot, times_ms, messages)
                whole[:, start + slot.columns] = readings[:, slot.readings]
            start += length
        return whole

    def _readings(self, slot: Slot, times_ms: IntArray, messages: Messages) -> FloatArray:
        index, said = self._recorder.node.index, slot.said
        if said.message is not None:
            return messages.readings(said.path, said.message, index)
        if said.source == "scrape":
            return side_by_side(quarkus.numbers(messages.state.nodes[index]), len(times_ms))
        if said.source == "probe":
            return side_by_side(said.readings.values.tolist(), len(times_ms))
        readings = side_by_side(said.readings.values.tolist(), len(times_ms))
        readings[:, MESSAGES] = self._recorder.messages_until(said.path, times_ms)
        return readings


class Block:
    """The steps of all nodes of one partition over a stretch."""

    def __init__(
        self, nodes: Sequence[NodeStretch], times_ms: IntArray, messages: Messages
    ) -> None:
        self._nodes = nodes
        later_ms = [each for node in nodes for each in node.later_ms]
        self._times_ms = times_ms[:, None] + np.array(later_ms, dtype=np.int64)
        self._values = np.hstack([node.values(times_ms, messages) for node in nodes])

    @property
    def step_bytes(self) -> int:
        """Of the values of one step."""
        return int(self._values[0].nbytes)

    def record(self, first: int, last: int) -> bytes:
        """The record with the steps from `first` to before `last`."""
        return encode_block(
            np.array([each for node in self._nodes for each in node.targets], dtype=np.uint64),
            np.array([each for node in self._nodes for each in node.dictionaries], dtype=np.uint64),
            np.array([each for node in self._nodes for each in node.lengths], dtype=np.int64),
            self._times_ms[first:last],
            self._values[first:last],
        )


def side_by_side(columns: Sequence[float | FloatArray | IntArray], steps: int) -> FloatArray:
    """Shape (steps, columns); a number is the same at all steps."""
    result = np.empty((steps, len(columns)))
    for i, column in enumerate(columns):
        result[:, i] = column
    return result
