"""The platform's WebSocket protocols: what a client may send, what it gets, and how often.

An endpoint is a row of `ENDPOINTS`. A client's subscriptions are a list of channels, in which one
may stand twice: the live stream sends everything twice to those who subscribe twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from uuid import NAMESPACE_OID, uuid5

import msgspec

from pipeline.local.fleet import dashboard, guarded, payloads, streams
from pipeline.local.fleet.clients import Client
from pipeline.local.fleet.model import FleetState
from pipeline.local.fleet.payloads import MAIN_CHANNEL, encode, live_message

Content = Callable[[FleetState, int], payloads.Json]
"""What the message of the node with that index holds."""


class Message(msgspec.Struct, frozen=True):
    """What subscribers of `channel` get every `every_s` seconds."""

    channel: str
    every_s: int
    content: Content
    of_node: bool = False
    """Whether each node says something of its own, or all of them the same."""
    event: bool = False
    """Whether it tells of one thing, each time of another, rather than always the same numbers."""


class Endpoint(msgspec.Struct, frozen=True):
    """One WebSocket endpoint."""

    path: str
    messages: tuple[Message, ...]
    automatic: tuple[str, ...] = ()
    """Channels that every client has from the start."""
    greet: Callable[[Client, int], bytes | None] = lambda _client, _time_ms: None
    """To a new client, at that time."""
    answer: Callable[[Client, str, int], bytes | None] = lambda _client, _text, _time_ms: None
    """To what a client says; changes its channels."""
    login: Literal["none", "request", "message"] = "none"
    """Where a client's token is: it needs none, or it comes with the request, or as a message."""
    beat: Callable[[Client, int], bytes] | None = None
    """What a client that has logged in gets every `guarded.BEAT_S` seconds."""


class _LiveCommand(msgspec.Struct):
    type: str = ""
    channel: str = ""


class _Action(msgspec.Struct):
    action: str
    channels: list[str] = []


def due(message: Message, last: int, second: int) -> bool:
    """Whether `message` is to be sent at `second` to one who was last served at `last`.

    >>> every_third = Message("nodes", 3, dashboard.nodes)
    >>> due(every_third, 2, 3), due(every_third, 3, 4), due(every_third, 5, 7)
    (True, False, True)
    """
    return second // message.every_s > last // message.every_s


def _greet_live(client: Client, time_ms: int) -> bytes:
    payload: payloads.Json = {
        "connectionId": str(uuid5(NAMESPACE_OID, client.session)),
        "timestamp": time_ms,
    }
    return live_message("connection_established", payload, time_ms)


def _answer_live(client: Client, text: str, time_ms: int) -> bytes | None:
    try:
        command = msgspec.json.decode(text, type=_LiveCommand)
    except msgspec.DecodeError:
        return live_message("error", {"error": "Invalid message format"}, time_ms)
    if command.type == "ping":
        return live_message("pong", {"timestamp": time_ms}, time_ms)
    if command.type == "unsubscribe":  # the platform does nothing with it
        return None
    if command.type != "subscribe":
        return live_message("error", {"error": "Unknown message type"}, time_ms)
    if not command.channel:
        return live_message("error", {"error": "Channel not specified"}, time_ms)
    client.channels.append(command.channel)
    confirmed: payloads.Json = {"channel": command.channel, "status": "subscribed"}
    return live_message("subscription_confirmed", confirmed, time_ms)


def _greet_channels(client: Client, _time_ms: int) -> bytes:
    message = "Connected to Aurigraph Channel Service"
    return encode({"type": "connected", "sessionId": client.session, "message": message})


def _answer_channels(client: Client, text: str, time_ms: int) -> bytes:
    action = _subscription(text)
    if action is None:
        return encode({"type": "error", "error": "Invalid message format", "timestamp": time_ms})
    _add(client.channels, action.channels)
    return encode({"type": "subscribed", "channels": action.channels})


def _answer_dashboard(client: Client, text: str, _time_ms: int) -> bytes | None:
    action = _subscription(text)
    if action is None:
        return None
    _add(client.channels, action.channels)
    return encode({"status": "subscribed", "channels": action.channels})


def _subscription(text: str) -> _Action | None:
    try:
        action = msgspec.json.decode(text, type=_Action)
    except msgspec.DecodeError:
        return None
    return action if action.action == "subscribe" else None


def _add(channels: list[str], more: list[str]) -> None:
    channels.extend(channel for channel in dict.fromkeys(more) if channel not in channels)


def _stream(
    path: str, every_s: int, content: Content, of_node: bool = False, event: bool = True
) -> Endpoint:
    """An endpoint that sends one kind of message to everyone who listens."""
    message = Message("events", every_s, content, of_node, event)
    return Endpoint(path, (message,), automatic=("events",))


_TABLE = (
    Endpoint(
        "/ws/metrics",
        (Message("metrics", 1, payloads.metrics_message, of_node=True),),
        automatic=("metrics",),
    ),
    Endpoint(
        "/api/v11/live/stream",
        (
            Message("tps_updates", 1, payloads.tps_update),
            Message("block_updates", 2, payloads.block_update),
            Message("network_status", 3, payloads.network_update),
            Message("validator_metrics", 5, payloads.validator_update),
        ),
        automatic=("tps_updates",),
        greet=_greet_live,
        answer=_answer_live,
    ),
    Endpoint(
        "/ws/dashboard",
        (
            Message("metrics", 1, dashboard.metrics, of_node=True),
            Message("nodes", 3, dashboard.nodes, of_node=True),
            Message("performance", 5, dashboard.performance, of_node=True),
        ),
        answer=_answer_dashboard,
    ),
    Endpoint(
        "/ws/channels",
        (
            Message(MAIN_CHANNEL, 2, payloads.channel_update),
            Message(MAIN_CHANNEL, 2, payloads.channel_transaction, event=True),
            Message(MAIN_CHANNEL, 5, payloads.channel_block),
        ),
        greet=_greet_channels,
        answer=_answer_channels,
    ),
    _stream("/ws/validators", 2, streams.validator_message),
    _stream("/ws/consensus", 1, streams.consensus_message, event=False),
    _stream("/ws/network", 3, streams.network_message, of_node=True),
    _stream("/ws/transactions/legacy", 2, streams.transaction_message),
    Endpoint(
        "/ws/transactions",
        (Message("transactions", 2, streams.transaction_message, event=True),),
        greet=guarded.greet_transactions,
        answer=guarded.answer_transactions,
        login="request",
        beat=guarded.beat_transactions,
    ),
    Endpoint(
        "/ws/v11",
        (Message("analytics", 5, streams.analytics_message),),
        greet=guarded.greet_v11,
        answer=guarded.answer_v11,
        login="message",
        beat=guarded.beat_v11,
    ),
)
ENDPOINTS: dict[str, Endpoint] = {endpoint.path: endpoint for endpoint in _TABLE}
