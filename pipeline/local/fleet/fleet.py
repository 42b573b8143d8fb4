"""The fleet while it runs: what is broken now, and its state each second of event time."""

from __future__ import annotations

import asyncio

import msgspec

from pipeline.clock import Clock
from pipeline.local.fleet.faults import FAULTS, Condition, Fault
from pipeline.local.fleet.model import GENESIS_S, FleetModel, FleetState
from pipeline.local.fleet.payloads import encode
from pipeline.local.fleet.sessions import Message

MOST_BEHIND_S = 1.0
"""Wall time by which a second may come late, on a busy machine, before it is left out."""


class UnknownFaultError(ValueError):
    """A fault or a node that isn't there; the message names those that are."""


class Second:
    """One second of the fleet; a message is rendered once, whoever wants it."""

    def __init__(self, number: int, state: FleetState) -> None:
        self.number = number
        self._state = state
        self._rendered: dict[tuple[Message, int], bytes] = {}

    def bytes_of(self, message: Message, index: int) -> bytes:
        """`message` of the node with that index."""
        key = (message, index if message.of_node else -1)
        known = self._rendered.get(key)
        if known is None:
            known = self._rendered[key] = encode(message.content(self._state, index))
        return known


class Fleet:
    """A model, its faults and a clock. Everything that is served reads from here."""

    def __init__(self, model: FleetModel, clock: Clock) -> None:
        self.model = model
        self.clock = clock
        self.skipped = 0
        """Seconds that nobody was shown, because rendering came too late for them."""
        self._faults: tuple[Fault, ...] = ()
        self._timeline = model.timeline(())
        self._changed = asyncio.Event()
        self._second = self._render(int(clock.now()))

    def state(self) -> FleetState:
        """The fleet now."""
        return self.model.state(self.clock.now_ms(), self._timeline)

    def condition(self) -> Condition:
        """What works now and what doesn't."""
        return self._timeline.condition(self._at())

    def faults(self) -> list[Fault]:
        """The faults that are active now."""
        at = self._at()
        return [fault for fault in self._faults if fault.active(at)]

    def break_(self, name: str, node: str | None, for_s: float | None) -> Fault:
        """Start a fault now, for `for_s` seconds of event time or until `mend`.

        Without a node it strikes all of them, or the first, as its kind says.

        Raises
        ------
        UnknownFaultError
            No such fault, or no such node.
        """
        at = self._at()
        end = float("inf") if for_s is None else at + for_s
        index = self._index(node)
        if index is None and not FAULTS[self._known(name)].whole_fleet:
            index = 0
        fault = Fault(self._known(name), index, at, end)
        self._set((*self._faults, fault))
        return fault

    def mend(self, name: str | None = None, node: str | None = None) -> list[Fault]:
        """End the active faults of that name and on that node now; None: any.

        Raises
        ------
        UnknownFaultError
            No such fault, or no such node.
        """
        at = self._at()
        if name is not None:
            self._known(name)
        index = self._index(node)
        ended = [
            fault
            for fault in self.faults()
            if (name is None or fault.name == name) and (node is None or fault.node == index)
        ]
        self._set(
            tuple(
                msgspec.structs.replace(fault, end=at) if fault in ended else fault
                for fault in self._faults
            )
        )
        return ended

    async def next_second(self) -> Second:
        """The next second, as soon as it begins."""
        await self._changed.wait()
        return self._second

    async def run(self) -> None:
        """Render one second after the other; when it is too late for some, leave them out."""
        while True:
            number = self._second.number + 1
            await self.clock.sleep_until(number)
            behind = int(self.clock.now()) - number
            if self.clock.wall(behind) > MOST_BEHIND_S:
                self.skipped += behind
                number += behind
            self._second = self._render(number)
            self._changed.set()
            self._changed = asyncio.Event()

    def _render(self, number: int) -> Second:
        return Second(number, self.model.state(number * 1000, self._timeline))

    def _set(self, faults: tuple[Fault, ...]) -> None:
        self._faults = faults
        self._timeline = self.model.timeline(faults)

    def _at(self) -> float:
        return self.clock.now() - GENESIS_S

    def _known(self, name: str) -> str:
        if name not in FAULTS:
            raise UnknownFaultError(f"fault: expected one of {', '.join(FAULTS)}, got {name!r}")
        return name

    def _index(self, node: str | None) -> int | None:
        if node is None:
            return None
        names = [each.name for each in self.model.nodes]
        if node not in names:
            raise UnknownFaultError(f"node: expected one of {', '.join(names)}, got {node!r}")
        return names.index(node)
