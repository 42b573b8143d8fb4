"""Reading a topic for as long as the dispatcher runs, whatever Kafka does.

The dispatcher reads one partition of a topic alone, so it assigns itself: no group join delays a
restart. While Kafka is down the rest of the dispatcher goes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from aiokafka.errors import KafkaError
from prometheus_client import Gauge

from pipeline.dispatch.store import StoreError
from pipeline.selfmetrics import fields

log = logging.getLogger(__name__)

CONNECTED = Gauge(
    "watchkeeper_dispatch_kafka_connected", "1 while a topic is read from Kafka.", ["topic"]
)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 4.0


class Reader(Protocol):
    """One connection to Kafka; `read` returns only by an exception."""

    async def start(self) -> None: ...

    async def read(self) -> None: ...

    async def stop(self) -> None: ...


async def keep_reading(topic: str, new_reader: Callable[[], Reader]) -> None:
    """Read `topic` until cancelled, connecting again whenever Kafka goes away."""
    # What it says at each attempt is said here, once for each change.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    connected = CONNECTED.labels(topic)
    connected.set(0)
    pause = FIRST_PAUSE
    while True:
        reader = new_reader()
        try:
            await reader.start()
            log.info("reading %s", fields(topic=topic))
            connected.set(1)
            pause = FIRST_PAUSE
            await reader.read()
        except (KafkaError, OSError) as error:
            if pause == FIRST_PAUSE:
                log.warning("not read until Kafka answers %s", fields(topic=topic, error=error))
        except StoreError:
            log.warning("read again after the store has failed %s", fields(topic=topic))
        finally:
            connected.set(0)
            await reader.stop()
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
