from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from pipeline.alerts.config import WebhookConfig
from pipeline.alerts.notification import AlertInMessage, Message
from pipeline.api.http import serve
from pipeline.http_config import Authorization, BasicAuth, HttpConfig
from pipeline.receivers.errors import PermanentError, RetryableError
from pipeline.receivers.webhook import Webhook, format_time, parse_retry_after, render
from pipeline.secret import Secret
from pipeline.tls import ClientTls
from tests.certificates import new_certificates

NOW = 1_700_000_000.0


def alert(number: int, *, ends_at_ms: int = 0, **labels: str) -> AlertInMessage:
    return AlertInMessage(
        fingerprint=number,
        episode_ms=1000,
        status="resolved" if ends_at_ms else "firing",
        labels=tuple(sorted(({"alertname": "Down", "job": "j"} | labels).items())),
        annotations=(("summary", "s"),),
        starts_at_ms=1_700_000_000_120,
        ends_at_ms=ends_at_ms,
        generator_url="http://p/g",
    )


MESSAGE = Message(
    "web.hook",
    '{}:{alertname="Down"}',
    (("alertname", "Down"),),
    (alert(0xA, instance="a"), alert(0xB, instance="b", ends_at_ms=1_700_000_001_000)),
)


def rendered(message: Message, max_alerts: int = 0) -> dict[str, object]:
    body: dict[str, object] = msgspec.json.decode(render(message, "http://am", max_alerts))
    return body


def test_body_is_that_of_alertmanager() -> None:
    """Field for field what Alertmanager 0.25 posts, its quoting of the receiver included."""
    labels = {"alertname": "Down", "job": "j"}
    assert rendered(MESSAGE) == {
        "receiver": "web\\.hook",
        "status": "firing",
        "alerts": [
            {
                "status": "firing",
                "labels": labels | {"instance": "a"},
                "annotations": {"summary": "s"},
                "startsAt": "2023-11-14T22:13:20.12Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://p/g",
                "fingerprint": "000000000000000a",
            },
            {
                "status": "resolved",
                "labels": labels | {"instance": "b"},
                "annotations": {"summary": "s"},
                "startsAt": "2023-11-14T22:13:20.12Z",
                "endsAt": "2023-11-14T22:13:21Z",
                "generatorURL": "http://p/g",
                "fingerprint": "000000000000000b",
            },
        ],
        "groupLabels": {"alertname": "Down"},
        "commonLabels": labels,
        "commonAnnotations": {"summary": "s"},
        "externalURL": "http://am",
        "version": "4",
        "groupKey": '{}:{alertname="Down"}',
        "truncatedAlerts": 0,
    }


def test_alerts_above_the_limit_are_counted_and_left_out() -> None:
    body = rendered(MESSAGE, max_alerts=1)
    assert body["truncatedAlerts"] == 1
    assert body["commonLabels"] == {"alertname": "Down", "instance": "a", "job": "j"}
    assert rendered(MESSAGE, max_alerts=2)["truncatedAlerts"] == 0


def test_message_is_resolved_when_nothing_fires() -> None:
    ended = msgspec.structs.replace(MESSAGE, alerts=MESSAGE.alerts[1:])
    assert rendered(ended)["status"] == "resolved"


def test_time_has_the_digits_it_needs() -> None:
    assert format_time(1_700_000_000_000) == "2023-11-14T22:13:20Z"
    assert format_time(1_700_000_000_001) == "2023-11-14T22:13:20.001Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("soon", None),
        ("0", 0.0),
        ("7", 7.0),
        ("-7", None),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
    ],
)
def test_retry_after(text: str, expected: float | None) -> None:
    assert parse_retry_after(text, NOW) == expected


Handler = Callable[[web.Request], Awaitable[web.Response]]


class Endpoint:
    """Answers as it is told to, and keeps the requests' headers and bodies."""

    def __init__(self) -> None:
        self.url = ""
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.answer = web.Response

    async def take(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        self.bodies.append(await request.read())
        return self.answer()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    it = Endpoint()
    app = web.Application()
    app.router.add_post("/hook", it.take)
    app.router.add_post("/moved", _moved)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield it
    await runner.cleanup()


async def _moved(_request: web.Request) -> web.Response:
    return web.Response(status=307, headers={"Location": "/hook"})


async def send(url: str, http: HttpConfig | None = None, within: float = 5.0) -> None:
    config = WebhookConfig(Secret(url), True, 1, http or HttpConfig())
    async with aiohttp.ClientSession() as session:
        await Webhook(config, session, "http://am", lambda: NOW).send(MESSAGE, "key-1", within)


async def test_message_is_posted_with_its_key(endpoint: Endpoint) -> None:
    await send(f"{endpoint.url}/hook")
    assert endpoint.bodies == [render(MESSAGE, "http://am", 1)]
    headers = endpoint.headers[0]
    assert headers["Idempotency-Key"] == "key-1"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("Watchkeeper/")
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("status", "headers", "error", "retry_after"),
    [
        (500, {}, RetryableError, None),
        (503, {"Retry-After": "3"}, RetryableError, 3.0),
        (429, {"Retry-After": "4"}, RetryableError, 4.0),
        (429, {}, PermanentError, None),
        (400, {}, PermanentError, None),
        (404, {"Retry-After": "4"}, PermanentError, None),
        (304, {}, PermanentError, None),
    ],
)
async def test_refusals(
    endpoint: Endpoint,
    status: int,
    headers: dict[str, str],
    error: type[RetryableError | PermanentError],
    retry_after: float | None,
) -> None:
    endpoint.answer = lambda: web.Response(status=status, headers=headers)  # type: ignore[assignment]
    with pytest.raises(error, match=f"expected an answer 2xx, got {status}") as caught:
        await send(f"{endpoint.url}/hook")
    if isinstance(caught.value, RetryableError):
        assert caught.value.retry_after == retry_after


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_any_2xx_is_taken(endpoint: Endpoint, status: int) -> None:
    endpoint.answer = lambda: web.Response(status=status)  # type: ignore[assignment]
    await send(f"{endpoint.url}/hook")


async def test_nobody_there_is_worth_another_attempt(unused_tcp_port: int) -> None:
    with pytest.raises(RetryableError, match="no answer: ClientConnectorError"):
        await send(f"http://127.0.0.1:{unused_tcp_port}/t0ken")


async def test_no_answer_in_time_is_worth_another_attempt(endpoint: Endpoint) -> None:
    with pytest.raises(RetryableError, match=r"expected an answer within 0 s|within 1e-06 s"):
        await send(f"{endpoint.url}/hook", within=0.000001)


async def test_redirects_are_followed_unless_forbidden(endpoint: Endpoint) -> None:
    await send(f"{endpoint.url}/moved")
    assert len(endpoint.bodies) == 1
    with pytest.raises(PermanentError, match="307"):
        await send(f"{endpoint.url}/moved", HttpConfig(follow_redirects=False))


async def test_authentication(endpoint: Endpoint, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from-file\n")
    ways = [
        HttpConfig(BasicAuth("u", Secret("p"))),
        HttpConfig(BasicAuth("u", Secret(""), str(file))),
        HttpConfig(None, Authorization("Bearer", Secret("t"))),
        HttpConfig(None, Authorization("Token", Secret(""), str(file))),
    ]
    for http in ways:
        await send(f"{endpoint.url}/hook", http)
    await send(endpoint.url.replace("//", "//u%3A:p@") + "/hook")
    assert [headers["Authorization"] for headers in endpoint.headers] == [
        "Basic dTpw",  # base64 of u:p
        "Basic dTpmcm9tLWZpbGU=",  # base64 of u:from-file
        "Bearer t",
        "Token from-file",
        "Basic dTo6cA==",  # base64 of u::p
    ]


async def test_secret_that_can_not_be_read_is_named_by_its_file(endpoint: Endpoint) -> None:
    http = HttpConfig(None, Authorization("Bearer", Secret(""), "/nowhere"))
    with pytest.raises(PermanentError, match="/nowhere: expected a readable secret"):
        await send(f"{endpoint.url}/hook", http)


async def test_tls_is_that_of_the_configuration(tmp_path: Path) -> None:
    certificates = new_certificates(tmp_path)
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}")
    it = Endpoint()
    app = web.Application()
    app.router.add_post("/hook", it.take)
    server = await serve(app, "127.0.0.1:0", str(tmp_path / "web.yml"))
    url = f"https://127.0.0.1:{server.port}/hook"
    try:
        await send(url, HttpConfig(tls=ClientTls(ca_file=certificates.ca)))
        with pytest.raises(RetryableError, match="no answer: ClientConnectorCertificateError"):
            await send(url)
        with pytest.raises(PermanentError, match="/nowhere/ca: can't be read"):
            await send(url, HttpConfig(tls=ClientTls(ca_file="/nowhere/ca")))
    finally:
        await server.close()
    assert len(it.bodies) == 1
