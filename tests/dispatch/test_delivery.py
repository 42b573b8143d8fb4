from __future__ import annotations

import asyncio
from random import Random

import pytest

from pipeline.alerts.notification import Intent, Message
from pipeline.dispatch import delivery
from pipeline.dispatch.delivery import Channel
from pipeline.receivers.errors import PermanentError, RetryableError

INTENT = Intent(
    id="key",
    group_id="g",
    integration="ops/webhook/0",
    message=Message("ops", "{}:{}", (), ()),
    firing=(),
    resolved=(),
    created_ms=0,
)


class Scripted:
    """Fails with `errors` one after the other, then takes everything."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.keys: list[str] = []
        self.times: list[float] = []

    async def send(self, message: Message, key: str, within: float) -> None:
        assert message is INTENT.message
        assert 0 < within <= delivery.ATTEMPT_TIMEOUT
        self.keys.append(key)
        self.times.append(asyncio.get_running_loop().time())
        if self._errors:
            raise self._errors.pop(0)


async def deliver(sender: delivery.Sender, patience: float = 5.0) -> tuple[bool, int]:
    """Whether it was delivered, and how many attempts were announced."""
    attempts: list[Intent] = []
    channel = Channel("webhook", sender, Random(1))
    return await channel.deliver(INTENT, patience, attempts.append), len(attempts)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.02)


async def test_first_attempt_is_enough() -> None:
    assert await deliver(Scripted()) == (True, 1)


async def test_retryable_failure_is_repeated_with_the_same_key() -> None:
    sender = Scripted(RetryableError("500"), RetryableError("500"))
    assert await deliver(sender) == (True, 3)
    assert sender.keys == ["key", "key", "key"]


async def test_pauses_grow_and_are_jittered() -> None:
    sender = Scripted(*[RetryableError("500")] * 4)
    await deliver(sender)
    pauses = [after - before for before, after in zip(sender.times, sender.times[1:], strict=False)]
    for i, pause in enumerate(pauses):
        assert pause >= 0.02 * 1.5**i * 0.5
    assert len({round(pause, 4) for pause in pauses}) == 4


async def test_receivers_wish_to_wait_is_honoured() -> None:
    sender = Scripted(RetryableError("429", retry_after=0.3))
    await deliver(sender)
    assert sender.times[1] - sender.times[0] >= 0.3


async def test_wish_beyond_the_deadline_ends_it_at_once() -> None:
    assert await deliver(Scripted(RetryableError("429", retry_after=60.0))) == (False, 1)


async def test_refusal_is_not_repeated() -> None:
    assert await deliver(Scripted(PermanentError("400"))) == (False, 1)


async def test_fault_of_a_sender_ends_only_its_delivery() -> None:
    assert await deliver(Scripted(KeyError("x"))) == (False, 1)


async def test_attempts_end_with_the_patience() -> None:
    sender = Scripted(*[RetryableError("500")] * 1000)
    delivered, attempts = await deliver(sender, patience=0.15)
    assert not delivered
    assert 2 <= attempts < 15


async def test_more_than_the_allowed_requests_wait_for_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "CONCURRENT_REQUESTS", 1)
    release = asyncio.Event()

    class Hanging:
        async def send(self, message: Message, key: str, within: float) -> None:  # noqa: ARG002
            await release.wait()

    channel = Channel("webhook", Hanging(), Random(1))
    first = asyncio.create_task(channel.deliver(INTENT, 5.0, lambda _intent: None))
    await asyncio.sleep(0)
    assert await channel.deliver(INTENT, 0.05, lambda _intent: None) is False
    release.set()
    assert await first is True
