"""Secrets are planted wherever one can be set; afterwards none is found where it doesn't belong."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import bcrypt
import pytest
from aiohttp import web

from pipeline.api.client import OwnListeners
from pipeline.api.http import serve
from pipeline.local.children import start_child, stop_child
from pipeline.local.problems import MissingError
from pipeline.local.topics import ensure_topics
from pipeline.secret import Secret
from pipeline.settings import WebSettings
from tests.certificates import Certificates, new_certificates
from tests.secured_kafka import USER, SecuredKafka

pytestmark = [pytest.mark.parts, pytest.mark.timeout(600)]

KAFKA = "planted-kafka-7f31"
ALERT = '[{"labels": {"alertname": "Planted", "job": "j"}, "generatorURL": "http://127.0.0.1/g"}]'
PATIENCE_S = 120.0


@dataclass
class Planted:
    """Every secret of this test, by where it was put."""

    secrets: dict[str, str] = field(default_factory=lambda: {"kafka": KAFKA})

    def __call__(self, place: str) -> str:
        """A new secret for `place`."""
        return self.secrets.setdefault(place, f"planted-{place}-{len(self.secrets):04d}x")

    def found_in(self, content: bytes) -> list[str]:
        """Where the secrets in `content` were put; as they are, or as a login carries them."""
        return [
            place
            for place, text in self.secrets.items()
            if text.encode() in content
            or any(b64encode(f"{user}:{text}".encode()) in content for user in ("u", "wk"))
        ]


@pytest.fixture
def planted() -> Planted:
    return Planted()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return new_certificates(tmp_path / "config")


@pytest.fixture
def kafka(
    tmp_path: Path, certificates: Certificates, ports: Callable[[int], list[int]]
) -> Iterator[SecuredKafka]:
    it = SecuredKafka(tmp_path / "kafka", ports(4), certificates, KAFKA)
    try:
        it.start(lambda _line: None)
    except MissingError as error:
        pytest.skip(str(error))
    it.add_scram_user()
    yield it
    it.stop()


class Refusing:
    """A target and receiver that refuses, and says back what it was shown."""

    def __init__(self) -> None:
        self.asked = asyncio.Condition()
        self.paths: set[str] = set()

    async def answer(self, request: web.Request) -> web.Response:
        async with self.asked:
            self.paths.add(request.path.split("/")[1])
            self.asked.notify_all()
        said = request.headers.get("Authorization", "nothing")
        return web.Response(status=401, reason=said, text=f"you said {said}\n")

    async def until_asked(self, *paths: str) -> None:
        async with self.asked, asyncio.timeout(PATIENCE_S):
            await self.asked.wait_for(lambda: set(paths) <= self.paths)


@pytest.fixture
async def refusing() -> AsyncIterator[tuple[Refusing, int]]:
    handler = Refusing()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler.answer)
    server = await serve(app, "127.0.0.1:0")
    yield handler, server.port
    await server.close()


def write_config(
    folder: Path, plant: Planted, port: int, closed: int, certificates: Certificates
) -> WebSettings:
    """All files with secrets in them."""
    Path(folder / "token").write_text(plant("token-file") + "\n")
    Path(folder / "web-password").write_text(plant("web-password") + "\n")
    key = Path(certificates.key).read_text().splitlines()[2]
    plant.secrets["private-key"] = key
    hashed = bcrypt.hashpw(plant("web-password").encode(), bcrypt.gensalt(4)).decode()
    plant.secrets["web-hash"] = hashed
    (folder / "web.yml").write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
        f"basic_auth_users: {{wk: '{hashed}'}}\n"
    )
    (folder / "scrape.yml").write_text(f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: basic
    metrics_path: /basic
    basic_auth: {{username: u, password: {plant("scrape-basic")}}}
    static_configs: [{{targets: ["127.0.0.1:{port}", "127.0.0.1:{closed}"]}}]
  - job_name: bearer
    metrics_path: /bearer
    bearer_token: {plant("scrape-bearer")}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
  - job_name: file
    metrics_path: /file
    authorization: {{type: Token, credentials_file: token}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
  - job_name: tls
    scheme: https
    tls_config: {{ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
""")
    (folder / "feeds.yml").write_text(f"""
websocket_configs:
  - job_name: sockets
    feeds: [/ws/transactions, /ws/v11]
    authorization: {{credentials: {plant("feed-jwt")}}}
    static_configs: [{{targets: ["127.0.0.1:{port}", "127.0.0.1:{closed}"]}}]
health_configs:
  - job_name: health
    path: /health
    interval: 1s
    authorization: {{credentials: {plant("health-bearer")}}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
""")
    login = f"u:{plant('webhook-login')}"
    (folder / "alertmanager.yml").write_text(f"""
route: {{receiver: all, group_wait: 0s}}
receivers:
  - name: all
    webhook_configs:
      - url: http://{login}@127.0.0.1:{port}/hook/{plant("webhook-path")}?t={plant("webhook-query")}
      - url: http://127.0.0.1:{closed}/{plant("webhook-closed")}
      - url: http://127.0.0.1:{port}/authorized
        http_config: {{authorization: {{credentials: {plant("webhook-bearer")}}}}}
""")
    return WebSettings(
        config_file=str(folder / "web.yml"),
        ca_file=certificates.ca,
        username="wk",
        password_file=str(folder / "web-password"),
    )


async def until_healthy(own: OwnListeners, addresses: list[str]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        for address in addresses:
            while await own.get(address, "/-/healthy") is None:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.1)


async def test_no_planted_secret_is_found_again(
    tmp_path: Path,
    planted: Planted,
    certificates: Certificates,
    kafka: SecuredKafka,
    refusing: tuple[Refusing, int],
    ports: Callable[[int], list[int]],
):
    handler, port = refusing
    collect, worker, dispatch, export, closed = (f"127.0.0.1:{number}" for number in ports(5))
    folder, data = tmp_path / "config", tmp_path / "data"
    web_settings = write_config(folder, planted, port, int(closed.rpartition(":")[2]), certificates)
    login = {
        "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": USER,
    }  # fmt: skip
    settings = kafka.settings(data, **login, sasl_password=Secret(KAFKA))
    await asyncio.to_thread(ensure_topics, settings)
    (folder / "watchkeeper.toml").write_text(f"""
data = "{data}"
brokers = ["{kafka.login}"]
[kafka]
security_protocol = "SASL_SSL"
sasl_mechanism = "SCRAM-SHA-512"
sasl_username = "{USER}"
ssl_ca_file = "{certificates.ca}"
[collect]
listen = "{collect}"
scrape_config = "{folder}/scrape.yml"
feeds_config = "{folder}/feeds.yml"
[worker]
listen = "{worker}"
[dispatch]
listen = "{dispatch}"
config_file = "{folder}/alertmanager.yml"
[export]
listen = "{export}"
[web]
config_file = "{web_settings.config_file}"
ca_file = "{web_settings.ca_file}"
username = "wk"
password_file = "{web_settings.password_file}"
""")
    environment = {
        **os.environ,
        "WATCHKEEPER_CONFIG": str(folder / "watchkeeper.toml"),
        "WATCHKEEPER_KAFKA_SASL_PASSWORD": KAFKA,
    }
    shown: list[bytes] = []
    wrong = {**environment, "WATCHKEEPER_KAFKA_SASL_PASSWORD": planted("kafka-wrong")}
    command = [sys.executable, "-m", "pipeline"]
    logs = tmp_path / "logs"
    children = [
        start_child([*command, name], logs / f"{name}.log", environment)
        for name in ("collect", "dispatch", "export", "worker")
    ]
    refused = start_child(
        [*command, "export"],
        logs / "refused.log",
        {**wrong, "WATCHKEEPER_EXPORT_LISTEN": "127.0.0.1:0"},
    )
    try:
        async with aiohttp.ClientSession() as session:
            own = OwnListeners(session, web_settings)
            await until_healthy(own, [collect, dispatch, export])
            await handler.until_asked("basic", "bearer", "file", "health", "ws")
            shown += await post_alert(session, own, dispatch)
            await handler.until_asked("hook", "authorized")
            for address, path in (
                (collect, "/metrics"), (collect, "/metrics/fleet"), (collect, "/api/v1/targets"),
                (dispatch, "/metrics"), (dispatch, "/api/v2/status"), (dispatch, "/api/v2/alerts"),
                (dispatch, "/api/v2/receivers"), (export, "/metrics"),
            ):  # fmt: skip
                answer = await own.get(address, path)
                assert answer, (address, path)
                shown.append(answer)
            await until_logged(logs / "refused.log", b"SaslAuthenticationFailed")
    finally:
        ending = (asyncio.to_thread(stop_child, child, 20) for child in (*children, refused))
        await asyncio.gather(*ending)
    shown += await asyncio.gather(
        asyncio.to_thread(checked, environment),
        asyncio.to_thread(checked, {**environment, **broken(planted)}),
        asyncio.to_thread(without_database, environment, planted),
    )

    found = {f"answer {i}": planted.found_in(content) for i, content in enumerate(shown)}
    for place in (logs, data, kafka.log.parent / "log"):
        for file in place.rglob("*"):
            if file.is_file():
                found[str(file.relative_to(tmp_path))] = planted.found_in(file.read_bytes())
    assert len(found) > 20
    assert {place: secrets for place, secrets in found.items() if secrets} == {}
    assert len(planted.secrets) >= 16


async def post_alert(
    session: aiohttp.ClientSession, own: OwnListeners, address: str
) -> list[bytes]:
    """Send an alert, once with our login and once without; what is answered."""
    keywords = own._login.keywords({"Content-Type": "application/json"})
    answers = []
    for expected, headers in (
        (200, keywords["headers"]), (401, {"Content-Type": "application/json"}),
    ):  # fmt: skip
        async with session.post(
            own.url(address, "/api/v2/alerts"), data=ALERT, headers=headers, ssl=keywords["ssl"]
        ) as response:
            assert response.status == expected
            answers.append(await response.read())
    return answers


async def until_logged(log: Path, text: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while text not in await asyncio.to_thread(log.read_bytes):  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.1)


def run(environment: dict[str, str], *arguments: str) -> tuple[int, bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        env=environment,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def checked(environment: dict[str, str]) -> bytes:
    return run(environment, "check", "--json")[1]


def broken(plant: Planted) -> dict[str, str]:
    """Settings that don't go together, with secrets in them."""
    return {
        "WATCHKEEPER_KAFKA_SECURITY_PROTOCOL": "SSL",
        "WATCHKEEPER_KAFKA_SASL_PASSWORD": plant("check-kafka"),
        "WATCHKEEPER_WEB_USERNAME": "",
    }


def without_database(environment: dict[str, str], plant: Planted) -> bytes:
    """What the dispatcher says when its database can't be had."""
    url = f"postgresql+nothing://wk:{plant('database')}@127.0.0.1:1/alerts"
    code, said = run({**environment, "WATCHKEEPER_DISPATCH_DATABASE": url}, "dispatch")
    assert code != 0
    assert said
    return said
