import json

import msgspec
import pytest

from pipeline.ingest.health import read_health
from pipeline.ingest.ledger import read_message
from pipeline.local.fleet import dashboard, payloads, streams
from pipeline.local.fleet.faults import Fault
from pipeline.local.fleet.model import GENESIS_S, FleetModel

START_MS = 1_767_604_530_482


def _sent(content):
    """What a client reads of a message that holds `content`."""
    return json.loads(payloads.encode(content))


def shape(value):
    """Keys and kinds of values; of a list the first item. Numbers are one kind."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"
    return type(value).__name__


@pytest.fixture(scope="module")
def state():
    model = FleetModel(5, 1)
    return model.state(START_MS, model.timeline(()))


@pytest.mark.parametrize(
    ("sample", "content"),
    [
        ("ws_metrics.MetricsMessage.json", payloads.metrics_message),
        ("live_stream.tps_update.json", payloads.tps_update),
        ("live_stream.block_update.json", payloads.block_update),
        ("live_stream.network_update.json", payloads.network_update),
        ("live_stream.validator_update.json", payloads.validator_update),
        ("ws_channels.channel_update.json", payloads.channel_update),
        ("ws_channels.transaction.json", payloads.channel_transaction),
        ("ws_validators.ValidatorMessage.json", streams.validator_message),
        ("ws_consensus.ConsensusMessage.json", streams.consensus_message),
        ("ws_network.NetworkMessage.json", streams.network_message),
        ("ws_transactions_legacy.TransactionMessage.json", streams.transaction_message),
        ("ws_channels.block.json", payloads.channel_block),
        ("ws_dashboard.metrics.json", dashboard.metrics),
        ("ws_dashboard.performance.json", dashboard.performance),
    ],
)
def test_message_has_the_shape_of_the_sample(state, samples, sample, content):
    assert shape(_sent(content(state, 1))) == shape(json.loads(samples(sample)))


def test_dashboard_nodes_have_the_shape_of_the_sample(state, samples):
    ours = _sent(dashboard.nodes(state, 1))
    theirs = json.loads(samples("ws_dashboard.nodes.json"))
    for message in (ours, theirs):  # its keys are the names of peers
        assert message["data"][0]["connectivity"].pop("peerLatencies")
    assert shape(ours) == shape(theirs)


def test_health_has_the_checks_of_the_sample(state, samples):
    up, body = payloads.health(state.nodes[0])
    theirs = json.loads(samples("q_health.json"))
    assert up
    ours = json.loads(body)
    assert [check["name"] for check in ours["checks"]] == [
        check["name"] for check in theirs["checks"]
    ]
    assert [shape(check) for check in ours["checks"]] == [
        shape(check) for check in theirs["checks"]
    ]


def test_lost_oracles_make_health_down_as_in_the_sample(samples):
    model = FleetModel(1, 1)
    timeline = model.timeline([Fault("health-degraded", 0, START_MS / 1000 - GENESIS_S)])
    up, body = payloads.health(model.state(START_MS, timeline).nodes[0])
    theirs = json.loads(samples("q_health.down_503.json"))
    assert not up
    assert json.loads(body)["checks"][-1] == theirs["checks"][-1]
    assert json.loads(body)["status"] == "DOWN"
    assert read_health(body).values.tolist() == [0, 1, 1, 1, 1, 1, 1, 0]


def test_too_many_sockets_make_health_down(state):
    crowded = msgspec.structs.replace(state.nodes[0], connections=8000.0)
    up, body = payloads.health(crowded)
    assert not up
    check = json.loads(body)["checks"][5]
    assert check["status"] == "DOWN"
    parts = [value for key, value in check["data"].items() if key.endswith("_ws")]
    assert sum(parts) == check["data"]["total_connections"] == 8000


def test_figures_are_those_of_the_state(state):
    said = _sent(dashboard.performance(state, 2))
    assert said["data"]["latency"]["p99LatencyMs"] == round(state.nodes[2].p99 * 1000, 3)
    assert _sent(payloads.tps_update(state, 0))["payload"]["currentTPS"] == int(state.network.tps)
    message = _sent(payloads.metrics_message(state, 2))
    assert message["timestamp"] == "2026-01-05T09:15:30.482Z"
    assert message["tps"] == int(state.nodes[2].tps)


def test_dashboard_instants_are_numeric_seconds(state):
    assert _sent(dashboard.metrics(state, 0))["data"]["timestamp"] == 1767604530.482


def test_block_refers_to_the_one_before(state):
    model = FleetModel(5, 1)
    later = model.state(START_MS + 2000, model.timeline(()))
    first, second = (_sent(payloads.channel_block(each, 0))["block"] for each in (state, later))
    assert second["height"] == first["height"] + 1
    assert second["prevHash"] == first["hash"]


def _value(feed, content, name, **labels):
    readings = read_message(feed, payloads.encode(content))
    wanted = {"__name__": name, **labels}
    (found,) = [
        value
        for series, value in zip(readings.series, readings.values, strict=True)
        if dict(series.labels) == wanted
    ]
    return found


def test_the_collector_reads_the_series_that_the_critical_rules_need(state):
    latency = _value(
        "/ws/dashboard",
        dashboard.performance(state, 1),
        "ledger_latency_seconds",
        quantile="0.99",
    )
    assert latency == pytest.approx(state.nodes[1].p99, abs=1e-6)
    transactions = _value("/ws/dashboard", dashboard.metrics(state, 1), "ledger_transactions_total")
    assert transactions == state.network.transactions
    tps = _value("/api/v11/live/stream", payloads.tps_update(state, 1), "ledger_network_tps")
    assert tps == int(state.network.tps)


@pytest.mark.parametrize(
    ("faults", "expected"), [((), "healthy"), ((Fault("tps-drop", None, 0.0),), "degraded")]
)
def test_network_health_follows_throughput(faults, expected):
    model = FleetModel(5, 1)
    state = model.state(START_MS, model.timeline(faults))
    assert _sent(payloads.network_update(state, 0))["payload"]["networkHealth"] == expected
