"""What is known about each thing that is watched, for people and for `/api/v1/targets`."""

from __future__ import annotations

import msgspec

from pipeline.collect.targets import Watched


class Status(msgspec.Struct):
    """The outcome of the last attempt."""

    watched: Watched
    health: str = "unknown"
    """`up`, `down` or `unknown`, as Prometheus says it."""
    last_error: str = ""
    last_ms: int = 0
    last_duration_s: float = 0.0

    def succeeded(self, time_ms: int, duration_s: float = 0.0) -> None:
        self.health, self.last_error = "up", ""
        self.last_ms, self.last_duration_s = time_ms, duration_s

    def failed(self, error: str, time_ms: int, duration_s: float = 0.0) -> None:
        self.health, self.last_error = "down", error
        self.last_ms, self.last_duration_s = time_ms, duration_s
