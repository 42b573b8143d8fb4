"""The fleet's nodes as listeners: REST, `/q/health`, `/q/metrics` and WebSockets on a port each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import WSMsgType, web

from pipeline.api.http import Server, serve
from pipeline.local.fleet import payloads, quarkus, rest
from pipeline.local.fleet.clients import GOING_AWAY, POLICY_VIOLATION, Client, Limits, ShownOutError
from pipeline.local.fleet.fleet import Fleet
from pipeline.local.fleet.guarded import BEAT_S
from pipeline.local.fleet.model import Node
from pipeline.local.fleet.noise import hashed_one
from pipeline.local.fleet.sessions import ENDPOINTS, Endpoint, due
from pipeline.local.fleet.tokens import TokenError, Tokens

HOST = "127.0.0.1"
SIMULATED = {"X-Simulated": "true"}
CUT_EVERY_S = 0.3
"""Event time between two cuts of the sockets of a node that doesn't keep them."""
_LIMITS = Limits()
_REQUESTS = 7
"""Stream of noise that decides which requests fail."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NodeServer:
    """One node: its port, and whoever is connected to it."""

    def __init__(self, fleet: Fleet, node: Node, port: int, tokens: Tokens, limits: Limits) -> None:
        self.node = node
        self.port = port
        """Once it listens, the same for good, even if 0 was asked for."""
        self._fleet = fleet
        self._server: Server | None = None
        self._tokens = tokens
        self._limits = limits
        self._sockets: set[asyncio.Transport] = set()
        self._rooms: dict[str, list[Client]] = {path: [] for path in ENDPOINTS}
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
            client = self._client(endpoint)
            pump = asyncio.create_task(self._pump(socket, endpoint, client))
            try:
                await self._serve(request, socket, endpoint, client)
            except ConnectionError:
                pass  # cut while we wrote
            finally:
                self._sockets.discard(transport)
                client.room.remove(client)
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)
            return socket

        return handle

    def _client(self, endpoint: Endpoint) -> Client:
        self._sessions += 1
        room = self._rooms[endpoint.path]
        client = Client(
            f"s-{self.node.index}-{self._sessions:04d}",
            self._fleet.clock.now_ms(),
            list(endpoint.automatic),
            room,
            self._tokens,
            self._limits,
        )
        room.append(client)
        return client

    async def _serve(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        endpoint: Endpoint,
        client: Client,
    ) -> None:
        """Talk with a client until it goes, or must."""
        try:
            if endpoint.login == "request":
                client.user = self._tokens.user_of(_token_of(request), self._fleet.clock.now())
            await self._listen(socket, endpoint, client)
        except TokenError:
            await socket.close(code=POLICY_VIOLATION, message=b"Authentication required")
        except ShownOutError as reason:
            if reason.last_word is not None:
                await socket.send_frame(reason.last_word, WSMsgType.TEXT)
            await socket.close(code=POLICY_VIOLATION, message=reason.reason.encode())
        except TimeoutError:
            if endpoint.login == "message" and client.user is None:
                await socket.close(code=POLICY_VIOLATION, message=b"Authentication timeout")
            else:
                await socket.close(code=GOING_AWAY, message=b"Connection is idle")

    async def _listen(
        self, socket: web.WebSocketResponse, endpoint: Endpoint, client: Client
    ) -> None:
        """Greet the client and answer it until it goes.

        Raises
        ------
        TimeoutError
            It was silent for too long; pings of the WebSocket protocol aren't speech.
        """
        clock, loop = self._fleet.clock, asyncio.get_running_loop()
        greeting = endpoint.greet(client, clock.now_ms())
        if greeting is not None:
            await socket.send_frame(greeting, WSMsgType.TEXT)
        while True:
            patience = self._patience(endpoint, client)
            until = None if patience is None else loop.time() + patience
            async with asyncio.timeout_at(until):
                message = await socket.receive()
            if message.type is WSMsgType.TEXT:
                answer = endpoint.answer(client, message.data, clock.now_ms())
                if answer is not None:
                    await socket.send_frame(answer, WSMsgType.TEXT)
            elif message.type is not WSMsgType.BINARY:
                return  # closed, or broken

    def _patience(self, endpoint: Endpoint, client: Client) -> float | None:
        if endpoint.login == "none":
            return None
        return self._limits.login_s if client.user is None else self._limits.silence_s

    async def _pump(
        self, socket: web.WebSocketResponse, endpoint: Endpoint, client: Client
    ) -> None:
        """Send what is due each second; a client that reads slowly misses some."""
        last = int(self._fleet.clock.now())
        try:
            while not socket.closed:
                second = await self._fleet.next_second()
                for message in endpoint.messages:
                    if due(message, last, second.number):
                        for _ in range(client.channels.count(message.channel)):
                            content = second.bytes_of(message, self.node.index)
                            await socket.send_frame(content, WSMsgType.TEXT)
                beats = second.number // BEAT_S > last // BEAT_S
                if beats and endpoint.beat is not None and client.user is not None:
                    beat = endpoint.beat(client, second.number * 1000)
                    await socket.send_frame(beat, WSMsgType.TEXT)
                last = second.number
        except ConnectionError:
            return  # the reader sees it too, and ends the session


def _token_of(request: web.Request) -> str:
    """The token in the address, or in the header."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return request.query.get("token") or (token.strip() if scheme.lower() == "bearer" else "")


async def _label(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SIMULATED)


class FleetServer:
    """All nodes of a fleet, opened and closed as its condition says."""

    def __init__(
        self, fleet: Fleet, base_port: int, tokens: Tokens, limits: Limits = _LIMITS
    ) -> None:
        self._fleet = fleet
        self.nodes = [
            NodeServer(fleet, node, base_port + node.index if base_port else 0, tokens, limits)
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
