"""The ledger platform's messages: names, counters, what a client answers, and what is refused.

What the documented payloads give is in `test_ledger_samples.py`.
"""

import json
import re
from pathlib import Path

import pytest

from pipeline.ingest import ledger_streams
from pipeline.ingest.ledger import MAX_ITEMS, FeedReader, families, read_message
from pipeline.ingest.ledger_feeds import FEEDS, RefusedError
from pipeline.ingest.readings import PayloadError

SAMPLES = Path(__file__).parent / "samples"


def counted(reader: FeedReader) -> dict[str, float]:
    readings = reader.counted()
    assert readings is not None
    return {
        ",".join([s.name, *(v for k, v in s.labels if k not in ("__name__", "feed"))]): value
        for s, value in zip(readings.series, readings.values.tolist(), strict=True)
    }


def test_no_series_comes_from_two_feeds() -> None:
    """Names are those of one feed, or the series say which one they come from."""
    feeds_of: dict[str, set[str]] = {}
    for feed in FEEDS.values():
        for message in feed.messages.values():
            for field in message.fields:
                feeds_of.setdefault(field.name, set()).add(feed.path)
            for tally in message.tallies:
                by_feed = ("feed", feed.path) in tally.labels
                feeds_of.setdefault(tally.name, set()).add("" if by_feed else feed.path)

    assert {name: paths for name, paths in feeds_of.items() if len(paths) > 1} == {}
    assert feeds_of.keys() == families().keys()
    assert families()["ledger_leader_changes_total"].kind == "counter"


def test_the_table_of_streams_names_every_series() -> None:
    documented = set(re.findall(r"`(ledger_\w+)`", ledger_streams.__doc__ or ""))
    streams = [feed for path, feed in FEEDS.items() if feed.quiet]
    messages = [message for feed in streams for message in feed.messages.values()]
    given = {field.name for message in messages for field in message.fields}
    given |= {tally.name for message in messages for tally in message.tallies}
    assert len(streams) == 6
    assert documented == given


@pytest.mark.parametrize(
    ("feed", "sample"),
    [
        ("/ws/validators", "ws_validators.ValidatorMessage.json"),
        ("/ws/consensus", "ws_consensus.ConsensusMessage.json"),
        ("/ws/network", "ws_network.NetworkMessage.json"),
    ],
)
@pytest.mark.parametrize("key", ["data", "payload"])
def test_a_message_means_the_same_in_the_portal_s_envelope(
    feed: str, sample: str, key: str
) -> None:
    bare = (SAMPLES / sample).read_text()
    kind = feed.removeprefix("/ws/")
    envelope = {"type": kind, "channel": kind, key: json.loads(bare), "messageId": "m-1"}

    wrapped, plain = read_message(feed, json.dumps(envelope)), read_message(feed, bare)

    assert wrapped is not None
    assert plain is not None
    assert wrapped.series == plain.series
    assert wrapped.values.tolist() == plain.values.tolist()


def test_a_new_leader_is_a_change_and_the_first_one_is_none() -> None:
    reader = FeedReader("/ws/consensus")
    for leader in ("a", "a", "b", "a"):
        reader.read(json.dumps({"leader": leader, "round": 1}))
    reader.read('{"round": 2}')
    assert counted(reader) == {"ledger_leader_changes_total": 2}

    documented = FeedReader("/ws/consensus")
    for proposer in ("a", "b"):
        documented.read(json.dumps({"proposer": proposer, "status": "IN_PROGRESS"}))
    assert counted(documented) == {"ledger_leader_changes_total": 1}


def test_a_message_that_is_refused_counts_nothing() -> None:
    reader = FeedReader("/ws/transactions/legacy")
    good, bad = {"status": "CONFIRMED", "value": "7"}, {"status": "FAILED", "value": "-1"}

    with pytest.raises(PayloadError, match="value: expected a number >= 0"):
        reader.read(json.dumps({"type": "transactions", "data": [good, bad]}))

    assert set(counted(reader).values()) == {0}


@pytest.mark.parametrize("value", ["1e9", "١", "", "9" * 41, [], True, 1e31, -1, "1.2.3"])
def test_a_value_that_is_no_decimal_is_refused(value: object) -> None:
    with pytest.raises(PayloadError) as error:
        FeedReader("/ws/transactions").read(json.dumps({"value": value}))
    assert error.value.reason == "field"


def test_words_that_nobody_knows_share_a_counter() -> None:
    reader = FeedReader("/ws/transactions/legacy")
    for i in range(100):
        reader.read(json.dumps({"status": f"s{i}", "value": 0.5}))
    reader.read('{"status": 5}')

    found = counted(reader)
    assert found["ledger_transaction_events_total,other"] == 101
    assert found["ledger_transaction_value_total"] == 50
    assert len(found) == 6


def test_v11_counts_messages_by_channel_and_shows_the_numbers_in_them() -> None:
    reader = FeedReader("/ws/v11")
    data = {
        "tps": 5,
        "ok": True,
        "note": "n",
        "pool": {"size": 2, "deep": {"er": 1.5}},
        "list": [1],
    }
    message = {"type": "message", "channel": "analytics", "data": data, "timestamp": 9}

    heard = reader.read(json.dumps(message))
    reader.read(json.dumps(message | {"channel": "gossip"}))

    assert heard.readings is not None
    shown = {
        (dict(s.labels)["channel"], dict(s.labels)["field"]): value
        for s, value in zip(heard.readings.series, heard.readings.values.tolist(), strict=True)
    }
    assert shown == {
        ("analytics", "tps"): 5,
        ("analytics", "pool.size"): 2,
        ("analytics", "pool.deep.er"): 1.5,
    }
    found = counted(reader)
    assert found["ledger_stream_messages_total,analytics"] == 1
    assert found["ledger_stream_messages_total,other"] == 1
    assert found["ledger_stream_messages_total,blocks"] == 0


def test_most_feeds_are_told_what_is_wanted_at_once() -> None:
    live = FEEDS["/api/v11/live/stream"].opening("")

    assert [json.loads(text)["channel"] for text in live] == [
        "block_updates",
        "network_status",
        "validator_metrics",
    ]
    assert FEEDS["/ws/metrics"].opening("") == ()
    assert FEEDS["/ws/transactions"].opening("t") == (
        "SUBSCRIBE transactions",
        "SUBSCRIBE system",
    )
    assert FEEDS["/ws/transactions"].keep_alive == ("PING", "STATS")
    assert [path for path, feed in FEEDS.items() if feed.login != "none"] == [
        "/ws/transactions",
        "/ws/v11",
    ]


def test_v11_sends_the_token_first_and_subscribes_when_it_was_accepted() -> None:
    feed, reader = FEEDS["/ws/v11"], FeedReader("/ws/v11")

    assert [json.loads(text) for text in feed.opening('a"b')] == [{"type": "auth", "token": 'a"b'}]
    required = reader.read((SAMPLES / "ws_v11.auth_required.json").read_bytes())
    accepted = reader.read((SAMPLES / "ws_v11.auth_response.json").read_bytes())
    pinged = reader.read((SAMPLES / "ws_v11.ping.json").read_bytes())

    assert required.answers == ()
    assert [json.loads(text)["channel"] for text in accepted.answers] == [
        "transactions",
        "blocks",
        "bridge",
        "analytics",
    ]
    assert [json.loads(text) for text in pinged.answers] == [{"type": "pong"}]


def test_v11_says_when_the_token_is_not_good() -> None:
    with pytest.raises(RefusedError) as error:
        FeedReader("/ws/v11").read('{"type":"auth_response","status":"error","message":"x"}')
    assert error.value.reason == "unauthorized"


def test_only_v11_is_answered() -> None:
    assert FeedReader("/ws/metrics").read('{"type":"ping"}').answers == ()


@pytest.mark.parametrize(
    ("payload", "reason", "message"),
    [
        ("PONG", "not_json", "/ws/metrics: expected JSON"),
        ("", "not_json", "/ws/metrics: expected JSON"),
        ('{"tps":NaN}', "not_json", "/ws/metrics: expected JSON"),
        ('{"tps":Infinity}', "not_json", "/ws/metrics: expected JSON"),
        ('{"tps":1e999}', "not_json", "/ws/metrics: expected JSON"),
        ('{"tps":"\\ud800"}', "not_json", "/ws/metrics: expected JSON"),
        (b"\xff\xfe", "not_json", "/ws/metrics: expected JSON"),
        ("[" * 100_000, "not_json", "/ws/metrics: expected JSON"),
        ('{"tps":' * 100_000, "not_json", "/ws/metrics: expected JSON"),
        ("[1]", "shape", "/ws/metrics: expected a JSON object, got [1]"),
        ('{"data":[1]}', "shape", "/ws/metrics: expected an object, got 1"),
        ('{"tps":"fast"}', "field", '/ws/metrics: tps: expected a number, got "fast"'),
        ('{"tps":true}', "field", "/ws/metrics: tps: expected a number, got true"),
        ('{"tps":[1]}', "field", "/ws/metrics: tps: expected a number, got [1]"),
        ('{"memory":1e308}', "field", "/ws/metrics: memory: expected a number that a double"),
        ('{"tps":1' + "0" * 400 + "}", "field", "/ws/metrics: tps: expected a number that a"),
        ('{"tps":[1' + "0" * 400 + "]}", "field", "/ws/metrics: tps: expected a number, got [1000"),
        (
            '{"data":[' + "{}," * MAX_ITEMS + "{}]}",
            "too_many",
            "/ws/metrics: expected at most 1000",
        ),
    ],
)
def test_a_wrong_message_says_what_was_expected(
    payload: str | bytes, reason: str, message: str
) -> None:
    with pytest.raises(PayloadError) as error:
        read_message("/ws/metrics", payload)

    assert error.value.reason == reason
    assert str(error.value).startswith(message)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("feed", "content", "message"),
    [
        ("/ws/channels", {"type": "channel_update", "metrics": {"tps": 1}}, "channelId: expected"),
        ("/ws/validators", {"validator": ""}, 'validator: expected a name, got ""'),
        ("/ws/validators", {"validator": 5}, "validator: expected a name, got 5"),
        ("/ws/network", {"peerId": "p" * 129}, "peerId: expected at most 128 characters"),
        ("/ws/network", {"peerId": "p", "connected": 1}, "connected: expected a word, got 1"),
        ("/ws/v11", {"type": "message", "channel": "c", "data": {"k" * 129: 1}}, "at most 128"),
        (
            "/ws/v11",
            {"type": "message", "channel": "c", "data": {f"k{i}": i for i in range(1001)}},
            "expected at most 1000 numbers",
        ),
        (
            "/ws/dashboard",
            {"type": "metrics", "data": {"transactionMetrics": {"transactionsByType": [1]}}},
            "transactionsByType: expected an object",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_named(feed: str, content: object, message: str) -> None:
    with pytest.raises(PayloadError, match=message):
        read_message(feed, json.dumps(content))


def test_objects_that_are_nested_deeply_give_no_numbers_below_the_fourth_level() -> None:
    data: dict[str, object] = {"n": 1}
    for _ in range(50):
        data = {"in": data, "n": 1}

    readings = read_message(
        "/ws/v11", json.dumps({"type": "message", "channel": "c", "data": data})
    )

    assert readings is not None
    assert [dict(series.labels)["field"] for series in readings.series] == [
        "in.in.in.n",
        "in.in.n",
        "in.n",
        "n",
    ]
