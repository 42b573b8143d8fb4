"""The ledger platform's messages: the samples of its documentation, and the wrong ones."""

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ingest.ledger import FEEDS, families, read_message
from pipeline.ingest.readings import PayloadError

SAMPLES = Path(__file__).parent / "samples"


def read(feed: str, sample: str) -> dict[str, float]:
    """The readings of a sample file, by name and labels."""
    readings = read_message(feed, (SAMPLES / sample).read_bytes())
    if readings is None:
        return {}
    return {
        ",".join([s.name, *(f"{k}={v}" for k, v in s.labels if k != "__name__")]): value
        for s, value in zip(readings.series, readings.values.tolist(), strict=True)
    }


def test_node_metrics_have_base_units() -> None:
    assert read("/ws/metrics", "ws_metrics.MetricsMessage.json") == {
        "ledger_node_tps": 781240,
        "ledger_node_cpu_percent": 63.4375,
        "ledger_node_memory_bytes": 1874 * 1024 * 1024,
        "ledger_node_connections": 12,
        "ledger_node_error_ratio": 0.001,
    }


def test_the_portal_s_envelope_is_accepted() -> None:
    assert read("/ws/metrics", "docvariant.portal_envelope.json") == {
        "ledger_node_tps": 781240,
        "ledger_node_cpu_percent": 63.4,
    }


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (
            "live_stream.tps_update.json",
            {
                "ledger_network_tps": 803117,
                "ledger_network_peak_tps": 800000,
                "ledger_network_average_tps": 750000,
                "ledger_network_latency_seconds": 0.051,
            },
        ),
        ("docvariant.live_stream.tps_update.json", {"ledger_network_tps": 2850000}),
        (
            "live_stream.block_update.json",
            {
                "ledger_block_height": 12345,
                "ledger_block_time_seconds": 1,
                "ledger_block_transactions": 500,
            },
        ),
        (
            "live_stream.network_update.json",
            {
                "ledger_network_active_nodes": 64,
                "ledger_network_total_nodes": 100,
                "ledger_network_healthy": 1,
                "ledger_network_average_latency_seconds": 0.042,
            },
        ),
        (
            "live_stream.validator_update.json",
            {
                "ledger_validators,state=total": 20,
                "ledger_validators,state=active": 15,
                "ledger_validators,state=inactive": 3,
                "ledger_validators,state=jailed": 2,
            },
        ),
        ("live_stream.pong.json", {}),
        ("live_stream.error.json", {}),
    ],
)
def test_live_stream(sample: str, expected: dict[str, float]) -> None:
    assert read("/api/v11/live/stream", sample) == expected


def test_the_dashboard_gives_transactions_finality_and_latency() -> None:
    metrics = read("/ws/dashboard", "ws_dashboard.metrics.json")
    performance = read("/ws/dashboard", "ws_dashboard.performance.json")

    assert metrics["ledger_transactions_total"] == 91223344
    assert metrics["ledger_transactions_failed_total"] == 224
    assert metrics["ledger_transactions_pending"] == 120
    assert metrics["ledger_transactions_by_type_total,type=transfer"] == 54734006
    assert metrics["ledger_finality_seconds,quantile=0.99"] == 0.0963
    assert performance["ledger_latency_seconds,quantile=0.5"] == pytest.approx(0.0041)
    assert performance["ledger_latency_seconds,quantile=0.99"] == 0.0189
    assert not metrics.keys() & performance.keys()


def test_each_node_of_the_dashboard_s_list_is_a_peer() -> None:
    nodes = read("/ws/dashboard", "ws_dashboard.nodes.json")

    assert nodes["ledger_peer_healthy,peer=node-1"] == 1
    assert nodes["ledger_peer_p99_latency_seconds,peer=node-1"] == 0.0189


def test_a_channel_is_a_label() -> None:
    update = read("/ws/channels", "ws_channels.channel_update.json")

    assert update["ledger_channel_tps,channel=main-channel"] == 902344
    assert update["ledger_channel_latency_seconds,channel=main-channel"] == 0.00281
    block = read("/ws/channels", "ws_channels.block.json")
    assert block["ledger_channel_block_height,channel=main-channel"] == 12561
    assert read("/ws/channels", "ws_channels.transaction.json") == {}


def test_no_name_comes_from_two_feeds() -> None:
    names = [
        (field.name, feed.path)
        for feed in FEEDS.values()
        for message in feed.messages.values()
        for field in message.fields
    ]
    assert len({name for name, _ in names}) == len(set(names)) == len(families())


@pytest.mark.parametrize(
    ("payload", "reason", "message"),
    [
        ("PONG", "not_json", "/ws/metrics: expected JSON"),
        ("[" * 100_000, "not_json", "/ws/metrics: expected JSON"),
        ("[1]", "shape", "/ws/metrics: expected a JSON object, got [1]"),
        ('{"tps":"fast"}', "field", '/ws/metrics: tps: expected a number, got "fast"'),
        ('{"data":[1]}', "shape", "/ws/metrics: expected an object, got 1"),
    ],
)
def test_a_wrong_message_says_what_was_expected(payload: str, reason: str, message: str) -> None:
    with pytest.raises(PayloadError) as error:
        read_message("/ws/metrics", payload)

    assert error.value.reason == reason
    assert str(error.value).startswith(message)


def test_a_channel_message_without_its_channel_is_refused() -> None:
    with pytest.raises(PayloadError, match="channelId: expected a name, got null"):
        read_message("/ws/channels", '{"type":"channel_update","metrics":{"tps":1}}')


KEYS = st.sampled_from(
    ["type", "data", "payload", "metrics", "tps", "nodeId", "status", "channelId", "latency"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(
    st.sampled_from(sorted(FEEDS)),
    st.dictionaries(KEYS, JSON | st.sampled_from(["nodes", "metric", "channel_update"])) | JSON,
)
def test_any_json_is_read_or_refused(feed: str, content: object) -> None:
    with suppress(PayloadError):
        readings = read_message(feed, json.dumps(content))
        assert readings is None or len(readings.series) == len(readings.values)


@given(st.sampled_from(sorted(FEEDS)), st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(feed: str, payload: bytes) -> None:
    with suppress(PayloadError):
        read_message(feed, payload)
