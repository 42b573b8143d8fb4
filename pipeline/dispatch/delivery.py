"""Delivering one intent: attempts with back-off and jitter, until a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Literal, Protocol

from pipeline.alerts.notification import Intent, Message
from pipeline.dispatch.metrics import ATTEMPTS_FAILED, NOTIFICATIONS
from pipeline.receivers.errors import PermanentError, RetryableError
from pipeline.selfmetrics import fields

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE, GROWTH, JITTER = 0.5, 60.0, 1.5, 0.5
"""Back-off in seconds of wall time, as Alertmanager's."""
ATTEMPT_TIMEOUT = 10.0
CONCURRENT_REQUESTS = 64
"""Of one integration; a receiver that hangs holds up only itself."""

Ended = Literal["delivered", "refused", "gave_up", "failed"]


class Sender(Protocol):
    """What reaches a receiver; raises RetryableError or PermanentError."""

    async def send(self, message: Message, key: str, within: float) -> None: ...


class Channel:
    """The way to one integration."""

    def __init__(self, kind: str, sender: Sender, random: Random) -> None:
        self._kind = kind
        self._sender = sender
        self._random = random
        self._slots = asyncio.Semaphore(CONCURRENT_REQUESTS)

    async def deliver(
        self, intent: Intent, patience: float, on_attempt: Callable[[Intent], None]
    ) -> bool:
        """True when the receiver took the message within `patience` seconds of wall time."""
        ended = await self._attempt(intent, patience, on_attempt)
        NOTIFICATIONS.labels(self._kind, ended).inc()
        return ended == "delivered"

    async def _attempt(
        self, intent: Intent, patience: float, on_attempt: Callable[[Intent], None]
    ) -> Ended:
        now = asyncio.get_running_loop().time
        deadline = now() + patience
        pause = FIRST_PAUSE
        reason = "no attempt was possible"
        while (remaining := deadline - now()) > 0:
            try:
                async with asyncio.timeout(remaining):
                    await self._slots.acquire()
            except TimeoutError:
                reason = "the receiver is busy with earlier notifications"
                break
            try:
                on_attempt(intent)
                within = min(ATTEMPT_TIMEOUT, deadline - now())
                await self._sender.send(intent.message, intent.id, within)
                return "delivered"
            except PermanentError as error:
                self._report("refused", intent, str(error))
                return "refused"
            except RetryableError as error:
                reason, wait = str(error), error.retry_after or 0.0
            except Exception as error:  # one receiver's fault must not stop the others
                self._report("failed", intent, type(error).__name__)
                log.debug("delivery failed", exc_info=error)
                return "failed"
            finally:
                self._slots.release()
            ATTEMPTS_FAILED.labels(self._kind).inc()
            wait = max(wait, pause * (1 + JITTER * self._random.uniform(-1, 1)))
            pause = min(pause * GROWTH, LONGEST_PAUSE)
            if now() + wait >= deadline:
                break
            await asyncio.sleep(wait)
        self._report("gave_up", intent, reason)
        return "gave_up"

    def _report(self, ended: Ended, intent: Intent, reason: str) -> None:
        group = intent.message.group_key
        log.warning(
            "notification not delivered: %s",
            fields(outcome=ended, integration=intent.integration, group=group, reason=reason),
        )
