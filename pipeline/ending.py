"""How a process is told to end, and that it does."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading

from pipeline.selfmetrics import fields

log = logging.getLogger(__name__)

PATIENCE_S = 20.0
EXIT_FAILED = 1


def stop_on_signal(patience_s: float = PATIENCE_S) -> asyncio.Event:
    """An event that SIGINT and SIGTERM set; from then on the process has `patience_s` to end."""
    stop = asyncio.Event()

    def stopped() -> None:
        stop.set()
        end_within(patience_s)

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped)
    return stop


def end_within(patience_s: float = PATIENCE_S) -> None:
    """End the process with exit code 1 if it is still there after `patience_s`.

    Clients of a broker that is away can wait for it without end while they are closed. What has
    been promised is on disk or in Kafka by then; a supervisor must not wait.
    """

    def end() -> None:
        log.error(fields(event="stop_takes_too_long", seconds=patience_s))
        logging.shutdown()
        os._exit(EXIT_FAILED)

    timer = threading.Timer(patience_s, end)
    timer.daemon = True
    timer.start()
