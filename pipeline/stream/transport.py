"""Faust's consumer with a short fetch.

Faust lets the broker hold a fetch for 1.5 s while there is nothing new. But aiokafka has one fetch
under way for each broker, and it asks only for partitions of which nothing waits to be read: under
load that fetch may have no partition of `telemetry` in it, and then all of them wait for it to
return. That was seen as 1.2 s of silence, again and again.
"""

from __future__ import annotations

from typing import cast

import aiokafka
import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types.transports import TransportT

FETCH_WAIT_MS = 5


class _Thread(AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust has no setting for it
        return consumer


class _Consumer(Consumer):
    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class _Transport(Transport):
    Consumer = _Consumer


class PromptApp(faust.App):
    """A Faust application whose fetches come back soon."""

    def _new_transport(self) -> TransportT:
        return cast("TransportT", _Transport(self.conf.broker_consumer, self, loop=self.loop))
