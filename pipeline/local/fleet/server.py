"""The fleet's nodes as listeners: REST, `/q/health`, `/q/metrics` and WebSockets on a port each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from pipeline.api.http import Server, serve
from pipeline.local.fleet import payloads, quarkus, rest
from pipeline.local.fleet.fleet import Fleet
from pipeline.local.fleet.model import Node
from pipeline.local.fleet.noise import hashed_one
from pipeline.local.fleet.sessions import ENDPOINTS, Endpoint, due

HOST = "127.0.0.1"
SIMULATED = {"X-Simulated": "true"}
CUT_EVERY_S = 0.3
"""Event time between two cuts of the sockets of a node that doesn't keep them."""
_REQUESTS = 7
"""Stream of noise that decides which requests fail."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NodeServer:
    """One node: its port, and whoever is connected to it."""

    def __init__(self, fleet: Fleet, node: Node, port: int) -> None:
        self.node = node
        self.port = port
        """Once it listens, the same for good, even if 0 was asked for."""
        self._fleet = fleet
        self._server: Server | None = None
        self._sockets: set[asyncio.Transport] = set()
        self._sessions = 0
        self._requests = 0

    @property
    def listening(self) -> bool:
        return self._server is not None

    async def open(self) -> None:
        """Listen.

        Raises
        ------
        ListenError
            The port is taken.
        """
        self._server = await serve(self._app(), f"{HOST}:{self.port}")
        self.port = self._server.port

    async def close(self) -> None:
        """Cut every connection and stop listening."""
        self.cut_sockets()
        if self._server is not None:
            server, self._server = self._server, None
            await server.close()

    def cut_sockets(self) -> None:
        """Drop every WebSocket without a word, as a failing network does."""
        for transport in list(self._sockets):
            transport.abort()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._storm])
        app.on_response_prepare.append(_label)
        app.router.add_get("/q/health", self._health)
        app.router.add_get("/q/metrics", self._metrics)
        for path, endpoint in ENDPOINTS.items():
            app.router.add_get(path, self._websocket(endpoint))
        for path, answer in rest.ROUTES.items():
            app.router.add_get(path, self._rest(answer))
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        up, body = payloads.health(self._fleet.state().nodes[self.node.index])
        return web.Response(body=body, status=200 if up else 503, content_type="application/json")

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = quarkus.render(self._fleet.state().nodes[self.node.index])
        return web.Response(body=body, headers={"Content-Type": quarkus.CONTENT_TYPE})

    def _rest(self, answer: rest.Answer) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            arguments = {**request.query, **request.match_info}
            status = 200
            try:
                body = answer(self._fleet.state(), arguments)
            except rest.RestError as error:
                status, body = error.status, {"error": str(error)}
            return web.Response(
                body=payloads.encode(body), status=status, content_type="application/json"
            )

        return handle

    @web.middleware
    async def _storm(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let as many REST requests fail as the fleet's condition says."""
        share = self._fleet.condition().request_errors[self.node.index]
        resource = request.match_info.route.resource
        if share > 0 and resource is not None and resource.canonical in rest.ROUTES:
            self._requests += 1
            luck = hashed_one(self.node.index, _REQUESTS, self._requests)
            if (luck + 1) / 2 < share:
                return web.json_response({"error": "Internal Server Error"}, status=500)
        return await handler(request)

    def _websocket(self, endpoint: Endpoint) -> Handler:
        async def handle(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse(compress=False)
            await socket.prepare(request)
            transport = request.transport
            if transport is None:  # gone while the handshake went on
                return socket
            self._sockets.add(transport)
            channels = list(endpoint.automatic)
            pump = asyncio.create_task(self._pump(socket, endpoint, channels))
            try:
                await self._listen(socket, endpoint, channels)
            finally:
                self._sockets.discard(transport)
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)
            return socket

        return handle

    async def _listen(
        self, socket: web.WebSocketResponse, endpoint: Endpoint, channels: list[str]
    ) -> None:
        """Greet the client and answer it until it goes."""
        clock = self._fleet.clock
        self._sessions += 1
        session = f"s-{self.node.index}-{self._sessions:04d}"
        try:
            greeting = endpoint.greet(session, clock.now_ms())
            if greeting is not None:
                await socket.send_frame(greeting, WSMsgType.TEXT)
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    answer = endpoint.answer(channels, message.data, clock.now_ms())
                    if answer is not None:
                        await socket.send_frame(answer, WSMsgType.TEXT)
        except ConnectionError:
            return  # cut while we wrote

    async def _pump(
        self, socket: web.WebSocketResponse, endpoint: Endpoint, channels: list[str]
    ) -> None:
        """Send what is due each second; a client that reads slowly misses some."""
        last = int(self._fleet.clock.now())
        try:
            while not socket.closed:
                second = await self._fleet.next_second()
                for message in endpoint.messages:
                    if due(message, last, second.number):
                        for _ in range(channels.count(message.channel)):
                            content = second.bytes_of(message, self.node.index)
                            await socket.send_frame(content, WSMsgType.TEXT)
                last = second.number
        except ConnectionError:
            return  # the reader sees it too, and ends the session


async def _label(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SIMULATED)


class FleetServer:
    """All nodes of a fleet, opened and closed as its condition says."""

    def __init__(self, fleet: Fleet, base_port: int) -> None:
        self._fleet = fleet
        self.nodes = [
            NodeServer(fleet, node, base_port + node.index if base_port else 0)
            for node in fleet.model.nodes
        ]
        self._settling = asyncio.Lock()

    async def open(self) -> None:
        """Listen on every port.

        Raises
        ------
        ListenError
            A port is taken; nothing listens then.
        """
        try:
            for node in self.nodes:
                await node.open()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self.nodes))

    async def settle(self) -> None:
        """Make the listeners what the fleet's condition says."""
        async with self._settling:
            condition = self._fleet.condition()
            for node in self.nodes:
                if node.listening and not condition.listening[node.node.index]:
                    await node.close()
                elif not node.listening and condition.listening[node.node.index]:
                    await node.open()

    async def run(self) -> None:
        """Settle, and cut sockets that aren't to be kept, several times a second."""
        while True:
            await self._fleet.clock.sleep(CUT_EVERY_S)
            await self.settle()
            keeps = self._fleet.condition().keeps_sockets
            for node in self.nodes:
                if not keeps[node.node.index]:
                    node.cut_sockets()
