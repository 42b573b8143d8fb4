"""Who is let in: logins, TLS per connection, and how much and how long anybody may ask."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import trustme
from aiohttp import web
from prometheus_client import CollectorRegistry

from pipeline.api import guard, http, listener
from pipeline.api.client import basic_header
from pipeline.api.guard import Logins, TooManyLoginsError
from pipeline.api.http import Server, new_app, serve
from pipeline.secret import Secret
from tests.certificates import Certificates, new_certificates

PASSWORD = "s3cret"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
USERS = f"basic_auth_users: {{alice: '{HASH}'}}\n"
LOGIN = basic_header("alice", PASSWORD)


@pytest.fixture
def web_file(tmp_path: Path) -> Path:
    file = tmp_path / "web.yml"
    file.write_text(USERS)
    return file


@pytest.fixture
async def started(web_file: Path) -> AsyncIterator[Callable[[], object]]:
    """Start a server of the web-config file; a POST to `/take` answers the body's length."""
    servers: list[Server] = []

    async def start() -> Server:
        async def take(request: web.Request) -> web.Response:
            return web.Response(text=str(len(await request.read())))

        app = new_app(CollectorRegistry())
        app.router.add_post("/take", take)
        servers.append(await serve(app, "127.0.0.1:0", str(web_file)))
        return servers[-1]

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as it:
        yield it


async def status(session, server, path="/-/healthy", scheme="http", **keywords) -> int:
    url = f"{scheme}://127.0.0.1:{server.port}{path}"
    async with session.get(url, **keywords) as response:
        return response.status


@pytest.mark.parametrize("path", ["/-/healthy", "/metrics", "/nowhere"])
async def test_without_a_login_nothing_is_answered(started, session, path):
    server = await started()
    async with session.get(f"http://127.0.0.1:{server.port}{path}") as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Basic"
        assert await response.text() == "Unauthorized\n"
    assert await status(session, server, path, headers=LOGIN) in (200, 404)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic YWxpY2U=",  # alice
        "Basic YWxpY2U6",  # alice:
        "Basic YWxpY2U6czNjcmV0MQ==",  # alice:s3cret1
        "Basic Ym9iOnMzY3JldA==",  # bob:s3cret
        "Basic //8=",  # no UTF-8
        "Bearer YWxpY2U6czNjcmV0",
    ],
)
async def test_a_wrong_login_is_refused(started, session, header):
    server = await started()
    assert await status(session, server, headers={"Authorization": header}) == 401


async def test_the_file_is_read_again_when_it_changes(started, session, web_file):
    server = await started()
    web_file.write_text("http_server_config: {headers: {X-Frame-Options: deny}}\n")
    async with session.get(f"http://127.0.0.1:{server.port}/-/healthy") as response:
        assert (response.status, response.headers["X-Frame-Options"]) == (200, "deny")
    web_file.write_text(USERS)
    assert await status(session, server) == 401


async def test_while_the_file_is_broken_nobody_is_let_in_and_it_is_said_once(
    started, session, web_file, caplog
):
    server = await started()
    assert await status(session, server, headers=LOGIN) == 200
    web_file.write_text("basic_auth_users: {alice: t0ken}\n")
    assert await status(session, server, headers=LOGIN) == 500
    async with aiohttp.ClientSession() as other:
        with pytest.raises(aiohttp.ServerDisconnectedError):  # TLS or not can't be known
            await status(other, server, headers=LOGIN)
    said = [record.getMessage() for record in caplog.records if "nobody is let in" in record.msg]
    assert len(said) == 1
    assert "basic_auth_users.alice: expected a password's bcrypt hash" in said[0]
    assert "t0ken" not in said[0]
    web_file.write_text(USERS)
    assert await status(session, server, headers=LOGIN) == 200


class Compared:
    """bcrypt in its place, counted; a comparison takes until `go` is set."""

    def __init__(self) -> None:
        self.count = 0
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, *_arguments: object) -> bool:
        self.count += 1
        await self.go.wait()
        return True


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Compared:
    it = Compared()
    monkeypatch.setattr(guard.asyncio, "to_thread", it)
    return it


def header(name: str, password: str) -> str:
    return basic_header(name, password)["Authorization"]


async def test_a_password_is_compared_once_and_then_remembered(compared):
    logins, users = Logins(), {"alice": Secret(HASH)}
    assert await logins.allows(users, header("alice", "one"))
    assert await logins.allows(users, header("alice", "one"))
    assert compared.count == 1
    assert await logins.allows(users, header("alice", "other"))
    assert await logins.allows({"alice": Secret(HASH[:-1] + "x")}, header("alice", "one"))
    assert compared.count == 3


async def test_an_unknown_name_costs_a_comparison_and_is_never_let_in(compared):
    assert not await Logins().allows({"alice": Secret(HASH)}, header("bob", "one"))
    assert compared.count == 1


async def test_what_is_remembered_is_bounded(compared, monkeypatch):
    monkeypatch.setattr(guard, "REMEMBERED_LOGINS", 2)
    logins, users = Logins(), {"alice": Secret(HASH)}
    for password in ("1", "2", "3", "1"):
        await logins.allows(users, header("alice", password))
    assert compared.count == 4


async def test_passwords_that_wait_to_be_compared_are_bounded(compared, monkeypatch):
    monkeypatch.setattr(guard, "WAITING_LOGINS", 2)
    logins, users = Logins(), {"alice": Secret(HASH)}
    compared.go.clear()
    waiting = [
        asyncio.create_task(logins.allows(users, header("alice", str(number))))
        for number in range(2)
    ]
    await asyncio.sleep(0)
    with pytest.raises(TooManyLoginsError):
        await logins.allows(users, header("alice", "third"))
    compared.go.set()
    assert await asyncio.gather(*waiting) == [True, True]


async def test_too_many_logins_are_answered_with_503(started, session, monkeypatch):
    monkeypatch.setattr(guard, "WAITING_LOGINS", 0)
    assert await status(session, await started(), headers=LOGIN) == 503


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificates(tmp_path: Path, authority: trustme.CA) -> Certificates:
    return new_certificates(tmp_path, authority)


TLS = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"


async def test_a_new_certificate_is_shown_to_the_next_connection(
    started, session, web_file, tmp_path, certificates
):
    web_file.write_text(TLS)
    server = await started()
    first = ssl.create_default_context(cafile=certificates.ca)
    assert await status(session, server, scheme="https", ssl=first) == 200
    second = ssl.create_default_context(cafile=new_certificates(tmp_path).ca)
    async with aiohttp.ClientSession() as other:
        assert await status(other, server, scheme="https", ssl=second) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await status(other, server, scheme="https", ssl=first)
    assert await status(session, server, scheme="https", ssl=first) == 200, "goes on as it was"


async def test_a_certificate_is_asked_of_the_client(started, session, web_file, certificates):
    asked = TLS.replace(
        "}", ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}"
    )
    web_file.write_text(asked)
    server = await started()
    context = ssl.create_default_context(cafile=certificates.ca)
    with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
        await status(session, server, scheme="https", ssl=context)
    context.load_cert_chain(certificates.cert, certificates.key)
    assert await status(session, server, scheme="https", ssl=context) == 200


@pytest.mark.usefixtures("certificates")
async def test_plain_http_is_not_answered_where_tls_is_spoken(started, session, web_file):
    web_file.write_text(TLS)
    server = await started()
    with pytest.raises(aiohttp.ClientError):
        await status(session, server)


async def test_a_certificate_that_vanished_refuses_new_connections_only(
    started, session, web_file, certificates
):
    web_file.write_text(TLS)
    server = await started()
    context = ssl.create_default_context(cafile=certificates.ca)
    assert await status(session, server, scheme="https", ssl=context) == 200
    os.rename(certificates.cert, f"{certificates.cert}.away")
    async with aiohttp.ClientSession() as other:
        with pytest.raises(aiohttp.ClientError):
            await status(other, server, scheme="https", ssl=context)
        os.rename(f"{certificates.cert}.away", certificates.cert)
        assert await status(other, server, scheme="https", ssl=context) == 200


async def post(session, server, **keywords) -> tuple[int, str]:
    url = f"http://127.0.0.1:{server.port}/take"
    async with session.post(url, **{"headers": LOGIN, **keywords}) as response:
        return response.status, await response.text()


async def test_a_body_beyond_the_limit_is_refused_packed_or_not(started, session, monkeypatch):
    monkeypatch.setattr(http, "MAX_REQUEST_BYTES", 100_000)
    server = await started()
    assert await post(session, server, data=b"x" * 99_000) == (200, "99000")
    assert (await post(session, server, data=b"x" * 100_001))[0] == 413
    packed = gzip.compress(b"x" * 10_000_000)
    assert len(packed) < 100_000
    headers = {"Content-Encoding": "gzip", **LOGIN}
    assert (await post(session, server, data=packed, headers=headers))[0] == 413


async def test_a_body_that_drips_is_given_up(started, session, monkeypatch):
    monkeypatch.setattr(guard, "READ_TIMEOUT", 0.05)
    server = await started()
    more = asyncio.Event()

    async def drip():
        yield b"x"
        await more.wait()

    code, text = await post(session, server, data=drip())
    more.set()
    assert (code, text) == (408, "expected the whole request within 0.05 s\n")


async def raw(server: Server, request: bytes) -> bytes:
    """What comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


async def test_a_head_that_never_ends_is_given_up(started, monkeypatch):
    monkeypatch.setattr(http, "IDLE_TIMEOUT", 0.05)
    assert await raw(await started(), b"GET / HTTP/1.1\r\nHost: a\r\nX-") == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: a\r\n" % i for i in range(200)),
    ],
)
async def test_a_head_beyond_the_limits_is_refused(started, head):
    answer = await raw(await started(), head + b"Host: a\r\nConnection: close\r\n\r\n")
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))


async def test_connections_beyond_the_limit_wait_their_turn(started, session, monkeypatch):
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 1)
    server = await started()
    first = socket.create_connection(("127.0.0.1", server.port))
    with first:
        waiting = asyncio.create_task(status(session, server, headers=LOGIN))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
    assert await asyncio.wait_for(waiting, 20) == 200
