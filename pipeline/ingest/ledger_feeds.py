"""The ledger platform's WebSocket endpoints: what each says, and what a client has to say. Pure.

| endpoint | a client has to |
|---|---|
| `/ws/metrics`, `/ws/validators`, `/ws/consensus`, `/ws/network`, `/ws/transactions/legacy` | listen |
| `/api/v11/live/stream`, `/ws/dashboard`, `/ws/channels` | name its channels |
| `/ws/transactions` | show a token with the request, name its channels, and speak once in 60 s |
| `/ws/v11` | send a token first, name its channels when that was accepted, and answer pings |
"""  # noqa: E501 - a table's row is a line

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from pipeline.ingest.ledger_fields import CHANNELS, DASHBOARD, LIVE, METRICS
from pipeline.ingest.ledger_shapes import Message
from pipeline.ingest.ledger_streams import (
    CONSENSUS,
    HEARTBEAT,
    NETWORK,
    SESSIONS,
    STREAM,
    VALIDATOR,
    transactions,
)
from pipeline.ingest.readings import PayloadError

Json: TypeAlias = "dict[str, Json] | list[Json] | str | float | int | bool | None"

_PONG = '{"type":"pong"}'


class RefusedError(PayloadError):
    """The other side doesn't accept the token: there is nothing more to hear from it."""


class Feed(msgspec.Struct, frozen=True):
    """One endpoint."""

    path: str
    messages: dict[str, Message]
    """By type; a message without one has the type ''."""
    subscribe: tuple[str, ...] = ()
    """What to send once we are let in."""
    login: Literal["none", "request", "message"] = "none"
    """Where the token goes: nowhere, with the request, or into the first message."""
    keep_alive: tuple[str, ...] = ()
    """What to send now and then, because silent clients are closed."""
    quiet: bool = False
    """Whether there may be no message for long: something is sent when something happens."""
    replies: tuple[str, ...] = ()
    """How texts begin that are no JSON, and right."""

    def opening(self, token: str) -> tuple[str, ...]:
        """What to send at once."""
        if self.login == "message":
            return (msgspec.json.encode({"type": "auth", "token": token}).decode(),)
        return self.subscribe

    def answers(self, content: Mapping[str, Json]) -> tuple[str, ...]:
        """What to send after a message.

        Raises
        ------
        RefusedError
            The message says that the token isn't good.
        """
        if self.login != "message":
            return ()
        if content.get("type") == "ping":
            return (_PONG,)
        if content.get("type") != "auth_response":
            return ()
        if content.get("status") != "success":
            raise RefusedError("unauthorized", f"{self.path}: the token was not accepted")
        return self.subscribe


def _typed(message: Message, *kinds: str) -> dict[str, Message]:
    """A message that comes bare, or in the portal's envelope with one of these types."""
    return dict.fromkeys(("", *kinds), message)


def _channels(*names: str) -> tuple[str, ...]:
    return tuple(f'{{"type":"subscribe","channel":"{name}"}}' for name in names)


_TABLE = (
    Feed("/ws/metrics", _typed(METRICS, "metric", "metrics")),
    # It sends tps_updates to everyone, and once more to those who ask for them.
    Feed(
        "/api/v11/live/stream",
        LIVE,
        _channels("block_updates", "network_status", "validator_metrics"),
    ),
    Feed(
        "/ws/dashboard",
        DASHBOARD,
        ('{"action":"subscribe","channels":["metrics","nodes","performance"]}',),
    ),
    Feed("/ws/channels", CHANNELS, ('{"action":"subscribe","channels":["main-channel"]}',)),
    Feed("/ws/validators", _typed(VALIDATOR, "validator", "validators"), quiet=True),
    Feed("/ws/consensus", _typed(CONSENSUS, "consensus"), quiet=True),
    Feed("/ws/network", _typed(NETWORK, "network"), quiet=True),
    Feed(
        "/ws/transactions/legacy",
        _typed(transactions("/ws/transactions/legacy"), "transaction", "transactions"),
        quiet=True,
    ),
    Feed(
        "/ws/transactions",
        _typed(transactions("/ws/transactions"), "transaction", "transactions")
        | {"STATS": SESSIONS, "HEARTBEAT": HEARTBEAT},
        ("SUBSCRIBE transactions", "SUBSCRIBE system"),
        login="request",
        keep_alive=("PING", "STATS"),
        quiet=True,
        replies=("PONG", "SUBSCRIBED ", "UNSUBSCRIBED "),
    ),
    Feed(
        "/ws/v11",
        {"message": STREAM, "metric": STREAM},
        _channels("transactions", "blocks", "bridge", "analytics"),
        login="message",
        quiet=True,
    ),
)
FEEDS: Mapping[str, Feed] = {feed.path: feed for feed in _TABLE}
