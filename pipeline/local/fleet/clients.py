"""Whoever is connected to a WebSocket endpoint of a node, and how he is shown out."""

from __future__ import annotations

import msgspec

from pipeline.local.fleet.tokens import Tokens, User

POLICY_VIOLATION, GOING_AWAY = 1008, 1001


class Limits(msgspec.Struct, frozen=True):
    """What the platform puts up with; seconds on the wall clock, as sockets have them."""

    login_s: float = 10.0
    """How long a client of `/ws/v11` may take to send its token."""
    silence_s: float = 60.0
    """How long a client of an endpoint with tokens may say nothing."""
    connections: int = 5
    """Of one user to `/ws/v11` of one node."""


class Client(msgspec.Struct, eq=False):
    """One connection. A channel may stand twice in `channels`: then it gets everything twice."""

    session: str
    since_ms: int
    channels: list[str]
    room: list[Client]
    """All clients of the same endpoint, this one among them."""
    tokens: Tokens
    limits: Limits
    user: User | None = None


class ShownOutError(Exception):
    """The node closes the connection, perhaps after a last word."""

    def __init__(self, reason: str, last_word: bytes | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.last_word = last_word
