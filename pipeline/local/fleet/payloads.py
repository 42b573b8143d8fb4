"""What the fleet says at `/ws/metrics`, `/api/v11/live/stream`, `/ws/channels` and `/q/health`.

What a message holds is made here and encoded where it is sent: its numbers may be arrays, one for
each of many instants, when the past is written.

Shapes are those of the platform's own code (PLATFORM.md, sections 1 and 3). Envelopes carry
milliseconds, flat messages ISO-8601.
"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import blake2b
from typing import TypeAlias

import msgspec
import numpy as np

from pipeline.local.fleet.model import (
    ORACLES,
    FleetState,
    NetworkState,
    NodeState,
)
from pipeline.local.fleet.numbers import rounded, whole

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

encode = msgspec.json.Encoder().encode

MAIN_CHANNEL = "main-channel"
WEBSOCKET_LIMIT = 8000
ORACLES_NEEDED = 3
TARGET_TPS = 2e6
_MB = 1 << 20
"""The platform's MB are the JVM's mebibytes."""


def iso_time(time_ms: int) -> str:
    """`time_ms` in ISO-8601.

    >>> iso_time(1767604530482)
    '2026-01-05T09:15:30.482Z'
    """
    when = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def metrics_message(state: FleetState, index: int) -> Json:
    """`/ws/metrics`: the node's own figures; `cpu` is load per core in percent."""
    node = state.nodes[index]
    return {
        "timestamp": iso_time(state.time_ms),
        "tps": whole(node.tps),
        "cpu": rounded(node.load_average / node.node.cores * 100, 4),
        "memory": whole(node.memory / _MB),
        "connections": whole(node.connections),
        "errorRate": rounded(node.error_ratio, 6),
    }


def live_message(kind: str, payload: Json, time_ms: int) -> bytes:
    """A message of `/api/v11/live/stream`."""
    return encode(live_content(kind, payload, time_ms))


def live_content(kind: str, payload: Json, time_ms: int) -> Json:
    """What it holds: the envelope."""
    return {"type": kind, "payload": payload, "timestamp": time_ms}


def tps_update(state: FleetState, _index: int) -> Json:
    network = state.network
    payload: Json = {
        "currentTPS": whole(network.tps),
        "peakTPS": whole(network.peak_tps),
        "averageTPS": whole(network.average_tps),
        "latency": rounded(network.latency * 1000),
    }
    return live_content("tps_update", payload, state.time_ms)


def block_update(state: FleetState, _index: int) -> Json:
    network = state.network
    payload: Json = {
        "blockHeight": network.block_height,
        "blockTime": rounded(network.block_time * 1000),
        "transactions": whole(network.block_transactions),
        "producer": network.leader,
    }
    return live_content("block_update", payload, state.time_ms)


def network_update(state: FleetState, _index: int) -> Json:
    network = state.network
    payload: Json = {
        "activeNodes": network.active_nodes,
        "totalNodes": network.total_nodes,
        "networkHealth": "healthy" if is_healthy(network) else "degraded",
        "avgLatency": rounded(network.latency * 1000),
    }
    return live_content("network_update", payload, state.time_ms)


def validator_update(state: FleetState, _index: int) -> Json:
    network = state.network
    payload: Json = {
        "totalValidators": network.validators,
        "activeValidators": network.active_validators,
        "inactiveValidators": network.validators - network.active_validators,
        "jailedValidators": 0,
    }
    return live_content("validator_update", payload, state.time_ms)


def is_healthy(network: NetworkState) -> bool:
    """At least nine nodes in ten are active, and throughput is what the platform promises.

    Of many instants at once: at each of them.
    """
    active = network.active_nodes * 10 >= network.total_nodes * 9
    return active and bool(np.all(network.tps >= TARGET_TPS))


def channel_update(state: FleetState, _index: int) -> Json:
    network = state.network
    active = network.active_validators / max(1, network.validators)
    metrics: Json = {
        "tps": whole(network.tps),
        "totalTransactions": whole(network.transactions),
        "blockHeight": network.block_height,
        "latency": rounded(network.p50 * 1000, 2),
        "throughput": whole(network.average_tps),
        "activeValidators": network.active_validators,
        "consensusHealth": rounded(100 * active - 15 * network.p50, 2),
    }
    return _channel("channel_update", "metrics", metrics, state.time_ms)


def channel_transaction(state: FleetState, _index: int) -> Json:
    identity = _hex("transaction", state.time_ms)
    transaction: Json = {
        "id": f"tx-{identity[:8]}",
        "from": "0x" + _hex("from", state.time_ms)[:40],
        "to": "0x" + _hex("to", state.time_ms)[:40],
        "amount": int(identity[:5], 16),
        "timestamp": state.time_ms,
        "status": "confirmed",
        "fee": int(identity[:2], 16) + 100,
    }
    return _channel("transaction", "transaction", transaction, state.time_ms)


def channel_block(state: FleetState, _index: int) -> Json:
    network = state.network
    block: Json = {
        "height": network.block_height,
        "hash": "0x" + _hex("block", network.block_height),
        "prevHash": "0x" + _hex("block", network.block_height - 1),
        "transactionCount": whole(network.block_transactions),
        "validator": network.leader,
        "timestamp": state.time_ms,
        "size": 512 + whole(network.block_transactions) * 3,
    }
    return _channel("block", "block", block, state.time_ms)


def _channel(kind: str, field: str, content: Json, time_ms: int) -> Json:
    return {"type": kind, "channelId": MAIN_CHANNEL, field: content, "timestamp": time_ms}


def _hex(kind: str, number: int) -> str:
    return blake2b(f"{kind}/{number}".encode(), digest_size=32).hexdigest()


def health(node: NodeState) -> tuple[bool, bytes]:
    """Whether the node is up, and `/q/health`: the seven checks of the platform's current code."""
    connections = whole(node.connections)
    sockets_up = connections < WEBSOCKET_LIMIT
    oracles_up = node.oracles >= ORACLES_NEEDED
    oracles: dict[str, Json] = {
        "active_oracles": node.oracles,
        "minimum_required": ORACLES_NEEDED,
        "total_oracles": ORACLES,
    }
    if not oracles_up:
        oracles["message"] = (
            f"Insufficient oracles: {node.oracles} active, {ORACLES_NEEDED} required"
        )
    checks: list[Json] = [
        _check("alive"),
        _check("Aurigraph V11 is running"),
        _check("Database connections health check", {"<default>": "UP"}),
        _check("Redis connection health check", {"<default>": "PONG"}),
        _check("gRPC Server", {"grpc.health.v1.Health": True}),
        _check("websocket-service", _socket_counts(connections), up=sockets_up),
        _check("oracle-service", oracles, up=oracles_up),
    ]
    up = sockets_up and oracles_up
    return up, encode({"status": _status(up), "checks": checks})


def _check(name: str, data: dict[str, Json] | None = None, *, up: bool = True) -> Json:
    check: dict[str, Json] = {"name": name, "status": _status(up)}
    if data is not None:
        check["data"] = data
    return check


def _status(up: bool) -> str:
    return "UP" if up else "DOWN"


def _socket_counts(connections: int) -> dict[str, Json]:
    metrics = connections * 5 // 12
    others = (connections - metrics) // 4
    return {
        "total_connections": connections,
        "metrics_ws": connections - 4 * others,
        "transaction_ws": others,
        "validator_ws": others,
        "consensus_ws": others,
        "network_ws": others,
        "max_warning_threshold": WEBSOCKET_LIMIT,
    }
