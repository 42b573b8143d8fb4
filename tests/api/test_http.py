from __future__ import annotations

import socket

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from pipeline.api.http import ListenError, new_app, port_is_free, serve, split_address


@pytest.fixture
def registry():
    registry = CollectorRegistry()
    Counter("watchkeeper_things", "Things", registry=registry).inc()
    return registry


@pytest.fixture
def taken():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def get(server, path, **headers):
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{server.host}:{server.port}{path}", headers=headers) as response,
    ):
        return response.status, response.headers["Content-Type"], await response.text()


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
        ("a:65535", ("a", 65535)),
    ],
)
def test_an_address_is_split_at_its_last_colon(listen, expected):
    assert split_address(listen) == expected


@pytest.mark.parametrize("listen", ["", "9464", ":9464", "a:", "a:b", "a:-1", "a:65536", "a:²"])
def test_an_address_without_host_or_port_is_refused(listen):
    with pytest.raises(ListenError, match="expected host:port"):
        split_address(listen)


async def test_health_and_metrics_are_answered(registry):
    server = await serve(new_app(registry), "127.0.0.1:0")
    assert (await get(server, "/-/healthy"))[::2] == (200, "Watchkeeper is healthy.\n")
    status, content_type, text = await get(server, "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert "watchkeeper_things_total 1.0\n" in text
    await server.close()


async def test_openmetrics_is_given_to_who_asks_for_it(registry):
    server = await serve(new_app(registry), "127.0.0.1:0")
    wanted = "application/openmetrics-text; version=1.0.0"
    _, content_type, text = await get(server, "/metrics", Accept=wanted)
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    await server.close()


async def test_a_text_of_its_own_comes_first_and_in_the_text_format(registry):
    server = await serve(new_app(registry, text=lambda: "own 1\n"), "127.0.0.1:0")
    wanted = "application/openmetrics-text; version=1.0.0"
    _, content_type, text = await get(server, "/metrics", Accept=wanted)
    assert content_type.startswith("text/plain; version=0.0.4")
    assert text.startswith("own 1\n# HELP watchkeeper_things_total Things\n")
    await server.close()


async def test_a_callers_routes_are_served_beside(registry):
    async def hello(_request):
        return web.Response(text="hello")

    app = new_app(registry)
    app.router.add_get("/hello", hello)
    server = await serve(app, "127.0.0.1:0")
    assert (await get(server, "/hello"))[2] == "hello"
    await server.close()


async def test_a_taken_port_is_said_with_what_to_do(registry, taken):
    with pytest.raises(ListenError, match=f"{taken}: the port is taken; stop what listens there"):
        await serve(new_app(registry), taken)


async def test_an_address_of_another_machine_is_said(registry):
    with pytest.raises(ListenError, match=r"192\.0\.2\.1:0: can't listen there: "):
        await serve(new_app(registry), "192.0.2.1:0")


async def test_a_closed_server_gives_its_port_back(registry):
    server = await serve(new_app(registry), "127.0.0.1:0")
    listen = f"127.0.0.1:{server.port}"
    assert not port_is_free(listen)
    await server.close()
    assert port_is_free(listen)


def test_a_taken_port_is_not_free(taken):
    assert not port_is_free(taken)
