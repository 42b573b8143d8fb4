"""Serving HTTP in a shell: one place for listening, limits, health and `/metrics`."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

from pipeline.api.guard import Guard
from pipeline.api.listener import Listener, bind

MAX_REQUEST_BYTES = 16 * 1024 * 1024
MAX_PORT = 65535
IDLE_TIMEOUT = 90.0
"""Seconds for the head of a request, and between two of them."""


class ListenError(RuntimeError):
    """An address that can't be listened on; the message says what to do."""


def split_address(listen: str) -> tuple[str, int]:
    """Host and port of `host:port`.

    >>> split_address("127.0.0.1:9464")
    ('127.0.0.1', 9464)
    """
    host, _, port = listen.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise ListenError(f"{listen}: expected host:port with a port of at most {MAX_PORT}")
    return host.strip("[]"), int(port)


def new_app(
    registry: CollectorRegistry = REGISTRY, text: Callable[[], str] | None = None
) -> web.Application:
    """An application that answers `/-/healthy` and `/metrics`; the caller adds its own routes.

    What `text` gives, in Prometheus' text format, comes before the registry's metrics. That format
    is then the answer's whatever was asked for: the other one, OpenMetrics, names counters
    differently.
    """
    app = web.Application(client_max_size=MAX_REQUEST_BYTES)

    async def healthy(_request: web.Request) -> web.Response:
        return web.Response(text="Watchkeeper is healthy.\n")

    async def metrics(request: web.Request) -> web.Response:
        accepted = request.headers.get("Accept", "") if text is None else ""
        encode, content_type = choose_encoder(accepted)
        own = text().encode() if text is not None else b""
        response = web.Response(body=own + encode(registry))
        response.headers["Content-Type"] = content_type
        return response

    app.router.add_get("/-/healthy", healthy)
    app.router.add_get("/metrics", metrics)
    return app


class Server:
    """A running application; `port` is the one it got when 0 was asked for."""

    def __init__(self, runner: web.AppRunner, listener: Listener, host: str, port: int) -> None:
        self._runner = runner
        self._listener = listener
        self.host = host
        self.port = port

    async def close(self) -> None:
        await self._listener.close()
        await self._runner.cleanup()


async def serve(app: web.Application, listen: str, web_config: str = "") -> Server:
    """Serve `app` on `listen` (`host:port`), as the file `web_config` says (empty: to everybody).

    Raises
    ------
    ListenError
        The port is taken, or the address is not this machine's.
    """
    host, port = split_address(listen)
    try:
        sockets = bind(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(
                f"{listen}: the port is taken; stop what listens there, or choose another one"
            ) from error
        raise ListenError(f"{listen}: can't listen there: {error.strerror}") from error
    bound: tuple[str, int] = sockets[0].getsockname()[:2]
    guard = Guard(web_config)
    guard.watch(app)
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=2.0, keepalive_timeout=IDLE_TIMEOUT
    )
    await runner.setup()
    server = runner.server
    assert server is not None, "setup() has made it"
    listener = Listener(sockets, server, guard.context, lambda: len(server.connections))
    return Server(runner, listener, bound[0], bound[1])


def port_is_free(listen: str) -> bool:
    """Whether nothing listens on `listen` now."""
    host, port = split_address(listen)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
