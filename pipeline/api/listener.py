"""Accepts connections: a TLS context for each as its files are then, and no more than a limit.

asyncio's own server keeps the context that it started with, so that a new certificate would need a
new process.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from pipeline.document import ConfigError
from pipeline.selfmetrics import fields
from pipeline.tls import TlsError

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 512
"""As Prometheus' `--web.max-connections`; more of them wait in the system's queue."""
HANDSHAKE_TIMEOUT = 10.0
_BACKLOG = 128
_FULL_PAUSE, _FAULT_PAUSE = 0.05, 1.0


def bind(host: str, port: int) -> list[socket.socket]:
    """A listening socket for each address of `host`; OSError if one can't be had."""
    family = socket.AF_UNSPEC
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for kind, _, _, _, address in dict.fromkeys(found):
            listening = socket.create_server(address, family=kind, backlog=_BACKLOG)
            listening.setblocking(False)
            sockets.append(listening)
    except OSError:
        for listening in sockets:
            listening.close()
        raise
    return sockets


class Listener:
    """Gives every connection to a protocol, until it is closed."""

    def __init__(
        self,
        sockets: list[socket.socket],
        protocol: Callable[[], asyncio.BaseProtocol],
        context: Callable[[], ssl.SSLContext | None],
        connections: Callable[[], int],
    ) -> None:
        """`connections` tells how many are open."""
        self._sockets = sockets
        self._protocol = protocol
        self._context = context
        self._connections = connections
        self._beginning: set[asyncio.Task[None]] = set()
        self._tasks = [asyncio.create_task(self._accept(listening)) for listening in sockets]

    async def close(self) -> None:
        """Accept nothing any more; open connections stay."""
        tasks = [*self._tasks, *self._beginning]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # aiohttp tells nobody when a connection has ended, so it is asked.
            while self._connections() + len(self._beginning) >= MAX_CONNECTIONS:  # noqa: ASYNC110
                await asyncio.sleep(_FULL_PAUSE)
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:  # as with no file descriptor left
                log.error("no connection accepted: %s", fields(error=error))
                await asyncio.sleep(_FAULT_PAUSE)
                continue
            task = asyncio.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            context = self._context()
            timeout = HANDSHAKE_TIMEOUT if context is not None else None
            await loop.connect_accepted_socket(
                self._protocol, connection, ssl=context, ssl_handshake_timeout=timeout
            )
        except (OSError, ConfigError, TlsError) as error:
            log.debug("connection not begun: %s", fields(error=error))
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise
