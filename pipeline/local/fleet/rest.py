"""What a node answers over REST, as plain data (PLATFORM.md, section 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from pipeline.local.fleet.model import VERSION, FleetState, NodeState
from pipeline.local.fleet.payloads import Json, is_healthy, iso_time

Arguments = Mapping[str, str]
"""Parts of the path, and what stands behind the question mark."""

_MAX_PAGE = 1000
_PLACES: tuple[dict[str, Json], ...] = (
    {"country": "USA", "region": "North America", "city": "New York",
     "latitude": 40.7, "longitude": -74.0},
    {"country": "Germany", "region": "Europe", "city": "Frankfurt",
     "latitude": 50.1, "longitude": 8.7},
    {"country": "Singapore", "region": "Asia", "city": "Singapore",
     "latitude": 1.35, "longitude": 103.8},
)  # fmt: skip


class RestError(ValueError):
    """A request that can't be answered; `status` is what HTTP calls it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def nodes(state: FleetState, arguments: Arguments) -> Json:
    """A page of the nodes, those of a `type` and `status` if they are given."""
    page = _number(arguments, "page", 0, 10**6)
    size = _number(arguments, "size", 20, _MAX_PAGE)
    if size == 0:
        raise RestError(400, "size: expected 1 or more, got 0")
    found = [
        node
        for node in state.nodes
        if arguments.get("type", node.node.node_type).lower() == node.node.node_type
        and arguments.get("status", _status(node)).upper() == _status(node)
    ]
    pages = -(-len(found) // size)
    return {
        "nodes": [_node(each, state) for each in found[page * size : (page + 1) * size]],
        "totalNodes": len(found),
        "page": page,
        "size": size,
        "totalPages": pages,
        "hasNext": page + 1 < pages,
        "hasPrevious": page > 0,
        "timestamp": state.time_ms,
    }


def node(state: FleetState, arguments: Arguments) -> Json:
    for each in state.nodes:
        if each.node.name == arguments["id"]:
            return _node(each, state)
    raise RestError(404, f"Node not found: {arguments['id']}")


def nodes_summary(state: FleetState, _arguments: Arguments) -> Json:
    types = Counter(each.node.node_type for each in state.nodes)
    return {
        "totalNodes": state.network.total_nodes,
        "activeNodes": state.network.active_nodes,
        "nodesByType": {kind.upper(): number for kind, number in types.items()},
        "nodesByStatus": dict(Counter(_status(each) for each in state.nodes)),
        "timestamp": state.time_ms,
    }


def chain_info(state: FleetState, _arguments: Arguments) -> Json:
    network = state.network
    return {
        "chainId": "aurigraph-simulated-1",
        "chainName": "Aurigraph V11 (simulated)",
        "networkVersion": VERSION,
        "blockHeight": network.block_height,
        "averageBlockTime": round(network.block_time, 3),
        "totalTransactions": int(network.transactions),
        "totalValidators": network.validators,
        "activeValidators": network.active_validators,
        "consensusAlgorithm": "HyperRAFT++",
        "currentTPS": int(network.tps),
        "peakTPS": int(network.peak_tps),
        "averageLatency": round(network.latency * 1000, 2),
        "finalizationTime": round(network.p99 * 8000),
        "totalSupply": "10000000000",
        "circulatingSupply": "3575000000",
        "stakingRatio": 68.5,
        "quantumResistant": True,
        "aiOptimizationEnabled": True,
        "timestamp": state.time_ms,
    }


def live_validators(state: FleetState, _arguments: Arguments) -> Json:
    validators: list[Json] = [
        {
            "id": each.node.name,
            "status": "ACTIVE" if each.listening else "INACTIVE",
            "is_leader": each.node.name == state.network.leader,
            "uptime_seconds": int(each.uptime),
        }
        for each in state.nodes
        if each.node.node_type == "validator"
    ]
    return {
        "total_validators": state.network.validators,
        "active_validators": state.network.active_validators,
        "validators": validators,
        "timestamp": state.time_ms,
    }


def live_consensus(state: FleetState, _arguments: Arguments) -> Json:
    return {
        "algorithm": "HyperRAFT++",
        "leader": state.network.leader,
        "term": state.network.term,
        "block_height": state.network.block_height,
        "active_validators": state.network.active_validators,
        "timestamp": state.time_ms,
    }


def live_network(state: FleetState, _arguments: Arguments) -> Json:
    network = state.network
    return {
        "current_tps": int(network.tps),
        "average_tps": int(network.average_tps),
        "active_nodes": network.active_nodes,
        "total_nodes": network.total_nodes,
        "average_latency_ms": round(network.latency * 1000, 2),
        "network_health": "healthy" if is_healthy(network) else "degraded",
        "timestamp": state.time_ms,
    }


def network_health(state: FleetState, _arguments: Arguments) -> Json:
    network = state.network
    peers = network.active_nodes - 1
    alerts: list[Json] = ["LOW_PEER_COUNT"] if peers < 3 else []
    if network.p99 > 1.0:
        alerts.append("HIGH_LATENCY")
    return {
        "status": "HEALTHY" if is_healthy(network) and not alerts else "CRITICAL",
        "totalPeers": network.total_nodes - 1,
        "healthyPeers": peers,
        "syncedPeers": peers,
        "averageLatency": round(network.latency * 1000, 2),
        "networkBandwidth": int(network.tps / 25_000),
        "packetLoss": 0.0,
        "lastUpdate": iso_time(state.time_ms),
        "uptime": state.time_ms,
        "alerts": alerts,
    }


def mobile_stats(state: FleetState, _arguments: Arguments) -> Json:
    mobile = [each for each in state.nodes if each.node.node_type == "mobile"]
    active = sum(int(each.connections) for each in mobile)
    total = 24 * len(mobile)
    return {
        "totalUsers": total,
        "activeUsers": min(active, total),
        "iosUsers": total * 21 // 40,
        "androidUsers": total - total * 21 // 40,
        "verifiedUsers": total * 41 // 120,
        "pendingKyc": total * 70 // 120,
    }


def stats(state: FleetState, _arguments: Arguments) -> Json:
    network = state.network
    return {
        "totalTransactions": int(network.transactions),
        "currentTPS": int(network.tps),
        "peakTPS": int(network.peak_tps),
        "blockHeight": network.block_height,
        "activeNodes": network.active_nodes,
        "averageLatencyMs": round(network.latency * 1000, 2),
        "timestamp": state.time_ms,
    }


def always_up(state: FleetState, _arguments: Arguments) -> Json:
    """The platform's own constant: its health is at `/q/health`."""
    return {"status": "UP", "version": VERSION, "timestamp": state.time_ms}


Answer = Callable[[FleetState, Arguments], Json]

ROUTES: dict[str, Answer] = {
    "/api/v11/health": always_up,
    "/api/v11/nodes": nodes,
    "/api/v11/nodes/summary": nodes_summary,
    "/api/v11/nodes/{id}": node,
    "/api/v11/blockchain/chain/info": chain_info,
    "/api/v11/deprecated/blockchain/chain/info": chain_info,
    "/api/v11/live/validators": live_validators,
    "/api/v11/live/consensus": live_consensus,
    "/api/v11/live/network": live_network,
    "/api/v11/mobile/stats": mobile_stats,
    "/api/v11/network/monitoring/health": network_health,
    "/api/v11/stats": stats,
}


def _node(each: NodeState, state: FleetState) -> dict[str, Json]:
    index = each.node.index
    return {
        "nodeId": each.node.name,
        "nodeType": each.node.node_type.upper(),
        "status": _status(each),
        "version": VERSION,
        "uptimeSeconds": int(each.uptime),
        "resourceUsage": {
            "cpuPercent": round(each.cpu * 100, 2),
            "memoryPercent": round(each.memory / 2**32 * 100, 2),
            "diskPercent": 10.0,
            "networkPercent": round(min(1.0, each.tps / 400_000) * 100, 2),
        },
        "syncProgress": 100.0,
        "lastSeenTimestamp": state.time_ms,
        "location": _PLACES[index % len(_PLACES)],
        "ipAddress": f"10.0.0.{index}",
        "port": 9003,
        "stakeAmount": "1000000 AUR" if each.node.node_type == "validator" else "0 AUR",
        "reliability": 99.95,
    }


def _status(each: NodeState) -> str:
    return "ACTIVE" if each.listening else "OFFLINE"


def _number(arguments: Arguments, name: str, default: int, most: int) -> int:
    text = arguments.get(name, str(default))
    if not text.isdecimal() or int(text) > most:
        raise RestError(400, f"{name}: expected a number from 0 to {most}, got {text!r}")
    return int(text)
