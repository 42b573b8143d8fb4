"""The series about a WebSocket feed itself; they go on while the feed is down."""

from __future__ import annotations

import numpy as np

from pipeline.ingest.readings import Family, Readings
from pipeline.model import Series, labels_from

STATE = "#state"
"""Ends the feed of these series, which make a target of their own."""

FAMILIES = {
    "websocket_up": Family("gauge", "1 while the feed is connected."),
    "websocket_connects_total": Family("counter", "Connections made."),
    "websocket_messages_total": Family("counter", "Messages received."),
    "websocket_errors_total": Family(
        "counter", "Failed connects, unexpected closes and messages that can't be read."
    ),
}


class FeedState:
    """What has happened to a feed so far."""

    def __init__(self, feed: str) -> None:
        self.up = False
        self.connects = 0
        self.messages = 0
        self.errors = 0
        self._series = tuple(
            Series(labels_from({"__name__": name, "feed": feed}), family.kind)
            for name, family in FAMILIES.items()
        )

    def readings(self) -> Readings:
        values = (float(self.up), self.connects, self.messages, self.errors)
        return Readings(self._series, np.array(values, dtype=np.float64))
