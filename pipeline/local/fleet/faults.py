"""What can be broken on purpose: a table of faults, and their effect on the fleet over time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import inf

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.model import FloatArray


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault does to a node while it lasts."""

    throughput: float = 1.0
    """Factor of the transactions and requests it handles."""
    latency: float = 1.0
    """Factor of everything that takes time."""
    request_errors: float = 0.0
    """Share of requests that fail with status 500, beside the usual few."""
    failed_transactions: float = 0.0
    """Share of transactions that fail, beside the usual few."""
    listening: bool = True
    keeps_sockets: bool = True
    """False: its WebSockets are cut again and again."""
    oracles_lost: int = 0
    """Of the five it asks; with fewer than three its health is DOWN."""
    leader_flaps: bool = False
    """The network has a new leader each second, whichever node is struck."""
    leak: float = 0.0
    """Bytes of memory that it loses a second, until the fault ends and it is started again."""
    stuck: bool = False
    """The throughput that it reports stays what it was when the fault began."""


class FaultKind(msgspec.Struct, frozen=True):
    """A row of the table: what a person reads, and the effect."""

    summary: str
    effect: Effect
    whole_fleet: bool = True
    """What it strikes when no node is named; False: the first node."""


FAULTS: dict[str, FaultKind] = {
    "node-down": FaultKind(
        "the node stops listening and drops out of the network",
        Effect(throughput=0.0, listening=False),
        whole_fleet=False,
    ),
    "tps-drop": FaultKind(
        "throughput falls to about 1.1 M transactions a second",
        Effect(throughput=0.41),
    ),
    "latency": FaultKind(
        "the 99th percentile of latency rises to about 0.25 s",
        Effect(latency=4.8),
    ),
    "error-storm": FaultKind(
        "a third of all requests fail with status 500, and one transaction in fifteen",
        Effect(request_errors=0.35, failed_transactions=0.066),
    ),
    "websocket-drop": FaultKind(
        "WebSockets are cut every few hundred milliseconds, and so is each new one",
        Effect(keeps_sockets=False),
    ),
    "health-degraded": FaultKind(
        "three of five oracles are lost, so that /q/health says DOWN with status 503",
        Effect(oracles_lost=3),
    ),
    "leader-flap": FaultKind(
        "the consensus has a new leader, and a new term, each second",
        Effect(leader_flaps=True),
    ),
    "slow-leak": FaultKind(
        "memory grows by a megabyte a second, until the old generation is full",
        Effect(leak=1e6),
        whole_fleet=False,
    ),
    "stuck-value": FaultKind(
        "the throughput that the node reports at /ws/metrics doesn't change any more",
        Effect(stuck=True),
        whole_fleet=False,
    ),
}
"""A fault is a row here; what it may do is a field of `Effect`."""


class Fault(msgspec.Struct, frozen=True):
    """One fault, on one node or (`node` is None) on all of them, from `start` to `end`.

    Times are seconds since the model's genesis.
    """

    name: str
    node: int | None
    start: float
    end: float = inf

    def active(self, at: float) -> bool:
        return self.start <= at < self.end


class Condition(msgspec.Struct, frozen=True, eq=False):
    """The state of repair of every node; arrays have one entry for each, and one for the network.

    A fault of one of n nodes shows in the network's entry with an n-th of its weight.
    """

    throughput: FloatArray
    latency: FloatArray
    request_errors: FloatArray
    failed_transactions: FloatArray
    listening: npt.NDArray[np.bool_]
    keeps_sockets: npt.NDArray[np.bool_]
    oracles_lost: npt.NDArray[np.int64]
    leader_flaps: FloatArray
    """1 where it does."""
    leak: FloatArray
    leaks_since: FloatArray
    stuck_since: FloatArray
    """When a fault began, in seconds since genesis; infinity where there is none."""


def condition(faults: Sequence[Fault], nodes: int) -> Condition:
    """What `faults`, all at once, make of a fleet of `nodes`."""
    result = Condition(
        np.ones(nodes + 1), np.ones(nodes + 1), np.zeros(nodes + 1), np.zeros(nodes + 1),
        np.ones(nodes + 1, dtype=bool), np.ones(nodes + 1, dtype=bool),
        np.zeros(nodes + 1, dtype=np.int64), np.zeros(nodes + 1),
        np.zeros(nodes + 1), np.full(nodes + 1, inf), np.full(nodes + 1, inf),
    )  # fmt: skip
    for fault in faults:
        effect = FAULTS[fault.name].effect
        hit = slice(None) if fault.node is None else fault.node
        weight = np.zeros(nodes + 1)
        weight[hit] = 1.0
        if fault.node is not None:
            weight[-1] = 1.0 / nodes
        result.throughput[:] *= 1 + (effect.throughput - 1) * weight
        result.latency[:] *= 1 + (effect.latency - 1) * weight
        result.request_errors[:] += effect.request_errors * weight
        result.failed_transactions[:] += effect.failed_transactions * weight
        result.listening[hit] &= effect.listening
        result.keeps_sockets[hit] &= effect.keeps_sockets
        result.oracles_lost[hit] = np.maximum(result.oracles_lost[hit], effect.oracles_lost)
        if effect.leader_flaps:
            result.leader_flaps[:] = 1.0
        result.leak[hit] = np.maximum(result.leak[hit], effect.leak)
        if effect.leak:
            result.leaks_since[hit] = np.minimum(result.leaks_since[hit], fault.start)
        if effect.stuck:
            result.stuck_since[hit] = np.minimum(result.stuck_since[hit], fault.start)
    return result


Amounts = Callable[[float], FloatArray]
"""At a time, the integrals of the healthy rates since genesis: shape (k, nodes + 1)."""
Factors = Callable[[Condition], FloatArray]
"""What a condition multiplies each of those rates with: shape (k, nodes + 1)."""


class Timeline:
    """The fleet's condition at every time, and what its counters have come to under it.

    Time is cut where a fault starts or ends; in between factors are constant, so a total is the
    sum of factor times integral. Sums up to each cut are kept: a total costs the same however
    many faults there have been.
    """

    def __init__(
        self, faults: Sequence[Fault], nodes: int, amounts: Amounts, factors: Factors
    ) -> None:
        edges = {0.0} | {fault.start for fault in faults} | {fault.end for fault in faults}
        self._edges = sorted(edge for edge in edges if edge < inf)
        self._amounts = amounts
        self._conditions = [
            condition([fault for fault in faults if fault.active(edge)], nodes)
            for edge in self._edges
        ]
        self._factors = [factors(each) for each in self._conditions]
        self._starts = [amounts(edge) for edge in self._edges]
        self._sums = [np.zeros_like(self._starts[0])]
        for i in range(len(self._edges) - 1):
            grown = self._factors[i] * (self._starts[i + 1] - self._starts[i])
            self._sums.append(self._sums[i] + grown)

    def condition(self, at: float) -> Condition:
        return self._conditions[self._segment(at)]

    def totals(self, at: float) -> FloatArray:
        """What the counters have come to at `at`: shape (k, nodes + 1)."""
        i = self._segment(at)
        return self._sums[i] + self._factors[i] * (self._amounts(at) - self._starts[i])

    def _segment(self, at: float) -> int:
        return max(0, bisect_right(self._edges, at) - 1)
