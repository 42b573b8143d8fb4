"""The simulated fleet's JSON Web Tokens: who someone is, and which roles he has.

Signed with HMAC-SHA256 (RFC 7519, RFC 7515), by a key that anyone can work out from the fleet's
seed: they open nothing but a simulation.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

_HEADER = {"alg": "HS256", "typ": "JWT"}
_MAX_LENGTH = 4096


class TokenError(ValueError):
    """A token that isn't good; the message doesn't show it."""


class User(msgspec.Struct, frozen=True):
    """What a token says; `groups` are the roles, as MicroProfile JWT calls them."""

    sub: str
    groups: tuple[str, ...] = ()
    exp: int | None = None
    """Seconds since the epoch from which it is no longer good."""

    def may_read(self, channel: str) -> bool:
        """Whether the platform lets this user subscribe to `channel` of `/ws/v11`."""
        role = ROLES.get(channel)
        return role is not None and (role in ("", *self.groups) or "ADMIN" in self.groups)


ROLES = {
    "transactions": "",
    "blocks": "",
    "bridge": "",
    "analytics": "",
    "network": "VALIDATOR",
    "validators": "VALIDATOR",
    "metrics": "DEVELOPER",
    "consensus": "ADMIN",
}
"""The role that a channel needs; empty: any."""


class Tokens:
    """Issues and checks the tokens of one fleet."""

    def __init__(self, seed: int) -> None:
        self._key = hashlib.sha256(f"simulated fleet {seed}".encode()).digest()

    def issue(self, user: User) -> str:
        signed = ".".join(_text(msgspec.json.encode(part)) for part in (_HEADER, user))
        return f"{signed}.{_text(self._signature(signed))}"

    def user_of(self, token: str, now: float) -> User:
        """Whose token it is.

        Raises
        ------
        TokenError
            It isn't one of this fleet's, or its time is over.
        """
        signed, _, signature = token.rpartition(".")
        if len(token) > _MAX_LENGTH or not token.isascii():
            raise TokenError("token: expected a JSON Web Token")
        if not hmac.compare_digest(_text(self._signature(signed)), signature):
            raise TokenError("token: the signature is not this fleet's")
        _, _, claims = signed.partition(".")
        padded = claims + "=" * (-len(claims) % 4)
        user = msgspec.json.decode(urlsafe_b64decode(padded), type=User)  # signed, so well formed
        if user.exp is not None and now >= user.exp:
            raise TokenError("token: it has expired")
        return user

    def _signature(self, signed: str) -> bytes:
        return hmac.digest(self._key, signed.encode(), "sha256")


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")
