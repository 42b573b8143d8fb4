"""`watchkeeper dispatch`: put the parts together, run until told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from pathlib import Path
from random import Random

import aiohttp

from pipeline.alerts.board import Board
from pipeline.alerts.config import Config, load_config
from pipeline.alerts.notification import Integration
from pipeline.alerts.route import build_routes
from pipeline.api.http import ListenError, serve
from pipeline.clock import Clock
from pipeline.dispatch.api import Api
from pipeline.dispatch.consumer import consume
from pipeline.dispatch.delivery import Channel
from pipeline.dispatch.dispatcher import Dispatcher
from pipeline.dispatch.store import Store, StoreError
from pipeline.document import ConfigError
from pipeline.receivers.webhook import Webhook
from pipeline.selfmetrics import configure_logging, fields
from pipeline.settings import Settings

log = logging.getLogger(__name__)

EXIT_SETTINGS, EXIT_MISSING = 3, 4

BUILT_IN = """\
route:
  receiver: local
  group_by: [alertname, job]
  group_wait: 0s
  group_interval: 5s
  repeat_interval: 4h
receivers:
  - name: local
    webhook_configs:
      - url: {url}
"""
"""The configuration when no file is set: everything goes to this machine's local receiver."""


def run(settings: Settings) -> int:
    """Dispatch alerts until SIGINT or SIGTERM; returns the exit code."""
    configure_logging("dispatch")
    try:
        config = read_config(settings)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return EXIT_SETTINGS
    try:
        asyncio.run(_run(settings, config))
    except (ListenError, StoreError) as error:
        print(error, file=sys.stderr)
        return EXIT_MISSING
    return 0


def read_config(settings: Settings) -> Config:
    """The receivers' configuration: the file's, or the built-in one.

    Raises
    ------
    ConfigError
        With every problem of the file.
    """
    file = settings.dispatch.config_file
    if not file:
        text = BUILT_IN.format(url=settings.dispatch.local_receiver)
        return load_config(text, "built-in configuration")
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: can't be read: {error}"]) from error
    return load_config(text, file)


async def _run(settings: Settings, config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    clock = Clock(settings.clock)
    store = Store(settings.dispatch.database or f"sqlite:///{settings.data}/dispatch.db")
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            integrations, channels = channels_of(settings, config, session)
            board = Board(build_routes(config.route), integrations, clock.now_ms())
            dispatcher = Dispatcher(board, store, channels, clock)
            server = await serve(
                Api(dispatcher, config, clock).application(), settings.dispatch.listen
            )
            dispatcher.start()
            consumer = asyncio.create_task(consume(settings, dispatcher))
            log.info("ready %s", fields(listen=f"{server.host}:{server.port}"))
            await stop.wait()
            consumer.cancel()
            await asyncio.gather(consumer, return_exceptions=True)
            await server.close()
            await dispatcher.close()
    finally:
        await store.close()


def channels_of(
    settings: Settings, config: Config, session: aiohttp.ClientSession
) -> tuple[dict[str, tuple[Integration, ...]], dict[str, Channel]]:
    """The integrations of each receiver, and the way to each of them."""
    external_url = f"http://{settings.dispatch.listen}"
    integrations: dict[str, tuple[Integration, ...]] = {}
    channels: dict[str, Channel] = {}
    for receiver in config.receivers:
        own = []
        for i, webhook in enumerate(receiver.webhooks):
            integration = Integration(receiver.name, "webhook", i, webhook.send_resolved)
            sender = Webhook(webhook, session, external_url, time.time)
            channels[integration.id] = Channel("webhook", sender, Random())  # noqa: S311 - jitter
            own.append(integration)
        integrations[receiver.name] = tuple(own)
    return integrations, channels
