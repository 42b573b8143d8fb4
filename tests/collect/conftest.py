"""Real servers to watch, and a producer that remembers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from pipeline.api.http import Server, serve
from tests.collect.recording import RecordingProducer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Start = Callable[[dict[str, Handler]], Awaitable[Server]]


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default data folder, where the disk buffer is, is relative."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def producer() -> RecordingProducer:
    return RecordingProducer()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`start({"/metrics": handler})` is a server on a free port."""
    async with AsyncExitStack() as stack:

        async def start_one(routes: dict[str, Handler]) -> Server:
            app = web.Application()
            for path, handler in routes.items():
                app.router.add_get(path, handler)
            server = await serve(app, "127.0.0.1:0")
            stack.push_async_callback(server.close)
            return server

        yield start_one
