import json

import pytest

from pipeline.local.fleet.clients import Client, Limits, ShownOutError
from pipeline.local.fleet.guarded import (
    answer_transactions,
    answer_v11,
    beat_transactions,
    beat_v11,
    greet_transactions,
    greet_v11,
)
from pipeline.local.fleet.tokens import ROLES, Tokens, User

NOW_MS = 1_767_604_530_482
TOKENS = Tokens(1)


def client(user=None, room=None, channels=()):
    room = [] if room is None else room
    made = Client("s-0001", NOW_MS - 30_000, list(channels), room, TOKENS, Limits(), user)
    room.append(made)
    return made


def said(answer):
    return json.loads(answer)


def sample(samples, name):
    return json.loads(samples(name))


def test_transactions_greet_as_the_sample(samples):
    expected = sample(samples, "ws_transactions.WELCOME.json")
    assert said(greet_transactions(client(User(expected["userId"])), NOW_MS)) == expected


def test_transactions_answer_as_the_texts_of_the_sample(samples):
    texts = samples("ws_transactions.text_frames.txt").splitlines()
    someone = client(User("u"))
    commands = ["SUBSCRIBE transactions", "SUBSCRIBE system", "UNSUBSCRIBE system", "PING", "FOO"]
    answers = [answer_transactions(someone, each, NOW_MS).decode() for each in commands]
    assert [*answers, answer_transactions(someone, "SUBSCRIBE", NOW_MS).decode()] == texts
    assert someone.channels == ["transactions"]


def test_transactions_list_and_count_as_the_samples(samples):
    room = []
    first = client(User("a"), room, ["transactions", "system"])
    for user in (User("a"), User("b"), None):
        client(user, room)
    assert said(answer_transactions(first, "LIST", NOW_MS)) == sample(
        samples, "ws_transactions.SUBSCRIPTIONS.json"
    )
    assert said(answer_transactions(first, "STATS", NOW_MS)) == sample(
        samples, "ws_transactions.STATS.json"
    )
    assert said(beat_transactions(first, NOW_MS)) == sample(
        samples, "ws_transactions.HEARTBEAT.json"
    )


def test_a_channel_is_subscribed_to_once_and_left_once():
    someone = client(User("a"))
    for command in ("SUBSCRIBE x", "SUBSCRIBE x", "UNSUBSCRIBE x", "UNSUBSCRIBE x"):
        answer_transactions(someone, command, NOW_MS)
    assert someone.channels == []


def test_v11_greets_lets_in_and_answers_as_the_samples(samples):
    someone = client()
    assert said(greet_v11(someone, NOW_MS)) == sample(samples, "ws_v11.auth_required.json")
    token = TOKENS.issue(User("u"))
    for message, name in (
        ({"type": "auth", "token": token}, "auth_response"),
        ({"type": "subscribe", "channel": "analytics"}, "subscribe_response"),
        ({"type": "subscribe", "channel": "consensus"}, "error"),
        ({"type": "ping"}, "pong"),
        ({"type": "unsubscribe", "channel": "analytics"}, "unsubscribe_response"),
    ):
        answer = answer_v11(someone, json.dumps(message), NOW_MS)
        assert said(answer) == sample(samples, f"ws_v11.{name}.json")
    assert answer_v11(someone, '{"type":"pong"}', NOW_MS) is None
    assert said(beat_v11(someone, NOW_MS)) == sample(samples, "ws_v11.ping.json")


@pytest.mark.parametrize(
    ("groups", "channels"),
    [
        ((), {"transactions", "blocks", "bridge", "analytics"}),
        (
            ("VALIDATOR",),
            {"transactions", "blocks", "bridge", "analytics", "network", "validators"},
        ),
        (("DEVELOPER",), {"transactions", "blocks", "bridge", "analytics", "metrics"}),
        (("ADMIN",), set(ROLES)),
    ],
)
def test_v11_lets_a_role_read_its_channels(groups, channels):
    someone = client(User("u", groups))
    for channel in (*ROLES, "gossip"):
        answer_v11(someone, json.dumps({"type": "subscribe", "channel": channel}), NOW_MS)
    assert set(someone.channels) == channels


@pytest.mark.parametrize("text", ["x", "[]", "{}", '{"type":"dance"}', '{"type":"subscribe"}'])
def test_v11_says_what_it_does_not_understand(text):
    assert said(answer_v11(client(User("u")), text, NOW_MS))["type"] == "error"


@pytest.mark.parametrize(
    "text", ["x", "{}", '{"type":"auth"}', '{"type":"auth","token":"a.b"}', '{"type":"ping"}']
)
def test_v11_shows_out_who_does_not_begin_with_a_good_token(text):
    with pytest.raises(ShownOutError, match="Authentication failed"):
        answer_v11(client(), text, NOW_MS)


def test_v11_lets_in_five_connections_of_a_user():
    room = []
    text = json.dumps({"type": "auth", "token": TOKENS.issue(User("u"))})
    other = json.dumps({"type": "auth", "token": TOKENS.issue(User("v"))})
    for _ in range(5):
        answer_v11(client(room=room), text, NOW_MS)
    with pytest.raises(ShownOutError, match="Too many connections"):
        answer_v11(client(room=room), text, NOW_MS)
    answer_v11(client(room=room), other, NOW_MS)
