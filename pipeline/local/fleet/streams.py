"""What the fleet says of single events: validators, consensus, network, transactions, analytics.

Shapes are those of PLATFORM.md, section 1: bare messages with ISO-8601 times, but for `/ws/v11`.
The platform's own code never calls what would send the first three: it is silent there. The fleet
sends what is documented, one event at a time.
"""

from __future__ import annotations

from hashlib import blake2b

from pipeline.local.fleet.model import BLOCK_S, VERSION, FleetState, NodeState
from pipeline.local.fleet.numbers import at_least, rounded, whole
from pipeline.local.fleet.payloads import Json, iso_time

_EPOCH_ROUNDS = 10_800
_FAILED_EVERY = 40
"""One transaction in so many is announced as failed; a tenth of the others as pending."""


def validator_message(state: FleetState, _index: int) -> Json:
    """The validator whose turn it is to be told about."""
    validators = [each for each in state.nodes if each.node.node_type == "validator"]
    turn = state.network.block_height % len(validators)
    each = validators[turn]
    return {
        "timestamp": iso_time(state.time_ms),
        "validator": each.node.name,
        "status": "ACTIVE" if each.listening else "INACTIVE",
        "votingPower": 1_000_000 + 50_000 * turn,
        "uptime": 99.91 if each.listening else 97.5,
        "lastBlockProposed": state.network.block_height,
    }


def consensus_message(state: FleetState, _index: int) -> Json:
    network = state.network
    round_ = network.block_height
    return {
        "timestamp": iso_time(state.time_ms),
        "leader": network.leader,
        "epoch": round_ // _EPOCH_ROUNDS,
        "round": round_,
        "term": network.term,
        "state": "COMMITTED" if network.active_validators else "PROPOSED",
        "performanceScore": rounded(at_least(0.0, 1 - network.p99), 3),
        "activeValidators": network.active_validators,
    }


def network_message(state: FleetState, index: int) -> Json:
    """One of the other nodes, as a peer of this one."""
    turn = state.time_ms // 1000 // 3
    peer = state.nodes[(index + 1 + turn % max(1, len(state.nodes) - 1)) % len(state.nodes)]
    return {
        "timestamp": iso_time(state.time_ms),
        "peerId": f"peer-{peer.node.name}",
        "ip": f"10.0.0.{peer.node.index}",
        "connected": peer.listening,
        "latency": rounded(_latency_ms(peer)),
        "version": VERSION,
    }


def transaction_message(state: FleetState, _index: int) -> Json:
    identity = _hex("transaction", state.time_ms)
    luck = int(identity[:8], 16)
    status = "CONFIRMED" if luck % 10 else "PENDING"
    return {
        "timestamp": iso_time(state.time_ms),
        "txHash": "0x" + identity,
        "from": "0x" + _hex("from", state.time_ms)[:16],
        "to": "0x" + _hex("to", state.time_ms)[:16],
        "value": str(luck * 10**9),
        "status": "FAILED" if luck % _FAILED_EVERY == 1 else status,
        "gasUsed": 21_000 + luck % 50_000,
    }


def analytics_message(state: FleetState, _index: int) -> Json:
    """What `/ws/v11` publishes; the shape of `data` is the producer's own."""
    network = state.network
    data: Json = {
        "throughput": {"current": whole(network.tps), "average": whole(network.average_tps)},
        "successRate": rounded(1 - network.failed / at_least(1.0, network.transactions), 6),
        "blocksPerMinute": 60 / BLOCK_S,
        "window": "PT1M",
    }
    return {
        "type": "message",
        "channel": "analytics",
        "data": data,
        "timestamp": state.time_ms,
    }


def _latency_ms(node: NodeState) -> float:
    return node.latency * 1000


def _hex(kind: str, number: int) -> str:
    return blake2b(f"stream/{kind}/{number}".encode(), digest_size=32).hexdigest()
