"""Scrapes, a probe and a feed of one node that wants TLS and a login."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import aiohttp
import bcrypt
from aiohttp import web

from pipeline.api.http import serve
from pipeline.collect.collector import Collector, load_config
from pipeline.settings import CollectSettings, KafkaSettings, Settings
from tests.certificates import new_certificates
from tests.collect.recording import RecordingProducer

SAMPLES = Path(__file__).parents[1] / "ingest" / "samples"


async def metrics(_request: web.Request) -> web.Response:
    return web.Response(text="behind_tls 42\n")


async def health(_request: web.Request) -> web.Response:
    return web.Response(body=(SAMPLES / "q_health.down_503.json").read_bytes())


async def dashboard(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.receive_str()
    await socket.send_str((SAMPLES / "ws_dashboard.metrics.json").read_text())
    await socket.receive()
    return socket


async def patiently(
    producer: RecordingProducer, name: str, value: float
) -> dict[tuple[tuple[str, str], ...], float | str]:
    """As `producer.until`, for as long as handshakes may take on a machine under load."""
    for _ in range(11):
        with suppress(TimeoutError):
            return await producer.until(name, value)
    return await producer.until(name, value)


async def test_all_that_a_secured_node_offers_arrives(
    tmp_path: Path, producer: RecordingProducer
) -> None:
    new_certificates(tmp_path)
    hashed = bcrypt.hashpw(b"p", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
        f"basic_auth_users: {{u: '{hashed}'}}\n"
    )
    (tmp_path / "password").write_text("p\n")
    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/q/health", health)
    app.router.add_get("/ws/dashboard", dashboard)
    server = await serve(app, "127.0.0.1:0", str(tmp_path / "web.yml"))
    who = (
        "basic_auth: {username: u, password_file: password}, tls_config: {ca_file: ca.pem}, "
        f"static_configs: [{{targets: ['127.0.0.1:{server.port}']}}]"
    )
    (tmp_path / "scrape.yml").write_text(
        f"scrape_configs: [{{job_name: j, scheme: https, scrape_interval: 2s, {who}}}]"
    )
    (tmp_path / "feeds.yml").write_text(
        f"health_configs: [{{job_name: j, scheme: https, interval: 2s, {who}}}]\n"
        f"websocket_configs: [{{job_name: j, scheme: wss, feeds: [/ws/dashboard], {who}}}]\n"
    )
    collect = CollectSettings(
        host=False,
        scrape_config=str(tmp_path / "scrape.yml"),
        feeds_config=str(tmp_path / "feeds.yml"),
        batch_ms=1,
    )
    settings = Settings(
        data=str(tmp_path / "data"), kafka=KafkaSettings(partitions=1), collect=collect
    )
    async with aiohttp.ClientSession() as session:
        collector = Collector(settings, load_config(settings), producer, session)
        task = asyncio.create_task(collector.run())
        try:
            await patiently(producer, "behind_tls", 42)
            await patiently(producer, "ledger_transactions_total", 91223344)
            probed = await patiently(producer, "health_check_up", 0)
        finally:
            task.cancel()
            await asyncio.wait([task])
            await server.close()
    assert probed, "what the node says of itself, and not only that it can't be reached"
