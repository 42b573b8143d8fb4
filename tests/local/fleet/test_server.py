"""Real sockets: every test has a fleet of five nodes on free ports and a clock 20 times faster."""

import asyncio
import contextlib
import itertools
import json
import time

import aiohttp
import pytest

from pipeline.clock import Clock
from pipeline.local.fleet.clients import Limits
from pipeline.local.fleet.fleet import Fleet
from pipeline.local.fleet.model import FleetModel
from pipeline.local.fleet.server import FleetServer
from pipeline.local.fleet.targets import OPEN_FEEDS
from pipeline.local.fleet.tokens import Tokens, User
from pipeline.settings import ClockSettings

SPEED = 20.0
PATIENCE_S = 10.0
LIMITS = Limits(login_s=1.0, silence_s=2.0, connections=2)
TOKEN = Tokens(1).issue(User("someone"))


@pytest.fixture
async def fleet():
    clock = Clock(ClockSettings(speed=SPEED, origin=time.time()))
    return Fleet(FleetModel(5, 1), clock)


@pytest.fixture
async def server(fleet):
    server = FleetServer(fleet, 0, Tokens(1), LIMITS)
    await server.open()
    tasks = [asyncio.create_task(fleet.run()), asyncio.create_task(server.run())]
    yield server
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await server.close()


@pytest.fixture
async def client():
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


def url(server, path, index=0):
    return f"http://127.0.0.1:{server.nodes[index].port}{path}"


async def receive(socket, kind, count):
    """The next `count` messages of a type."""
    found = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            message = await socket.receive_json()
            if message.get("type", "") == kind:
                found.append(message)
    return found


async def until(condition):
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110 - the other side is a socket, not an event
            await asyncio.sleep(0.01)


async def test_health_metrics_and_rest_answer_and_say_that_they_are_simulated(server, client):
    for path in ("/q/health", "/q/metrics", "/api/v11/nodes", "/api/v11/nodes/api-000"):
        async with client.get(url(server, path)) as response:
            assert response.status == 200
            assert response.headers["X-Simulated"] == "true"
    async with client.get(url(server, "/api/v11/nodes/nobody")) as response:
        assert response.status == 404
        assert await response.json() == {"error": "Node not found: nobody"}


async def test_health_is_503_while_down(server, client, fleet):
    fleet.break_("health-degraded", "business-000", None)
    async with client.get(url(server, "/q/health", 1)) as response:
        assert response.status == 503
        assert (await response.json())["status"] == "DOWN"
    fleet.mend()
    async with client.get(url(server, "/q/health", 1)) as response:
        assert response.status == 200


async def test_live_stream_greets_and_sends_each_kind_at_its_cadence(server, client):
    async with client.ws_connect(url(server, "/api/v11/live/stream")) as socket:
        assert (await socket.receive_json())["type"] == "connection_established"
        tps = await receive(socket, "tps_update", 4)
        gaps = [b["timestamp"] - a["timestamp"] for a, b in itertools.pairwise(tps)]
        assert gaps == [1000, 1000, 1000]
        await socket.send_json({"type": "subscribe", "channel": "network_status"})
        assert (await receive(socket, "subscription_confirmed", 1))[0]["payload"] == {
            "channel": "network_status",
            "status": "subscribed",
        }
        updates = await receive(socket, "network_update", 3)
        times = [message["timestamp"] for message in updates]
        assert [time_ms % 3000 for time_ms in times] == [0, 0, 0]
        assert times[2] - times[0] == 6000


async def test_dashboard_and_channels_send_what_was_subscribed_to(server, client):
    async with client.ws_connect(url(server, "/ws/dashboard")) as socket:
        await socket.send_json({"action": "subscribe", "channels": ["performance"]})
        assert (await socket.receive_json())["status"] == "subscribed"
        assert (await socket.receive_json())["type"] == "performance"
    async with client.ws_connect(url(server, "/ws/channels")) as socket:
        assert (await socket.receive_json())["type"] == "connected"
        await socket.send_json({"action": "subscribe", "channels": ["main-channel"]})
        assert (await socket.receive_json())["type"] == "subscribed"
        kinds = {(await socket.receive_json())["type"] for _ in range(12)}
        assert kinds == {"channel_update", "transaction", "block"}


async def test_every_node_says_its_own_at_ws_metrics_at_the_same_second(server, client):
    async with (
        client.ws_connect(url(server, "/ws/metrics", 0)) as one,
        client.ws_connect(url(server, "/ws/metrics", 1)) as other,
    ):
        first, second = [
            {
                message["timestamp"]: message["tps"]
                for message in [await socket.receive_json() for _ in range(10)]
            }
            for socket in (one, other)
        ]
    both = first.keys() & second.keys()
    assert len(both) >= 8
    assert all(first[when] != second[when] for when in both)


async def test_node_that_is_down_refuses_connections_cuts_sockets_and_comes_back(
    server, client, fleet
):
    port = server.nodes[0].port
    async with client.ws_connect(url(server, "/ws/metrics")) as socket:
        await socket.receive_json()
        fleet.break_("node-down", "validator-000", 60.0)
        await server.settle()
        async with asyncio.timeout(PATIENCE_S):
            while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        assert socket.closed
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.get(url(server, "/q/health"))
    async with client.get(url(server, "/q/health", 1)) as response:
        assert response.status == 200

    async def is_back():
        return server.nodes[0].listening

    await until(is_back)
    assert server.nodes[0].port == port
    async with client.ws_connect(url(server, "/ws/metrics")) as socket:
        assert (await socket.receive_json())["errorRate"] == 0.001


async def test_websocket_drop_cuts_every_socket_and_each_new_one_until_it_ends(
    server, client, fleet
):
    fleet.break_("websocket-drop", "channel-000", None)
    for _ in range(3):
        async with client.ws_connect(url(server, "/ws/metrics", 2)) as socket:
            async with asyncio.timeout(PATIENCE_S):
                while not socket.closed:
                    await socket.receive()
            assert socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
    async with client.get(url(server, "/q/health", 2)) as response:
        assert response.status == 200
    async with client.ws_connect(url(server, "/ws/metrics", 1)) as spared:
        for _ in range(20):
            await spared.receive_json()
    fleet.mend("websocket-drop")
    async with client.ws_connect(url(server, "/ws/metrics", 2)) as socket:
        for _ in range(20):
            await socket.receive_json()


async def test_error_storm_fails_a_third_of_rest_requests_and_no_probe(server, client, fleet):
    fleet.break_("error-storm", None, None)
    statuses = []
    for _ in range(100):
        async with client.get(url(server, "/api/v11/nodes/api-000", 3)) as response:
            statuses.append(response.status)
    assert set(statuses) == {200, 500}
    assert 20 <= statuses.count(500) <= 50
    for path in ("/q/health", "/q/metrics"):
        async with client.get(url(server, path, 3)) as response:
            assert response.status == 200
    fleet.mend()
    for _ in range(20):
        async with client.get(url(server, "/api/v11/stats", 3)) as response:
            assert response.status == 200


async def test_open_streams_send_what_happens_to_whoever_listens(server, client):
    expected = {
        "/ws/validators": {"validator": "validator-000", "status": "ACTIVE"},
        "/ws/consensus": {"leader": "validator-000", "state": "COMMITTED"},
        "/ws/network": {"connected": True},
        "/ws/transactions/legacy": {},
    }
    for path, some in expected.items():
        async with client.ws_connect(url(server, path)) as socket:
            message = await socket.receive_json()
            assert some.items() <= message.items()
            assert message["timestamp"].endswith("Z")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer a.b.c"}, {"Authorization": "x"}])
async def test_transactions_open_without_a_token_and_close_with_1008(server, client, headers):
    async with client.ws_connect(url(server, "/ws/transactions"), headers=headers) as socket:
        message = await socket.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1008


@pytest.mark.parametrize("way", ["header", "address"])
async def test_transactions_answer_commands_and_send_what_is_subscribed_to(server, client, way):
    headers = {"Authorization": f"Bearer {TOKEN}"} if way == "header" else {}
    query = "" if way == "header" else f"?token={TOKEN}"
    address = url(server, "/ws/transactions" + query)
    async with client.ws_connect(address, headers=headers) as socket:
        assert (await socket.receive_json())["userId"] == "someone"
        await socket.send_str("SUBSCRIBE transactions")
        assert await socket.receive_str() == "SUBSCRIBED transactions"
        kinds = set()
        async with asyncio.timeout(PATIENCE_S):
            while not {"HEARTBEAT", "CONFIRMED"} <= kinds:
                await socket.send_str("PING")  # so that it isn't closed for its silence
                text = await socket.receive_str()
                if text != "PONG":
                    message = json.loads(text)
                    kinds.add(message.get("type", message.get("status")))


async def test_who_is_silent_is_closed_and_pings_of_the_protocol_are_no_speech(server, client):
    for path in ("/ws/transactions", "/ws/v11"):
        address = url(server, f"{path}?token={TOKEN}")
        async with client.ws_connect(address, heartbeat=0.3) as socket:
            if path == "/ws/v11":
                await socket.send_json({"type": "auth", "token": TOKEN})
            async with asyncio.timeout(PATIENCE_S):
                while (await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                    pass
            assert socket.close_code == 1001


async def test_v11_lets_in_who_sends_a_token_and_no_more_of_one_user_than_it_may(server, client):
    address = url(server, "/ws/v11")
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(client.ws_connect(address)) for _ in range(3)]
        for number, socket in enumerate(sockets):
            assert (await socket.receive_json())["type"] == "auth_required"
            await socket.send_json({"type": "auth", "token": TOKEN})
            answer = await socket.receive_json()
            assert answer["status"] == ("error" if number == 2 else "success")
        assert (await sockets[2].receive()).type is aiohttp.WSMsgType.CLOSE
        assert sockets[2].close_code == 1008
        await sockets[0].send_json({"type": "subscribe", "channel": "analytics"})
        assert (await receive(sockets[0], "subscribe_response", 1))[0]["channel"] == "analytics"
        message = (await receive(sockets[0], "message", 1))[0]
        assert message["channel"] == "analytics"
        await sockets[1].close()

        async def has_room():
            return len(server.nodes[0]._rooms["/ws/v11"]) == 1

        await until(has_room)
        async with client.ws_connect(address) as again:
            await again.send_json({"type": "auth", "token": TOKEN})
            assert (await receive(again, "auth_response", 1))[0]["status"] == "success"


@pytest.mark.parametrize("said", ["", '{"type":"auth","token":"a.b.c"}', '{"type":"ping"}'])
async def test_v11_closes_with_1008_unless_the_first_message_is_a_good_token(server, client, said):
    async with client.ws_connect(url(server, "/ws/v11")) as socket:
        await socket.receive_json()
        if said:
            await socket.send_str(said)
            assert (await socket.receive_json())["status"] == "error"
        async with asyncio.timeout(PATIENCE_S):
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1008


async def test_v11_pings_who_is_logged_in(server, client):
    async with client.ws_connect(url(server, "/ws/v11")) as socket:
        await socket.send_json({"type": "auth", "token": TOKEN})
        async with asyncio.timeout(PATIENCE_S):
            while (await socket.receive_json())["type"] != "ping":
                await socket.send_json({"type": "pong"})


async def test_all_open_endpoints_at_all_nodes_at_once_get_every_second(server, client):
    """Five nodes, four sockets each, 20 seconds of event time a second: nothing is left out."""

    async def follow(index, path):
        async with client.ws_connect(url(server, path, index)) as socket:
            for command in (
                {"action": "subscribe", "channels": ["metrics", "main-channel"]},
                {"type": "subscribe", "channel": "block_updates"},
            ):
                await socket.send_json(command)
            times = []
            async with asyncio.timeout(PATIENCE_S):
                while len(times) < 10:
                    message = json.loads(await socket.receive_str())
                    if message.get("type") in (None, "tps_update", "metrics", "channel_update"):
                        times.append(message.get("timestamp"))
            return [each for each in times if isinstance(each, int)]

    followed = await asyncio.gather(
        *(follow(index, path) for index in range(5) for path in OPEN_FEEDS)
    )
    for times in followed:
        gaps = {b - a for a, b in itertools.pairwise(times)}
        assert gaps <= {1000, 2000}
