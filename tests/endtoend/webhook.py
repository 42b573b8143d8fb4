"""A receiver of notifications, as an engineer's own would be: it takes webhooks and keeps them."""

from __future__ import annotations

import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Literal

import msgspec

Labels = dict[str, str]
Status = Literal["firing", "resolved"]


class NotifiedAlert(msgspec.Struct, frozen=True, rename="camel"):
    status: Status
    labels: Labels
    annotations: Labels
    starts_at: datetime
    fingerprint: str


class Notification(msgspec.Struct, frozen=True, rename="camel"):
    status: Status
    alerts: tuple[NotifiedAlert, ...]


class Post(msgspec.Struct, frozen=True):
    """One request, its `Idempotency-Key`, and the wall time at which it came."""

    time_s: float
    key: str
    notification: Notification


class WebhookReceiver:
    """An HTTP server on a free port of 127.0.0.1; `posts` has every request, the newest last."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                notification = msgspec.json.decode(body, type=Notification)
                posts.append(Post(time.time(), self.headers["Idempotency-Key"], notification))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                """Nothing: requests are kept, not logged."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def told(self, status: Status, wanted: Labels) -> list[Post]:
        """The notifications that an alert with all the `wanted` labels is firing, or resolved."""
        return [
            post
            for post in list(self.posts)
            if any(
                alert.status == status and wanted.items() <= alert.labels.items()
                for alert in post.notification.alerts
            )
        ]
