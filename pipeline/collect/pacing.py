"""When a target is due: on a grid of its own, so that targets don't all fire at once."""

from __future__ import annotations

from pipeline.model import Target

MIN_WALL_MS = 50
"""However fast a simulation runs, a target is asked no more often than this."""


def interval_ms(configured_ms: int, speed: float) -> int:
    """The interval in event time."""
    return max(configured_ms, round(MIN_WALL_MS * (speed if speed > 1 else 0)))


def next_due_ms(target: Target, interval_ms: int, now_ms: int) -> int:
    """The first time after `now_ms` at which `target` is due; its phase comes from its id.

    >>> next_due_ms(Target("node", "a:9100", "/metrics"), 1000, 5000) > 5000
    True
    """
    phase = target.id % interval_ms
    return (now_ms - phase) // interval_ms * interval_ms + interval_ms + phase
