"""How a target is asked: with which login, over which TLS, and where that may go."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme
from aiohttp import web

from pipeline.api.http import serve
from pipeline.collect.fetch import FetchError, fetch
from pipeline.http_config import Authorization, BasicAuth, HttpConfig
from pipeline.secret import Secret
from pipeline.tls import ClientTls
from tests.certificates import Certificates, new_certificates

BASIC = HttpConfig(basic_auth=BasicAuth("u", Secret("p")))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as it:
        yield it


async def shown(request: web.Request) -> web.Response:
    """The login that came."""
    return web.Response(text=request.headers.get("Authorization", "none"))


async def get(session, url: str, http: HttpConfig) -> str:
    return (await fetch(session, url, 20.0, 1000, http=http)).decode()


async def test_each_kind_of_login_is_shown(start, session, tmp_path: Path):
    server = await start({"/": shown})
    url = f"http://127.0.0.1:{server.port}/"
    file = tmp_path / "secret"
    file.write_text("one\n")
    assert await get(session, url, HttpConfig()) == "none"
    assert await get(session, url, BASIC) == "Basic dTpw"  # base64 of u:p
    from_file = HttpConfig(authorization=Authorization("Bearer", Secret(), str(file)))
    assert await get(session, url, from_file) == "Bearer one"
    file.write_text("two\n")
    assert await get(session, url, from_file) == "Bearer two"


async def test_a_login_follows_a_redirect_to_the_same_host_and_to_no_other(start, session):
    async def to_other(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query["to"])

    server, other = await start({"/": shown, "/to": to_other}), await start({"/": shown})
    base = f"http://127.0.0.1:{server.port}"
    assert await get(session, f"{base}/to?to=/", BASIC) == "Basic dTpw"
    assert await get(session, f"{base}/to?to=http://127.0.0.1:{other.port}/", BASIC) == "none"
    assert await get(session, f"{base}/to?to=http://localhost:{server.port}/", BASIC) == "none"
    bearer = HttpConfig(authorization=Authorization("Bearer", Secret("t")))
    assert await get(session, f"{base}/to?to=http://127.0.0.1:{other.port}/", bearer) == "none"


async def test_redirects_are_not_followed_where_that_is_set(start, session):
    async def away(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/")

    server = await start({"/": shown, "/away": away})
    still = HttpConfig(follow_redirects=False)
    with pytest.raises(FetchError, match="HTTP status 302") as caught:
        await get(session, f"http://127.0.0.1:{server.port}/away", still)
    assert caught.value.outcome == "status"


async def test_a_secret_that_can_not_be_read_is_a_failed_scrape_that_names_the_file(start, session):
    server = await start({"/": shown})
    http = HttpConfig(basic_auth=BasicAuth("u", Secret(), "/nowhere/p"))
    with pytest.raises(FetchError, match=r"^/nowhere/p: expected a readable secret") as caught:
        await get(session, f"http://127.0.0.1:{server.port}/", http)
    assert caught.value.outcome == "connection"


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[tuple[str, Certificates]]:
    """A target that speaks TLS and asks for a certificate of the same authority."""
    certificates = new_certificates(tmp_path)
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem, "
        "client_auth_type: RequireAndVerifyClientCert}"
    )
    app = web.Application()
    app.router.add_get("/", shown)
    server = await serve(app, "127.0.0.1:0", str(tmp_path / "web.yml"))
    yield f"https://127.0.0.1:{server.port}/", certificates
    await server.close()


async def test_tls_shows_and_verifies_certificates(secured, session):
    url, files = secured
    tls = ClientTls(files.ca, files.cert, files.key)
    assert await get(session, url, HttpConfig(tls=tls)) == "none"
    assert await get(session, url, HttpConfig(tls=ClientTls(*tls.files(), "localhost"))) == "none"
    careless = ClientTls("", files.cert, files.key, insecure_skip_verify=True)
    assert await get(session, url, HttpConfig(tls=careless)) == "none"


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        (lambda f: ClientTls("", f.cert, f.key), "certificate verify failed"),
        (lambda f: ClientTls(f.ca, f.cert, f.key, "other.test"), "Hostname mismatch"),
        (lambda _: ClientTls("/nowhere/ca"), "/nowhere/ca: can't be read"),
    ],
)
async def test_a_target_that_is_not_trusted_is_not_asked(secured, session, tls, expected):
    url, files = secured
    with pytest.raises(FetchError, match=expected):
        await get(session, url, HttpConfig(tls=tls(files)))


async def test_a_new_authority_is_trusted_from_the_next_connection_on(secured, session, tmp_path):
    url, files = secured
    content = (tmp_path / "ca.pem").read_bytes()
    own = tmp_path / "trusted.pem"
    trustme.CA().cert_pem.write_to_path(own)
    http = HttpConfig(tls=ClientTls(str(own), files.cert, files.key))
    with pytest.raises(FetchError):
        await get(session, url, http)
    own.write_bytes(content)
    assert await get(session, url, http) == "none"


async def test_a_packed_body_counts_as_what_it_becomes(start, session):
    async def bomb(_request: web.Request) -> web.Response:
        packed = gzip.compress(b"x" * 10_000_000)
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    server = await start({"/": bomb})
    with pytest.raises(FetchError, match="expected at most 1000 bytes, got more") as caught:
        await get(session, f"http://127.0.0.1:{server.port}/", HttpConfig())
    assert caught.value.outcome == "too_large"


@pytest.mark.parametrize(("code", "expected"), [(404, "404 Not Found"), (799, "799")])
async def test_a_refusal_is_told_in_its_usual_words(start, session, code, expected):
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=code, reason=request.headers["Authorization"])

    server = await start({"/": refuse})
    with pytest.raises(FetchError) as caught:
        await get(session, f"http://127.0.0.1:{server.port}/", BASIC)
    assert str(caught.value) == f"server returned HTTP status {expected}"
