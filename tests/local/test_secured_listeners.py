"""Our own listeners behind TLS and a login, asked by a real Prometheus and by our own processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import bcrypt
import msgspec
import pytest
import yaml
from aiohttp import web

from pipeline.api.client import OwnListeners, check_web
from pipeline.api.http import Server, new_app, serve
from pipeline.dispatch.main import read_config
from pipeline.local.children import start_child, stop_child
from pipeline.local.prometheus import prometheus_command, prometheus_config
from pipeline.settings import (
    CollectSettings,
    DispatchSettings,
    ExportSettings,
    LocalSettings,
    Settings,
    SettingsError,
    WebSettings,
    WorkerSettings,
)
from tests.certificates import new_certificates

PASSWORD = "listeners-t0ken"


@pytest.fixture
def web_settings(tmp_path: Path) -> WebSettings:
    """TLS and one user, and what our own processes need to know of it."""
    certificates = new_certificates(tmp_path)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
        f"basic_auth_users: {{wk: '{hashed}'}}\n"
    )
    (tmp_path / "password").write_text(PASSWORD + "\n")
    return WebSettings(
        config_file=str(tmp_path / "web.yml"),
        ca_file=certificates.ca,
        username="wk",
        password_file=str(tmp_path / "password"),
    )


@pytest.fixture
def seen() -> asyncio.Queue[str]:
    """Paths that the listener was asked for."""
    return asyncio.Queue()


@pytest.fixture
async def listener(web_settings: WebSettings, seen: asyncio.Queue[str]) -> AsyncIterator[Server]:
    app = new_app()

    async def take(request: web.Request) -> web.Response:
        await seen.put(request.path)
        return web.Response()

    app.router.add_get("/metrics/fleet", take)
    app.router.add_post("/backstop/api/v2/alerts", take)
    server = await serve(app, "127.0.0.1:0", web_settings.config_file)
    yield server
    await server.close()


@pytest.mark.parts
async def test_a_real_prometheus_scrapes_us_and_posts_to_us(
    web_settings: WebSettings,
    listener: Server,
    seen: asyncio.Queue[str],
    tmp_path: Path,
    program: Callable[[str], str],
    ports: Callable[[int], list[int]],
):
    address = f"127.0.0.1:{listener.port}"
    settings = Settings(
        data=str(tmp_path / "data"),
        collect=CollectSettings(listen=address),
        worker=WorkerSettings(listen=address),
        dispatch=DispatchSettings(listen=address),
        export=ExportSettings(listen=address),
        local=LocalSettings(prometheus_listen=f"127.0.0.1:{ports(1)[0]}"),
        web=web_settings,
    )
    (tmp_path / "rules.yml").write_text(
        "groups: [{name: g, rules: [{alert: Up, expr: 'up{job=\"watchkeeper\"} == 1'}]}]"
    )
    config = prometheus_config(settings, {}, tmp_path, [str(tmp_path / "rules.yml")])
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        job["scrape_interval"] = "1s"
    text = yaml.safe_dump(config)
    assert PASSWORD not in text
    (tmp_path / "prometheus.yml").write_text(text)
    command = prometheus_command(settings, program("prometheus"), tmp_path / "prometheus.yml")
    child = start_child(command, tmp_path / "prometheus.log")
    try:
        wanted = {"/metrics/fleet", "/backstop/api/v2/alerts"}
        async with asyncio.timeout(90), aiohttp.ClientSession() as session:
            while wanted:
                wanted.discard(await seen.get())
            own = OwnListeners(session, web_settings)
            answer = await own.get(settings.local.prometheus_listen, "/api/v1/targets")
            assert answer is not None, "Prometheus is behind the same login"
            targets = msgspec.json.decode(answer)["data"]["activeTargets"]
            assert {target["scrapeUrl"][:8] for target in targets} == {"https://"}
            open_one = OwnListeners(session, WebSettings())
            assert await open_one.get(settings.local.prometheus_listen, "/-/ready") is None
    finally:
        stop_child(child, 20)
    assert PASSWORD not in (tmp_path / "prometheus.log").read_text()


async def test_our_own_processes_are_let_in_and_others_are_not(
    web_settings: WebSettings, listener: Server
):
    address = f"127.0.0.1:{listener.port}"
    async with aiohttp.ClientSession() as session:
        own = OwnListeners(session, web_settings)
        assert own.url(address, "/") == f"https://{address}/"
        assert await own.get(address, "/-/healthy") == b"Watchkeeper is healthy.\n"
        unnamed = msgspec.structs.replace(web_settings, username="", password_file="")
        assert await OwnListeners(session, unnamed).get(address, "/-/healthy") is None
        untrusting = msgspec.structs.replace(web_settings, ca_file="")
        assert await OwnListeners(session, untrusting).get(address, "/-/healthy") is None


def test_the_built_in_receiver_gets_our_login(web_settings: WebSettings):
    receiver, _ = read_config(Settings(web=web_settings)).receivers
    [webhook] = receiver.webhooks
    assert webhook.http.basic_auth is not None
    assert webhook.http.basic_auth.password_file == web_settings.password_file
    assert webhook.http.tls.ca_file == web_settings.ca_file


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"username": ""}, "web.username, web.password_file: expected both, got one"),
        ({"key_file": "k"}, "web.certificate_file, web.key_file: expected both, got one"),
        ({"config_file": "/nowhere/web.yml"}, "/nowhere/web.yml: can't be read: No such file"),
        ({"password_file": "/nowhere/p"}, "web: /nowhere/p: expected a readable secret: No such"),
        ({"ca_file": "/nowhere/ca"}, "web: /nowhere/ca: can't be read: No such file"),
    ],
)
def test_what_can_not_be_used_is_said(web_settings: WebSettings, changes, expected):
    check_web(web_settings)
    with pytest.raises(SettingsError) as caught:
        check_web(msgspec.structs.replace(web_settings, **changes))
    assert caught.value.problems[0].startswith(expected)
