"""The two WebSocket protocols that want a token: `/ws/transactions` and `/ws/v11`."""

from __future__ import annotations

import msgspec

from pipeline.local.fleet.clients import Client, ShownOutError
from pipeline.local.fleet.payloads import Json, encode
from pipeline.local.fleet.tokens import ROLES, TokenError

BEAT_S = 30
"""Seconds of event time between two heartbeats or pings."""
_COMMANDS = "PING, SUBSCRIBE, UNSUBSCRIBE, LIST, STATS"


class _Message(msgspec.Struct):
    """What a client of `/ws/v11` sends."""

    type: str
    token: str = ""
    channel: str = ""
    filter: str = ""
    priority: int = 0


def greet_transactions(client: Client, _time_ms: int) -> bytes:
    assert client.user is not None, "whoever has no token is not greeted"
    message = "Connected to Aurigraph transaction stream"
    return encode(
        {
            "type": "WELCOME",
            "userId": client.user.sub,
            "sessionId": client.session,
            "message": message,
        }
    )


def answer_transactions(client: Client, text: str, _time_ms: int) -> bytes:
    command, _, channel = text.strip().partition(" ")
    match command:
        case "PING":
            return b"PONG"
        case "LIST":
            return encode({"type": "SUBSCRIPTIONS", "channels": list(client.channels)})
        case "STATS":
            return encode(_stats(client.room))
        case "SUBSCRIBE" | "UNSUBSCRIBE" if not channel:
            return f"ERROR: {command} requires channel name".encode()
        case "SUBSCRIBE":
            if channel not in client.channels:
                client.channels.append(channel)
            return f"SUBSCRIBED {channel}".encode()
        case "UNSUBSCRIBE":
            if channel in client.channels:
                client.channels.remove(channel)
            return f"UNSUBSCRIBED {channel}".encode()
        case _:
            said = command[:40]
            return f"ERROR: Unknown command '{said}'. Valid commands: {_COMMANDS}".encode()


def beat_transactions(client: Client, time_ms: int) -> bytes:
    seconds = (time_ms - client.since_ms) // 1000
    return encode({"type": "HEARTBEAT", "timestamp": time_ms, "connectionDuration": seconds})


def _stats(room: list[Client]) -> Json:
    users = [client.user.sub for client in room if client.user is not None]
    return {
        "type": "STATS",
        "totalSessions": len(room),
        "authenticatedSessions": len(users),
        "uniqueUsers": len(set(users)),
        "activeChannels": len({channel for client in room for channel in client.channels}),
        "queuedMessages": 0,
    }


def greet_v11(_client: Client, _time_ms: int) -> bytes:
    return encode(
        {
            "type": "auth_required",
            "message": "Please send authentication token",
            "format": {"type": "auth", "token": "your_jwt_token"},  # nosec B105 - the platform says it
        }
    )


def answer_v11(client: Client, text: str, time_ms: int) -> bytes | None:
    """The answer to one message.

    Raises
    ------
    ShownOutError
        The first one is no good token, or one too many of its user.
    """
    try:
        message = msgspec.json.decode(text, type=_Message)
    except msgspec.DecodeError:
        message = _Message("")
    if client.user is None:
        return _log_in(client, message, time_ms)
    match message.type:
        case "pong":
            return None
        case "ping":
            return encode({"type": "pong", "timestamp": time_ms})
        case "subscribe" | "unsubscribe":
            return _subscription(client, message, time_ms)
        case _:
            return _error("Invalid message format", time_ms)


def beat_v11(_client: Client, time_ms: int) -> bytes:
    return encode({"type": "ping", "timestamp": time_ms})


def _log_in(client: Client, message: _Message, time_ms: int) -> bytes:
    try:
        user = client.tokens.user_of(
            message.token if message.type == "auth" else "", time_ms / 1000
        )
    except TokenError:
        raise ShownOutError(
            "Authentication failed", _auth_response("error", "Authentication failed", time_ms)
        ) from None
    others = sum(other.user is not None and other.user.sub == user.sub for other in client.room)
    if others >= client.limits.connections:
        reason = "Too many connections of this user"
        raise ShownOutError(reason, _auth_response("error", reason, time_ms))
    client.user = user
    return _auth_response("success", "Authentication successful", time_ms)


def _subscription(client: Client, message: _Message, time_ms: int) -> bytes:
    assert client.user is not None, "only who is logged in subscribes"
    channel = message.channel
    if channel not in ROLES:
        return _error(f"Unknown channel: {channel[:40]}", time_ms)
    answer: dict[str, Json] = {
        "type": f"{message.type}_response",
        "status": "success",
        "channel": channel,
    }
    if message.type == "unsubscribe":
        if channel in client.channels:
            client.channels.remove(channel)
        return encode(answer)
    if not client.user.may_read(channel):
        return _error(f"Not authorized to subscribe to channel: {channel}", time_ms)
    if channel not in client.channels:
        client.channels.append(channel)
    return encode(answer | {"filter": message.filter, "priority": message.priority})


def _auth_response(status: str, message: str, time_ms: int) -> bytes:
    return encode(
        {"type": "auth_response", "status": status, "message": message, "timestamp": time_ms}
    )


def _error(message: str, time_ms: int) -> bytes:
    return encode({"type": "error", "message": message, "timestamp": time_ms})
