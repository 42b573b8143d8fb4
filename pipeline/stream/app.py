"""The Faust application: two agents that hand raw records to the worker, nothing else.

What is set here and why: one record is stepped at a time (`concurrency` 1: with more, Faust commits
past work that is under way), raw bytes in (a decode error would end a stream), no tables, no web
server, static membership and a session time-out of 10 s. A record is acknowledged by hand
(`noack`), after its effects: left to itself Faust acknowledges it as soon as the next one is asked
for, even when the agent has failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import faust
from faust.streams import Stream
from faust.types import TP, EventT, StreamT

from pipeline.brokers import Connection
from pipeline.settings import Settings
from pipeline.stream.credentials import credentials_of
from pipeline.stream.transport import PromptApp
from pipeline.stream.underway import Effects, UnderWay

SESSION_TIMEOUT_S = 10.0

OnRecord = Callable[[int, int, bytes], Awaitable[Effects | None]]
"""Partition, offset and value of a record; it may be committed once what is returned is done."""


class Handlers(Protocol):
    """What the application calls."""

    async def on_telemetry(self, partition: int, offset: int, value: bytes) -> Effects | None: ...

    async def on_signal(self, partition: int, offset: int, value: bytes) -> Effects | None: ...

    def on_assigned(self, topic: str, partitions: frozenset[int]) -> None: ...


def build_app(
    settings: Settings, connection: Connection, member: str, handlers: Handlers
) -> faust.App:
    """The application of one worker; `member` is its identity in the consumer group."""
    folder = Path(settings.data) / f"faust-{member}"
    folder.mkdir(parents=True, exist_ok=True)
    app = PromptApp(
        settings.topic("worker"),
        broker=";".join(f"aiokafka://{broker}" for broker in settings.brokers),
        broker_credentials=credentials_of(connection),
        store="memory://",
        datadir=str(folder),
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=SESSION_TIMEOUT_S / 4,
        broker_commit_interval=1.0,
        consumer_group_instance_id=member,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=8 * 1024 * 1024,
        stream_wait_empty=False,
    )
    _agent(app, settings.topic("telemetry"), handlers.on_telemetry)
    _agent(app, settings.topic("signals"), handlers.on_signal)

    # Any: how Faust declares what its signals carry.
    def on_assigned(_app: Any, /, *carried: Any, signal: Any, **_: Any) -> None:  # noqa: ARG001 - Faust passes it by this name
        assigned: set[TP] = carried[0]
        for name in ("telemetry", "signals"):
            topic = settings.topic(name)
            handlers.on_assigned(
                name, frozenset(tp.partition for tp in assigned if tp.topic == topic)
            )

    # Faust holds receivers of its signals weakly, unless they are told to stay.
    app.on_partitions_assigned.connect(on_assigned, weak=False)
    return app


def _agent(app: faust.App, topic: str, handle: OnRecord) -> None:
    async def process(stream: StreamT[bytes]) -> None:
        assert isinstance(stream, Stream), "Faust has one kind of stream"
        by_hand = stream.noack()

        async def acknowledge(event: EventT[bytes]) -> None:
            await by_hand.ack(event)

        async with UnderWay(acknowledge) as under_way:
            async for event in by_hand.events():
                message = event.message
                effects = await handle(message.partition, message.offset, message.value)
                await under_way.add(event, effects)

    app.agent(
        app.topic(topic, value_serializer="raw", key_serializer="raw"), name=topic, concurrency=1
    )(process)
