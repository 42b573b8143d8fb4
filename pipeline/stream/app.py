"""The Faust application: two agents that hand raw records to the worker, nothing else.

What is set here and why stands in docs/faust.md's table of faults, in short: one record at a time
(`concurrency` 1), raw bytes in, exactly one yield a record, no tables, no web server, static
membership and a session time-out of 10 s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import faust
from faust.types import TP, StreamT

from pipeline.settings import Settings

SESSION_TIMEOUT_S = 10.0

OnRecord = Callable[[int, int, bytes], Awaitable[None]]
"""Partition, offset and value of a record; returning means that it may be committed."""


class Handlers(Protocol):
    """What the application calls."""

    async def on_telemetry(self, partition: int, offset: int, value: bytes) -> None: ...

    async def on_signal(self, partition: int, offset: int, value: bytes) -> None: ...

    def on_assigned(self, topic: str, partitions: frozenset[int]) -> None: ...


def build_app(settings: Settings, member: str, handlers: Handlers) -> faust.App:
    """The application of one worker; `member` is its identity in the consumer group."""
    folder = Path(settings.data) / f"faust-{member}"
    folder.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        settings.topic("worker"),
        broker=";".join(f"aiokafka://{broker}" for broker in settings.brokers),
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
    async def process(stream: StreamT[bytes]) -> AsyncIterator[None]:
        async for event in stream.events():
            message = event.message
            await handle(message.partition, message.offset, message.value)
            yield

    app.agent(
        app.topic(topic, value_serializer="raw", key_serializer="raw"), name=topic, concurrency=1
    )(process)
