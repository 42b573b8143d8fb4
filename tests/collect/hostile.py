"""Servers that do everything wrong: over plain HTTP, and over WebSockets after a good handshake."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

MEGABYTE = 1 << 20
BIG_SERIES = 10_000
BIG = "".join(
    f'a_metric{{path="/{number:06}/{"x" * 1000}"}} {number}\n' for number in range(BIG_SERIES)
).encode()
"""Ten megabytes of metrics."""
BOMB = gzip.compress(b"a 1\n" * (64 * MEGABYTE // 4), 9)
"""Sixty-four megabytes, in sixty-four kilobytes."""

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(*parts: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return answer


def hangs_after(start: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await asyncio.sleep(3600)

    return answer


async def drips(writer: asyncio.StreamWriter) -> None:
    for byte in http(b"a 1\n" * 10_000):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.01)


async def pours(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b"a 1\n" * 16_384)
        await writer.drain()


async def cuts(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@asynccontextmanager
async def http_server(answers: dict[str, Answer]) -> AsyncIterator[int]:
    """The port of a server that answers each path in its own way."""
    talking: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking[task] = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            await answers[head.split()[1].decode()](writer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task, writer in talking.items():
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*talking, return_exceptions=True)
        for writer in talking.values():
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


TEXT, BINARY, CLOSE, CONTINUED = 0x81, 0x82, 0x88, 0x00


def frame(opcode: int, payload: bytes) -> bytes:
    """A frame as servers send them, without a mask (RFC 6455, section 5.2)."""
    if len(payload) < 126:
        return bytes([opcode, len(payload)]) + payload
    return struct.pack("!BBQ", opcode, 127, len(payload)) + payload


class Talker:
    """A WebSocket endpoint that writes raw bytes after the handshake, and what it could write."""

    def __init__(self, *parts: bytes, repeat: int = 1, then: str = "listen") -> None:
        self._parts = parts
        self._repeat = repeat
        self._then = then
        self.written = 0
        self.connections = 0

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            for _ in range(self._repeat):
                for part in self._parts:
                    await self._write(request, part)
            if self._then == "close":
                await socket.close()
            elif self._then == "listen":
                await socket.receive()
            elif self._then == "hang":
                await asyncio.sleep(3600)
            elif request.transport is not None:
                request.transport.abort()
        return socket

    async def _write(self, request: web.Request, part: bytes) -> None:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionError
        request.transport.write(part)
        self.written += len(part)
        assert request.protocol is not None
        await request.protocol._drain_helper()
        await asyncio.sleep(0)
