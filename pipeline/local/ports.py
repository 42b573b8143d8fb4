"""Ports for a stack that takes any: of a test, a benchmark, or a Kafka that runs for a moment."""

from __future__ import annotations

import socket
from contextlib import ExitStack

_RANGE = range(21_000, 29_000)
"""Below what the kernel gives to clients."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listened on a moment ago."""
    with ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


def free_ports_in_a_row(count: int) -> int:
    """The first of `count` such ports that follow each other.

    Raises
    ------
    RuntimeError
        There aren't so many.
    """
    for first in range(_RANGE.start, _RANGE.stop - count, count):
        with ExitStack() as probes:
            try:
                for port in range(first, first + count):
                    probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError(f"no {count} free ports in a row between {_RANGE.start} and {_RANGE.stop}")
