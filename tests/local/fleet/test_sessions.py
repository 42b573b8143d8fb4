import json

import pytest

from pipeline.local.fleet.clients import Client, Limits
from pipeline.local.fleet.model import FleetModel
from pipeline.local.fleet.payloads import encode
from pipeline.local.fleet.sessions import ENDPOINTS, due
from pipeline.local.fleet.tokens import Tokens

NOW_MS = 1_767_604_530_482


def _sample(samples, name):
    return json.loads(samples(name))


def _client(session, channels=None):
    channels = [] if channels is None else channels
    return Client(session, NOW_MS, channels, [], Tokens(1), Limits())


def _answer(path, said, channels=None):
    answer = ENDPOINTS[path].answer(_client("s", channels), said, NOW_MS)
    return None if answer is None else json.loads(answer)


def test_live_stream_greets_as_the_sample(samples):
    greeting = json.loads(ENDPOINTS["/api/v11/live/stream"].greet(_client("s-1"), NOW_MS))
    sample = _sample(samples, "live_stream.connection_established.json")
    assert len(greeting["payload"].pop("connectionId")) == 36
    del sample["payload"]["connectionId"]
    assert greeting == sample


@pytest.mark.parametrize(
    ("said", "sample"),
    [
        ('{"type":"subscribe","channel":"block_updates"}', "subscription_confirmed"),
        ('{"type":"subscribe"}', "error"),
        ('{"type":"ping"}', "pong"),
    ],
)
def test_live_stream_answers_as_the_sample(samples, said, sample):
    expected = _sample(samples, f"live_stream.{sample}.json")
    assert _answer("/api/v11/live/stream", said) == expected


@pytest.mark.parametrize("said", ["nonsense", "[]", '{"type":"dance"}'])
def test_live_stream_says_what_it_does_not_understand(said):
    assert _answer("/api/v11/live/stream", said)["type"] == "error"


def test_live_stream_doubles_a_second_subscription_and_ignores_unsubscribing():
    channels = list(ENDPOINTS["/api/v11/live/stream"].automatic)
    _answer("/api/v11/live/stream", '{"type":"subscribe","channel":"tps_updates"}', channels)
    said = '{"type":"unsubscribe","channel":"tps_updates"}'
    assert _answer("/api/v11/live/stream", said, channels) is None
    assert channels == ["tps_updates", "tps_updates"]


def test_channels_protocol_is_that_of_the_samples(samples):
    endpoint = ENDPOINTS["/ws/channels"]
    assert json.loads(endpoint.greet(_client("s-0002"), NOW_MS)) == _sample(
        samples, "ws_channels.connected.json"
    )
    channels = []
    said = '{"action":"subscribe","channels":["main-channel"]}'
    for _ in range(2):
        assert _answer("/ws/channels", said, channels) == _sample(
            samples, "ws_channels.subscribed.json"
        )
    assert channels == ["main-channel"]
    assert _answer("/ws/channels", "{}") == _sample(samples, "ws_channels.error.json")


def test_dashboard_acknowledges_without_a_type(samples):
    channels = []
    said = '{"action":"subscribe","channels":["nodes","performance"]}'
    assert _answer("/ws/dashboard", said, channels) == _sample(
        samples, "ws_dashboard.subscribed_ack.json"
    )
    assert channels == ["nodes", "performance"]
    assert _answer("/ws/dashboard", '{"action":"leave"}') is None


def test_metrics_need_no_subscription():
    endpoint = ENDPOINTS["/ws/metrics"]
    assert endpoint.greet(_client("s"), NOW_MS) is None
    assert endpoint.answer(_client("s"), "hello", NOW_MS) is None
    assert endpoint.automatic == (endpoint.messages[0].channel,)


def test_cadences_are_those_of_the_platform():
    cadences = {
        (path, message.channel): message.every_s
        for path, endpoint in ENDPOINTS.items()
        for message in endpoint.messages
        if path != "/ws/channels"
    }
    assert cadences == {
        ("/ws/metrics", "metrics"): 1,
        ("/api/v11/live/stream", "tps_updates"): 1,
        ("/api/v11/live/stream", "block_updates"): 2,
        ("/api/v11/live/stream", "network_status"): 3,
        ("/api/v11/live/stream", "validator_metrics"): 5,
        ("/ws/dashboard", "metrics"): 1,
        ("/ws/dashboard", "nodes"): 3,
        ("/ws/dashboard", "performance"): 5,
        ("/ws/validators", "events"): 2,
        ("/ws/consensus", "events"): 1,
        ("/ws/network", "events"): 3,
        ("/ws/transactions/legacy", "events"): 2,
        ("/ws/transactions", "transactions"): 2,
        ("/ws/v11", "analytics"): 5,
    }
    assert [message.every_s for message in ENDPOINTS["/ws/channels"].messages] == [2, 2, 5]


def test_what_is_due_every_five_seconds_comes_once_in_five_also_with_gaps():
    performance = ENDPOINTS["/ws/dashboard"].messages[2]
    assert [due(performance, second - 1, second) for second in range(10, 16)] == [
        True, False, False, False, False, True,
    ]  # fmt: skip
    assert due(performance, 12, 17)


def test_messages_that_are_not_a_nodes_own_are_the_same_at_every_node():
    model = FleetModel(3, 1)
    state = model.state(NOW_MS, model.timeline(()))
    for endpoint in ENDPOINTS.values():
        for message in endpoint.messages:
            said = {encode(message.content(state, index)) for index in range(3)}
            assert len(said) == (3 if message.of_node else 1)
