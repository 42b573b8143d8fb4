"""Watchkeeper's own logs and metrics.

Metrics are defined beside the code that counts, with `prometheus_client`, are called
`watchkeeper_<noun>_<unit>_total` and have label values from small fixed sets. Logs are one line of
key=value for each change of state and each loss.
"""

from __future__ import annotations

import logging
import os
import sys
import time


class _KeyValueFormatter(logging.Formatter):
    """`time=… level=… process=… logger=… msg="…"`, one line whatever the message holds."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        text = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return (
            f"time={when}.{int(record.msecs):03d}Z level={record.levelname.lower()} "
            f'process={self._process} logger={record.name} msg="{text}"'
        )


def configure_logging(process: str, level: str = "INFO") -> None:
    """Log to standard error as key=value lines, under the name of this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_KeyValueFormatter(f"{process}[{os.getpid()}]"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("aiokafka", "kafka", "faust", "mode", "aiohttp.access"):
        logging.getLogger(noisy).setLevel("WARNING")


def fields(**values: object) -> str:
    """Key=value text for a log message.

    >>> fields(topic="telemetry", partition=3)
    'topic=telemetry partition=3'
    """
    return " ".join(f"{key}={value}" for key, value in values.items())
