from __future__ import annotations

import aiohttp
import msgspec
import pytest

from pipeline.api.http import serve
from pipeline.local.receiver import Inbox, receiver_app

FIRING = b'{"status":"firing","receiver":"local","alerts":[{"status":"firing","labels":{"a":"b"}}]}'


def test_the_same_key_counts_once_and_another_one_again():
    inbox = Inbox(now=lambda: 7.0)
    inbox.take(FIRING, "k1")
    inbox.take(FIRING, "k1")
    inbox.take(FIRING, "k2")
    inbox.take(FIRING, "")
    inbox.take(FIRING, "")
    assert (inbox.total, inbox.repeats) == (4, 1)
    assert [arrival.time_s for arrival in inbox.arrivals] == [7.0] * 4
    assert inbox.arrivals[0].notification.alerts[0].labels == {"a": "b"}


def test_what_is_no_notification_is_refused():
    with pytest.raises(msgspec.DecodeError):
        Inbox().take(b'{"alerts": 1}', "k")


async def test_notifications_come_in_over_http_and_can_be_looked_at():
    inbox = Inbox(now=lambda: 7.0)
    server = await serve(receiver_app(inbox), "127.0.0.1:0")
    url = f"http://127.0.0.1:{server.port}/notify"
    try:
        async with aiohttp.ClientSession() as session:
            async with session.post(url, data=FIRING, headers={"Idempotency-Key": "k"}) as answer:
                assert answer.status == 200
            async with session.post(url, data=b"no") as answer:
                assert answer.status == 400
                assert "expected a webhook notification" in await answer.text()
            async with session.get(url) as answer:
                [shown] = await answer.json()
    finally:
        await server.close()
    assert shown["time_s"] == 7.0
    assert shown["notification"]["status"] == "firing"
