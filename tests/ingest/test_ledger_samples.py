"""Every payload of the platform's documentation, and what has to come of it.

The payloads are those of the shared material where it is, else the copies in this repository.
"""

import os
from pathlib import Path

import pytest

from pipeline.ingest.health import read_health
from pipeline.ingest.ledger import FeedReader
from pipeline.ingest.prometheus_text import TextParser
from pipeline.ingest.readings import PayloadError, Readings

COPIES = Path(__file__).parent / "samples"
MIB = 1024 * 1024


def folder() -> Path:
    named = os.environ.get("WATCHKEEPER_SHARED")
    shared = Path(named) if named else Path(__file__).parents[3] / "shared"
    found = shared / "platform" / "samples"
    return found if found.is_dir() else COPIES


def named(readings: Readings | None) -> dict[str, float]:
    if readings is None:
        return {}
    return {
        ",".join([s.name, *(f"{k}={v}" for k, v in s.labels if k != "__name__")]): value
        for s, value in zip(readings.series, readings.values.tolist(), strict=True)
    }


NOTHING: dict[str, float] = {}
CHANNEL = "channel=main-channel"
VALUES = {
    "ws_metrics.MetricsMessage.json": (
        "/ws/metrics",
        {
            "ledger_node_tps": 781240,
            "ledger_node_cpu_percent": 63.4375,
            "ledger_node_memory_bytes": 1874 * MIB,
            "ledger_node_connections": 12,
            "ledger_node_error_ratio": 0.001,
        },
    ),
    "docvariant.portal_envelope.json": (
        "/ws/metrics",
        {"ledger_node_tps": 781240, "ledger_node_cpu_percent": 63.4},
    ),
    "live_stream.connection_established.json": ("/api/v11/live/stream", NOTHING),
    "live_stream.subscription_confirmed.json": ("/api/v11/live/stream", NOTHING),
    "live_stream.pong.json": ("/api/v11/live/stream", NOTHING),
    "live_stream.tps_update.json": (
        "/api/v11/live/stream",
        {
            "ledger_network_tps": 803117,
            "ledger_network_peak_tps": 800000,
            "ledger_network_average_tps": 750000,
            "ledger_network_latency_seconds": 0.051,
        },
    ),
    "docvariant.live_stream.tps_update.json": (
        "/api/v11/live/stream",
        {"ledger_network_tps": 2850000},
    ),
    "live_stream.block_update.json": (
        "/api/v11/live/stream",
        {
            "ledger_block_height": 12345,
            "ledger_block_time_seconds": 1,
            "ledger_block_transactions": 500,
        },
    ),
    "live_stream.network_update.json": (
        "/api/v11/live/stream",
        {
            "ledger_network_active_nodes": 64,
            "ledger_network_total_nodes": 100,
            "ledger_network_healthy": 1,
            "ledger_network_average_latency_seconds": 0.042,
        },
    ),
    "live_stream.validator_update.json": (
        "/api/v11/live/stream",
        {
            "ledger_validators,state=total": 20,
            "ledger_validators,state=active": 15,
            "ledger_validators,state=inactive": 3,
            "ledger_validators,state=jailed": 2,
        },
    ),
    "ws_channels.connected.json": ("/ws/channels", NOTHING),
    "ws_channels.subscribed.json": ("/ws/channels", NOTHING),
    "ws_channels.transaction.json": ("/ws/channels", NOTHING),
    "ws_channels.channel_update.json": (
        "/ws/channels",
        {
            f"ledger_channel_tps,{CHANNEL}": 902344,
            f"ledger_channel_transactions_total,{CHANNEL}": 150412233,
            f"ledger_channel_block_height,{CHANNEL}": 12507,
            f"ledger_channel_latency_seconds,{CHANNEL}": 0.00281,
            f"ledger_channel_throughput_tps,{CHANNEL}": 841200,
            f"ledger_channel_active_validators,{CHANNEL}": 10,
            f"ledger_channel_consensus_health,{CHANNEL}": 99.2,
        },
    ),
    "ws_channels.block.json": (
        "/ws/channels",
        {
            f"ledger_channel_block_height,{CHANNEL}": 12561,
            f"ledger_channel_block_transactions,{CHANNEL}": 641,
            f"ledger_channel_block_size_bytes,{CHANNEL}": 2110,
        },
    ),
    "ws_dashboard.subscribed_ack.json": ("/ws/dashboard", NOTHING),
    "ws_validators.ValidatorMessage.json": (
        "/ws/validators",
        {
            "ledger_validator_active,validator=0xval00000007": 1,
            "ledger_validator_jailed,validator=0xval00000007": 0,
            "ledger_validator_voting_power,validator=0xval00000007": 1250000,
            "ledger_validator_uptime_ratio,validator=0xval00000007": 0.9991,
            "ledger_validator_last_block,validator=0xval00000007": 1450912,
        },
    ),
    "ws_consensus.ConsensusMessage.json": (
        "/ws/consensus",
        {
            "ledger_round_number": 89311,
            "ledger_round_epoch": 1248,
            "ledger_round_term": 42,
            "ledger_round_committed": 1,
            "ledger_round_performance_ratio": 0.964,
            "ledger_round_active_validators": 121,
        },
    ),
    "docvariant.ws_consensus.json": (
        "/ws/consensus",
        {"ledger_round_number": 89311, "ledger_round_committed": 0, "ledger_round_votes": 84},
    ),
    "ws_network.NetworkMessage.json": (
        "/ws/network",
        {
            "ledger_connection_up,peer=peer-5f2ac9": 1,
            "ledger_connection_latency_seconds,peer=peer-5f2ac9": 0.027,
        },
    ),
    "docvariant.ws_network.json": (
        "/ws/network",
        {
            "ledger_connection_up,peer=peer-5f2ac9": 0,
            "ledger_connection_latency_seconds,peer=peer-5f2ac9": 0.027,
            "ledger_connections": 41,
        },
    ),
    "ws_transactions_legacy.TransactionMessage.json": ("/ws/transactions/legacy", NOTHING),
    "ws_transactions.WELCOME.json": ("/ws/transactions", NOTHING),
    "ws_transactions.INFO.json": ("/ws/transactions", NOTHING),
    "ws_transactions.SUBSCRIPTIONS.json": ("/ws/transactions", NOTHING),
    "ws_transactions.HEARTBEAT.json": ("/ws/transactions", {"ledger_session_age_seconds": 30}),
    "ws_transactions.STATS.json": (
        "/ws/transactions",
        {
            "ledger_sessions,state=total": 4,
            "ledger_sessions,state=authenticated": 3,
            "ledger_session_users": 2,
            "ledger_session_channels": 2,
            "ledger_session_queued_messages": 0,
        },
    ),
    "ws_v11.auth_required.json": ("/ws/v11", NOTHING),
    "ws_v11.auth_response.json": ("/ws/v11", NOTHING),
    "ws_v11.message.json": ("/ws/v11", NOTHING),
    "ws_v11.ping.json": ("/ws/v11", NOTHING),
    "ws_v11.pong.json": ("/ws/v11", NOTHING),
    "ws_v11.subscribe_response.json": ("/ws/v11", NOTHING),
    "ws_v11.unsubscribe_response.json": ("/ws/v11", NOTHING),
}
SOME_VALUES = {
    "ws_dashboard.metrics.json": {
        "ledger_transactions_total": 91223344,
        "ledger_transactions_failed_total": 224,
        "ledger_transactions_success_ratio": 0.9999,
        "ledger_finality_seconds,quantile=0.99": 0.0963,
        "ledger_transactions_by_type_total,type=contract": 4561167,
        "ledger_nodes,state=inactive": 1,
        "ledger_system_memory_used_bytes": 1874 * MIB,
    },
    "ws_dashboard.nodes.json": {
        "ledger_peer_healthy,peer=node-1": 1,
        "ledger_peer_synced,peer=node-1": 1,
        "ledger_peer_p99_latency_seconds,peer=node-1": 0.0189,
        "ledger_peer_blocks_behind,peer=node-1": 0,
    },
    "ws_dashboard.performance.json": {
        "ledger_latency_seconds,quantile=0.99": 0.0189,
        "ledger_target_tps": 2000000,
        "ledger_errors_total": 224,
    },
}
ERRORS = {
    "live_stream.error.json": ("/api/v11/live/stream", "Channel not specified"),
    "ws_channels.error.json": ("/ws/channels", "Invalid message format"),
    "ws_v11.error.json": ("/ws/v11", "Not authorized to subscrib"),
}
HEALTH = {
    "q_health.json": (7, 1, set()),
    "q_health.five_checks.json": (5, 1, set()),
    "q_health.down_503.json": (7, 0, {"oracle-service"}),
    "docvariant.q_health.phase3c.json": (5, 1, set()),
}
TEXT = {
    "q_metrics.txt": ("jvm_memory_used_bytes,area=heap,id=G1 Old Gen", 1.073741824e9),
    "docvariant.q_metrics.documented_names.txt": (
        "aurigraph_transaction_duration_seconds_bucket,le=0.1",
        985,
    ),
}


def read(name: str) -> bytes:
    return (folder() / name).read_bytes()


def test_no_payload_is_left_out() -> None:
    known = {*VALUES, *SOME_VALUES, *ERRORS, *HEALTH, *TEXT, "ws_transactions.text_frames.txt"}
    there = {path.name for path in folder().iterdir()}
    # What the platform answers over REST is not collected.
    assert {name for name in there - known if not name.startswith("rest.")} == set()
    assert known <= {path.name for path in COPIES.iterdir()}


@pytest.mark.parametrize("name", VALUES)
def test_a_message_gives_what_it_is_documented_to_say(name: str) -> None:
    feed, expected = VALUES[name]

    readings = FeedReader(feed).read(read(name)).readings

    assert named(readings) == expected


@pytest.mark.parametrize("name", SOME_VALUES)
def test_a_dashboard_message_gives_its_numbers(name: str) -> None:
    found = named(FeedReader("/ws/dashboard").read(read(name)).readings)

    assert {key: found[key] for key in SOME_VALUES[name]} == pytest.approx(SOME_VALUES[name])


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_that_the_other_side_reports_is_one_here(name: str) -> None:
    feed, said = ERRORS[name]

    with pytest.raises(PayloadError, match=said) as error:
        FeedReader(feed).read(read(name))

    assert error.value.reason == "refused"


@pytest.mark.parametrize("feed", ["/ws/transactions/legacy", "/ws/transactions"])
def test_transactions_are_counted_with_their_value_and_gas(feed: str) -> None:
    reader = FeedReader(feed)
    for _ in range(2):
        reader.read(read("ws_transactions_legacy.TransactionMessage.json"))

    assert named(reader.counted()) == {
        f"ledger_transaction_events_total,feed={feed},status=pending": 0,
        f"ledger_transaction_events_total,feed={feed},status=confirmed": 2,
        f"ledger_transaction_events_total,feed={feed},status=failed": 0,
        f"ledger_transaction_events_total,feed={feed},status=other": 0,
        f"ledger_transaction_value_total,feed={feed}": 5e18,
        f"ledger_transaction_gas_total,feed={feed}": 42000,
    }


def test_texts_of_the_transaction_stream_are_replies_or_errors() -> None:
    reader = FeedReader("/ws/transactions")
    outcomes = []
    for text in read("ws_transactions.text_frames.txt").decode().splitlines():
        try:
            assert reader.read(text).readings is None
            outcomes.append("reply")
        except PayloadError as error:
            outcomes.append(error.reason)

    assert outcomes == ["reply"] * 4 + ["refused"] * 2


@pytest.mark.parametrize("name", HEALTH)
def test_health_is_read_by_the_names_of_its_checks(name: str) -> None:
    checks, up, down = HEALTH[name]
    readings = read_health(read(name))

    values = named(readings)
    assert values.pop("health_up") == up
    assert len(values) == checks
    assert {key for key, value in values.items() if not value} == {
        f"health_check_up,check={check}" for check in down
    }


@pytest.mark.parametrize("name", TEXT)
def test_metrics_are_read(name: str) -> None:
    series, value = TEXT[name]

    assert named(TextParser().parse(read(name)))[series] == value
