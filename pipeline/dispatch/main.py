"""`watchkeeper dispatch`: put the parts together, run until told to stop."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path
from random import Random

import aiohttp
import msgspec

from pipeline.alerts.board import Board
from pipeline.alerts.config import Config, load_config
from pipeline.alerts.desk import Desk
from pipeline.alerts.marks import Marks
from pipeline.alerts.notification import Integration
from pipeline.alerts.referee import Jurisdiction, Referee
from pipeline.alerts.route import build_routes
from pipeline.api.client import own_http
from pipeline.api.http import ListenError, serve
from pipeline.brokers import connection_of
from pipeline.clock import Clock
from pipeline.dispatch.api import Api
from pipeline.dispatch.consumer import AlertReader
from pipeline.dispatch.delivery import Channel
from pipeline.dispatch.dispatcher import Dispatcher
from pipeline.dispatch.intervals import read_intervals_ms
from pipeline.dispatch.marks import MarkReader
from pipeline.dispatch.reading import keep_reading
from pipeline.dispatch.store import Store, StoreError
from pipeline.document import ConfigError
from pipeline.ending import stop_on_signal
from pipeline.receivers.webhook import Webhook
from pipeline.rules.paths import rule_files
from pipeline.selfmetrics import configure_logging, fields
from pipeline.settings import Settings, SettingsError

log = logging.getLogger(__name__)

EXIT_SETTINGS, EXIT_MISSING = 3, 4

BUILT_IN = """\
route:
  receiver: local
  group_by: [alertname, job]
  group_wait: 0s
  group_interval: 5s
  repeat_interval: 4h
  routes:
    - matchers: ['alertname = WatchkeeperHeartbeat']
      receiver: nobody
receivers:
  - name: local
    webhook_configs:
      - url: {url}
  - name: nobody
"""
"""The configuration when no file is set: everything goes to this machine's local receiver. The
heartbeat, which always fires, is for a dead-man switch, and here is none."""


def run(settings: Settings) -> int:
    """Dispatch alerts until SIGINT or SIGTERM; returns the exit code."""
    configure_logging("dispatch")
    try:
        config = read_config(settings)
        connection_of(settings)
    except (ConfigError, SettingsError) as error:
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
        return _to_ourselves(load_config(text, "built-in configuration"), settings)
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: can't be read: {error}"]) from error
    return load_config(text, file)


def _to_ourselves(built_in: Config, settings: Settings) -> Config:
    """The local receiver is a listener of ours and may want our login."""
    replace = msgspec.structs.replace
    local, nobody = built_in.receivers
    (webhook,) = local.webhooks
    webhook = replace(webhook, http=own_http(settings.web))
    return replace(built_in, receivers=(replace(local, webhooks=(webhook,)), nobody))


async def _run(settings: Settings, config: Config) -> None:
    stop = stop_on_signal()
    clock = Clock(settings.clock)
    store = Store(settings.dispatch.database or f"sqlite:///{settings.data}/dispatch.db")
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            integrations, channels = channels_of(settings, config, session)
            desk = new_desk(settings, config, integrations, clock.now_ms())
            dispatcher = Dispatcher(desk, store, channels, clock)
            server = await serve(
                Api(dispatcher, config, clock).application(),
                settings.dispatch.listen,
                settings.web.config_file,
            )
            dispatcher.start()
            log.info("ready %s", fields(listen=f"{server.host}:{server.port}"))
            await _read_until(stop, settings, dispatcher)
            await server.close()
            await dispatcher.close()
    finally:
        await store.close()


async def _read_until(stop: asyncio.Event, settings: Settings, dispatcher: Dispatcher) -> None:
    """Read alerts and marks until told to stop; a reader's own fault ends the process."""
    tasks = [
        asyncio.create_task(stop.wait()),
        asyncio.create_task(keep_reading("alerts", lambda: AlertReader(settings, dispatcher))),
        asyncio.create_task(keep_reading("signals", lambda: MarkReader(settings, dispatcher))),
    ]
    ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in ended:
        task.result()


def new_desk(
    settings: Settings,
    config: Config,
    integrations: dict[str, tuple[Integration, ...]],
    now_ms: int,
) -> Desk:
    """The desk for these receivers; it knows the intervals of the rule files that can be read."""
    marks = Marks(settings.kafka.partitions, round(settings.dispatch.mark_lifetime * 1000), now_ms)
    default_ms = round(settings.rules.evaluation_interval * 1000)
    problems: list[str] = []
    files = rule_files(settings.rules.files, Path.cwd())
    intervals = read_intervals_ms(files, default_ms, problems)
    for problem in problems:
        log.warning("intervals of rules not known: %s", problem)
    board = Board(build_routes(config.route), integrations, now_ms)
    return Desk(board, Referee(marks, Jurisdiction(intervals, default_ms)))


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
