"""The local receiver: takes Alertmanager's webhooks at `/notify`, keeps the last ones to show."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Literal

import msgspec
from aiohttp import web

from pipeline.api.http import new_app

_KEPT, _KEYS_REMEMBERED = 50, 10_000


class NotifiedAlert(msgspec.Struct, frozen=True):
    """One alert of a notification, as Alertmanager's webhook format has it."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Notification(msgspec.Struct, frozen=True):
    """A webhook's body."""

    status: Literal["firing", "resolved"]
    alerts: tuple[NotifiedAlert, ...]
    receiver: str = ""


class Arrival(msgspec.Struct, frozen=True):
    """A notification and the wall time at which it came."""

    time_s: float
    notification: Notification


class Inbox:
    """What has come. A notification whose `Idempotency-Key` was seen before is no new one."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._seen: OrderedDict[str, None] = OrderedDict()
        self.arrivals: deque[Arrival] = deque(maxlen=_KEPT)
        """The newest last."""
        self.total = 0
        self.repeats = 0

    def take(self, body: bytes, key: str) -> None:
        """Take in one request.

        Raises
        ------
        msgspec.DecodeError
            The body is no webhook of Alertmanager's format.
        """
        notification = msgspec.json.decode(body, type=Notification)
        if key and key in self._seen:
            self.repeats += 1
            return
        if key:
            self._seen[key] = None
            if len(self._seen) > _KEYS_REMEMBERED:
                self._seen.popitem(last=False)
        self.total += 1
        self.arrivals.append(Arrival(self._now(), notification))


def receiver_app(inbox: Inbox) -> web.Application:
    """The receiver; `GET /notify` shows what has come, for a look with curl."""

    async def take(request: web.Request) -> web.Response:
        try:
            inbox.take(await request.read(), request.headers.get("Idempotency-Key", ""))
        except msgspec.DecodeError as error:
            return web.Response(status=400, text=f"expected a webhook notification: {error}\n")
        return web.Response()

    async def show(_request: web.Request) -> web.Response:
        return web.Response(
            body=msgspec.json.encode(list(inbox.arrivals)), content_type="application/json"
        )

    app = new_app()
    app.router.add_post("/notify", take)
    app.router.add_get("/notify", show)
    return app
