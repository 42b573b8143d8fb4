"""`watchkeeper collect` as a process: it starts, stops on a signal, and says why it can't."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from pipeline.collect.fetch import FetchError, fetch
from pipeline.local.ports import free_ports


@asynccontextmanager
async def collect(folder: Path, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, **{f"WATCHKEEPER_{k}": v for k, v in settings.items()}}
    command = (sys.executable, "-m", "pipeline", "collect")
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_runs_without_a_broker_and_stops_on_sigterm(tmp_path: Path) -> None:
    port, broker = free_ports(2)
    settings = {"COLLECT_LISTEN": f"127.0.0.1:{port}", "BROKERS": f"127.0.0.1:{broker}"}
    async with collect(tmp_path, **settings) as process, aiohttp.ClientSession() as session:
        async with asyncio.timeout(90):
            healthy = b""
            while not healthy:
                try:
                    healthy = await fetch(session, f"http://127.0.0.1:{port}/-/healthy", 5, 1000)
                except FetchError:
                    await asyncio.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            _, log = await process.communicate()

    assert process.returncode == 0
    assert b"collecting: listen=127.0.0.1:" in log
    assert b"Traceback" not in log


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, collect(tmp_path, COLLECT_LISTEN=f"127.0.0.1:{port}") as process:
        _, log = await process.communicate()

    assert process.returncode == 4
    assert f"127.0.0.1:{port}: the port is taken".encode() in log


async def test_a_wrong_configuration_is_reported_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "feeds.yml"
    path.write_text("websocket_config: []\n")
    async with collect(tmp_path, COLLECT_FEEDS_CONFIG=str(path)) as process:
        _, log = await process.communicate()

    assert process.returncode == 3
    assert f"{path}:1: websocket_config: unknown field".encode() in log
