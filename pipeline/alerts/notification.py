"""What is sent: a group's alerts at one moment, for one integration of a receiver."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

import msgspec

from pipeline.model import Labels

Status = Literal["firing", "resolved"]


class Integration(msgspec.Struct, frozen=True):
    """One way in which a receiver is reached, such as its second webhook."""

    receiver: str
    kind: Literal["webhook"]
    index: int
    send_resolved: bool

    @property
    def id(self) -> str:
        return f"{self.receiver}/{self.kind}/{self.index}"


class AlertInMessage(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as a message tells it; `ends_at_ms` 0: still firing.

    `news` is false for what this integration was told before.
    """

    fingerprint: int
    episode_ms: int
    status: Status
    labels: Labels
    annotations: Labels
    starts_at_ms: int
    ends_at_ms: int
    generator_url: str = ""
    sample_time_ms: int = 0
    news: bool = True


class Message(msgspec.Struct, frozen=True):
    """`alerts` in the order in which they are shown: by job, then instance."""

    receiver: str
    group_key: str
    group_labels: Labels
    alerts: tuple[AlertInMessage, ...]


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is to be sent, written down before the first attempt.

    `id` is the same for every attempt to tell the same thing, also in a later flush or after a
    restart, and another one when the thing or the repetition is another: receivers get it as
    `Idempotency-Key`. `firing` and `resolved` are the fingerprints that the notification log will
    hold once it is delivered.
    """

    id: str
    group_id: str
    integration: str
    message: Message
    firing: tuple[int, ...]
    resolved: tuple[int, ...]
    created_ms: int


def intent_id(
    integration: str,
    group_key: str,
    previous_ms: int,
    alerts: Iterable[AlertInMessage],
) -> str:
    """The id of telling `alerts` after what was told at `previous_ms` (0: nothing).

    >>> intent_id("ops/webhook/0", "{}:{}", 0, []) == intent_id("ops/webhook/0", "{}:{}", 1, [])
    False
    """
    digest = blake2b(digest_size=16)
    told = sorted((a.fingerprint, a.episode_ms, a.status) for a in alerts)
    digest.update(msgspec.json.encode((integration, group_key, previous_ms, told)))
    return digest.hexdigest()
