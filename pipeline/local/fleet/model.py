"""The fleet at an instant: a pure function of seed, faults and event time.

One load drives everything: it follows the day and the week, wanders, and jumps a little each
second; a node adds its own wandering. Rates are proportional to load, so that counters are its
integral in closed form; processor use, memory, latency and connections follow it with noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin
from typing import Literal, get_args

import msgspec
import numpy as np

from pipeline.local.fleet.faults import Condition, Fault, Timeline
from pipeline.local.fleet.noise import Jitter, Waves, hashed, hashed_one, streams
from pipeline.model import FloatArray

GENESIS_S = 1_735_689_600
"""2025-01-01T00:00:00Z: the network's first block; every counter counts from there."""
VERSION = "12.0.0-simulated"
NETWORK_TPS = 2.7e6
"""Transactions a second at load 1."""
AVERAGE_OVER_S = 60.0
BLOCK_S = 2.0
ORACLES = 5
USUAL_REQUEST_ERRORS = 0.0005
USUAL_FAILED_TRANSACTIONS = 0.00002
CONSTANT_ERROR_RATIO = 0.001
"""What the platform reports whatever happens (PLATFORM.md, section 1); a fault adds to it."""
MINOR_GC_PER_S = 0.12
EDEN_BYTES = 600e6
MAJOR_GC_WORK, MAJOR_GC_BYTES = 1500.0, 0.2e9
"""The old generation grows by so many bytes in so many seconds of load 1, and is collected."""
OLD_GEN_BYTES = 4_294_967_296
TERM_S = 21_600.0

_DAY, _WEEK = 86_400.0, 604_800.0
_DAILY, _WEEKLY, _WANDER, _NODE_WANDER, _JITTER = 0.085, 0.025, 0.02, 0.05, 0.005
_DAY_START, _WEEK_START = 8 * 3600.0, 5.75 * _DAY
"""Where the sines begin: the day peaks at 14:00 UTC, the week on Wednesday noon."""

NodeType = Literal["validator", "business", "channel", "api", "mobile"]
NODE_TYPES: tuple[NodeType, ...] = get_args(NodeType)


class _Profile(msgspec.Struct, frozen=True):
    """How a type of node differs: share of transactions, requests a second, and size."""

    weight: float
    requests: float
    cpu: float
    connections: float
    cores: int


_PROFILES: dict[NodeType, _Profile] = {
    "validator": _Profile(1.4, 20.0, 0.33, 60.0, 16),
    "business": _Profile(1.1, 45.0, 0.30, 45.0, 16),
    "channel": _Profile(1.0, 30.0, 0.28, 80.0, 16),
    "api": _Profile(0.9, 120.0, 0.31, 140.0, 8),
    "mobile": _Profile(0.3, 12.0, 0.22, 20.0, 4),
}


class Node(msgspec.Struct, frozen=True):
    """A node of the fleet; `index` is its place among all nodes."""

    index: int
    name: str
    node_type: NodeType
    cores: int
    requests_per_s: float
    """Requests a second at load 1."""


def fleet_nodes(count: int) -> tuple[Node, ...]:
    """`count` nodes, the five types in turn.

    >>> [node.name for node in fleet_nodes(6)]
    ['validator-000', 'business-000', 'channel-000', 'api-000', 'mobile-000', 'validator-001']
    """
    nodes = []
    for i in range(count):
        kind = NODE_TYPES[i % len(NODE_TYPES)]
        profile = _PROFILES[kind]
        name = f"{kind}-{i // len(NODE_TYPES):03d}"
        nodes.append(Node(i, name, kind, profile.cores, profile.requests))
    return tuple(nodes)


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """One node at an instant. Ratios are 0 to 1, sizes bytes, durations seconds."""

    node: Node
    listening: bool
    uptime: float
    tps: float
    cpu: float
    system_cpu: float
    load_average: float
    eden: float
    survivor: float
    old_gen: float
    metaspace: float
    threads: float
    connections: float
    active_requests: float
    pool_active: float
    gc_pause: float
    latency: float
    p50: float
    p95: float
    p99: float
    error_ratio: float
    work: float
    """Seconds of load 1 handled since genesis: multiplied by a rate, a counter."""
    busy: float
    """The same, weighed with how slow everything was: multiplied by a duration, a sum of them."""
    errors: float
    """The part of `work` that failed with status 500."""
    oracles: int

    @property
    def memory(self) -> float:
        return self.eden + self.survivor + self.old_gen + self.metaspace


class NetworkState(msgspec.Struct, frozen=True):
    """The whole network at an instant; the same whichever node is asked."""

    tps: float
    average_tps: float
    peak_tps: float
    transactions: float
    failed: float
    pending: float
    block_height: int
    block_time: float
    block_transactions: float
    latency: float
    p50: float
    p95: float
    p99: float
    total_nodes: int
    active_nodes: int
    validators: int
    active_validators: int
    leader: str
    term: int


class FleetState(msgspec.Struct, frozen=True):
    """Everything about the fleet at `time_ms`."""

    time_ms: int
    network: NetworkState
    nodes: tuple[NodeState, ...]


_TERMS, _BLOCKS = 5, 6
"""Streams of noise of which there is one each."""
_SMOOTH = 5
"""Kinds of smooth noise a node has: processor, memory, connections, latency, threads."""


class FleetModel:
    """What a fleet of `count` nodes does when nothing is broken, and how faults change it."""

    def __init__(self, count: int, seed: int) -> None:
        self.nodes = fleet_nodes(count)
        self._seed = seed
        self._rows = count + 1
        self._wander = Waves(seed, streams(1, self._rows), 120.0, 9 * 3600.0)
        self._reach = np.full(self._rows, _NODE_WANDER)
        self._reach[-1] = 0.0  # every row wanders with the network; a node on its own as well
        self._jitter = Jitter(seed, streams(2, self._rows))
        self._smooth = Waves(seed, streams(3, _SMOOTH * self._rows), 60.0, 2 * 3600.0)
        self._rough = streams(4, _SMOOTH * self._rows)
        self._first_jitter = self._jitter.integral(0.0)
        profiles = [_PROFILES[node.node_type] for node in self.nodes]
        weights = np.array([profile.weight for profile in profiles])
        self._share = weights / weights.sum()
        self._cpu = np.array([profile.cpu for profile in profiles])
        self._connections = np.array([profile.connections for profile in profiles])
        self._cores = np.array([profile.cores for profile in profiles], dtype=np.float64)
        self._requests = np.array([profile.requests for profile in profiles])

    def timeline(self, faults: Sequence[Fault]) -> Timeline:
        """The fleet's condition under `faults`; make a new one when they change."""
        return Timeline(faults, len(self.nodes), self._amounts, _factors)

    def state(self, time_ms: int, timeline: Timeline) -> FleetState:
        """The fleet at `time_ms`.

        Raises
        ------
        ValueError
            Before genesis.
        """
        at = time_ms / 1000 - GENESIS_S
        if at < 0:
            raise ValueError(f"event time: expected {GENESIS_S * 1000} ms or later, got {time_ms}")
        now = timeline.condition(at)
        totals = timeline.totals(at)
        load = self._load(at)
        noise = self._noise(at)
        latency = self._latency(load, noise, now)
        return FleetState(
            time_ms,
            self._network(at, now, timeline, totals, load, latency),
            self._node_states(at, now, timeline, totals, load, noise, latency),
        )

    def _load(self, at: float) -> FloatArray:
        """How much there is to do, per node and (last) in the network; 1 on average."""
        return self._calm_load(at) + self._jitter.rate(at) * _JITTER

    def _calm_load(self, at: float) -> FloatArray:
        wander = self._wander.value(at)
        rhythm = 1 + _DAILY * sin(2 * pi * (at - _DAY_START) / _DAY)
        rhythm += _WEEKLY * sin(2 * pi * (at - _WEEK_START) / _WEEK)
        load: FloatArray = wander * self._reach + (rhythm + wander[-1] * _WANDER)
        return load

    def _amounts(self, at: float) -> FloatArray:
        """Integrals since genesis: load; load weighed with its slowness; load, twice; time."""
        wander = self._wander.integral(at)
        rhythm = at + _DAILY * _sine_area(at, _DAY_START, _DAY)
        rhythm += _WEEKLY * _sine_area(at, _WEEK_START, _WEEK)
        load = wander * self._reach + (rhythm + wander[-1] * _WANDER)
        load += (self._jitter.integral(at) - self._first_jitter) * _JITTER
        # Mean duration grows with load: 1.5 * load - 0.5 is its product with load, in first order.
        return np.stack([load, 1.5 * load - 0.5 * at, load, load, np.full(self._rows, at)])

    def _noise(self, at: float) -> FloatArray:
        """Shape (_SMOOTH, nodes + 1): slow wandering within 1, and a jump each second within 0.3"""
        rough = hashed(self._seed, self._rough, int(at))
        noise = self._smooth.value(at) + 0.3 * rough
        return noise.reshape(_SMOOTH, self._rows)

    def _latency(self, load: FloatArray, noise: FloatArray, now: Condition) -> FloatArray:
        """The 99th percentile per node and in the network, in seconds."""
        healthy: FloatArray = 0.053 * (1 + 0.6 * (load - 1) + 0.08 * noise[3])
        return healthy * now.latency

    def _network(
        self, at: float, now: Condition, timeline: Timeline, totals: FloatArray,
        load: FloatArray, latency: FloatArray,
    ) -> NetworkState:  # fmt: skip
        tps = NETWORK_TPS * float(load[-1] * now.throughput[-1])
        before = max(0.0, at - AVERAGE_OVER_S)
        grown = float(totals[0, -1] - timeline.totals(before)[0, -1])
        height = int(at // BLOCK_S)
        wobble = hashed_one(self._seed, _BLOCKS, height)
        p99 = float(latency[-1])
        validators = [node for node in self.nodes if node.node_type == "validator"]
        voting = [node for node in validators if now.listening[node.index]]
        flaps = int(totals[4, -1])
        term = int(at // TERM_S)
        turn = int((hashed_one(self._seed, _TERMS, term) + 1) / 2 * max(1, len(voting)))
        return NetworkState(
            tps=tps,
            average_tps=NETWORK_TPS * grown / max(at - before, 1.0),
            peak_tps=max(tps, self._peak(at, timeline)),
            transactions=float(np.floor(NETWORK_TPS * totals[0, -1])),
            failed=float(np.floor(NETWORK_TPS * totals[3, -1])),
            pending=float(np.floor(4_000 * load[-1] ** 3 * now.latency[-1])),
            block_height=height,
            block_time=BLOCK_S * (1 + 0.03 * wobble) * float(now.latency[-1]) ** 0.5,
            block_transactions=float(np.floor(tps * BLOCK_S)),
            latency=p99 * 0.38,
            p50=p99 * 0.33,
            p95=p99 * 0.72,
            p99=p99,
            total_nodes=len(self.nodes),
            active_nodes=int(now.listening[:-1].sum()),
            validators=len(validators),
            active_validators=len(voting),
            leader=_leader(
                [node.name for node in voting], turn + flaps, bool(now.leader_flaps[-1])
            ),
            term=term + flaps,
        )

    def _peak(self, at: float, timeline: Timeline) -> float:
        """The highest throughput at the last four whole quarters of an hour."""
        quarters = [max(0.0, (at // 900 - k) * 900) for k in range(4)]
        return NETWORK_TPS * max(
            float(self._calm_load(when)[-1] * timeline.condition(when).throughput[-1])
            for when in quarters
        )

    def _node_states(
        self, at: float, now: Condition, timeline: Timeline, totals: FloatArray,
        load: FloatArray, noise: FloatArray, latency: FloatArray,
    ) -> tuple[NodeState, ...]:  # fmt: skip
        used = load * now.throughput
        own = used[:-1]
        n = len(self.nodes)
        p99 = latency[:-1]
        cpu = np.clip(self._cpu * (0.3 + 0.7 * own**1.5) * (1 + 0.08 * noise[0, :n]), 0.01, 1.0)
        cycle = (MINOR_GC_PER_S * totals[0, :n]) % 1.0
        major = (totals[0, :n] / MAJOR_GC_WORK) % 1.0
        old_gen = 0.9e9 * (0.7 + 0.3 * own) * (1 + 0.02 * noise[1, :n]) + MAJOR_GC_BYTES * major
        old_gen += now.leak[:-1] * np.maximum(0.0, at - np.minimum(now.leaks_since[:-1], at))
        requests = self._requests * own * latency[:-1] * 0.38
        connections = self._connections * (0.4 + 0.6 * own) * (1 + 0.06 * noise[2, :n])
        failing = now.request_errors * 0.2 + now.failed_transactions
        columns = {
            "uptime": np.full(n, at),
            "tps": self._reported_tps(own, load, now, timeline),
            "cpu": cpu,
            "system_cpu": np.minimum(1.0, cpu * 1.15 + 0.03),
            "load_average": self._cores * cpu * 1.25,
            "eden": np.floor(EDEN_BYTES * cycle),
            "survivor": np.floor(30e6 * (1 + 0.2 * noise[1, :n])),
            "old_gen": np.floor(np.minimum(old_gen, OLD_GEN_BYTES)),
            "metaspace": np.floor(148e6 + 1e6 * noise[4, :n]),
            "threads": np.floor(150 + 40 * own + 6 * noise[4, :n]),
            "connections": np.floor(connections),
            "active_requests": np.floor(requests + 2.0),
            "pool_active": np.floor(np.clip(2 + 3 * own * now.latency[:-1], 0, 20)),
            "gc_pause": 0.009 * own * now.latency[:-1] * (1 + 0.1 * noise[1, :n]),
            "latency": p99 * 0.38,
            "p50": p99 * 0.33,
            "p95": p99 * 0.72,
            "p99": p99,
            "error_ratio": CONSTANT_ERROR_RATIO + failing[:-1],
            "work": totals[0, :n],
            "busy": totals[1, :n],
            "errors": totals[2, :n],
        }
        rows = np.stack(list(columns.values()), axis=1).tolist()
        return tuple(
            NodeState(
                node=node,
                listening=bool(now.listening[node.index]),
                oracles=ORACLES - int(now.oracles_lost[node.index]),
                **dict(zip(columns, row, strict=True)),
            )
            for node, row in zip(self.nodes, rows, strict=True)
        )

    def _reported_tps(
        self, own: FloatArray, load: FloatArray, now: Condition, timeline: Timeline
    ) -> FloatArray:
        """What each node says of its throughput; one that is stuck says what it once was."""
        tps: FloatArray = NETWORK_TPS * self._share * own * load[-1] / np.mean(load[:-1])
        for node in np.flatnonzero(np.isfinite(now.stuck_since[:-1])).tolist():
            since = float(now.stuck_since[node])
            then = self._load(since)
            used = then[node] * timeline.condition(since).throughput[node]
            tps[node] = NETWORK_TPS * self._share[node] * used * then[-1] / np.mean(then[:-1])
        return tps


def _leader(voting: list[str], turn: int, flaps: bool) -> str:
    """Who leads; when leaders flap, a validator that is alone loses every other vote."""
    candidates = voting if voting and not (flaps and len(voting) == 1) else [*voting, "unknown"]
    return candidates[turn % len(candidates)]


def _factors(now: Condition) -> FloatArray:
    """What `now` multiplies the rates of `FleetModel._amounts` with."""
    return np.stack(
        [
            now.throughput,
            now.throughput * now.latency,
            now.throughput * (USUAL_REQUEST_ERRORS + now.request_errors),
            now.throughput * (USUAL_FAILED_TRANSACTIONS + now.failed_transactions),
            now.leader_flaps,
        ]
    )


def _sine_area(at: float, start: float, period: float) -> float:
    """The integral from 0 to `at` of a sine that begins at `start`."""
    omega = 2 * pi / period
    return (cos(omega * start) - cos(omega * (at - start))) / omega
