"""Kafka's classes as Java had them after a start, read back: half the work of a start saved.

Java's ahead-of-time cache (JEP 483, 514 and 515) is written once, by a broker in a folder of its
own that starts, gets its topics and stops. It is good for one Java runtime and these jars; Java
passes over one that doesn't fit.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from pipeline.local.children import end_of_log
from pipeline.local.kafka import LocalKafka, show_progress
from pipeline.local.kafka_jars import archive_path, cache_folder, kafka_jars, locked_cache
from pipeline.local.ports import free_ports
from pipeline.local.problems import (
    EXIT_DONE,
    EXIT_FAILED,
    MissingError,
    StartError,
    TopicError,
)
from pipeline.local.topics import ensure_topics
from pipeline.settings import Settings

_SCRATCH = "archive-"


def make_archive(cache: Path) -> None:
    """Fetch Kafka if need be, and write the archive into `cache`, all or nothing.

    Raises
    ------
    MissingError, StartError, TopicError
        As the start of a broker does.
    """
    kafka_jars(cache, show_progress)
    archive = archive_path(cache)
    with locked_cache(cache):
        for leftover in cache.glob(f"{_SCRATCH}*"):  # of one that was killed
            shutil.rmtree(leftover)
        if archive.exists():
            return
        with tempfile.TemporaryDirectory(dir=cache, prefix=_SCRATCH) as scratch:
            written = Path(scratch) / "kafka.aot"
            _start_once(Path(scratch) / "kafka", written)
            written.rename(archive)


def _start_once(folder: Path, archive: Path) -> None:
    port, controller_port = free_ports(2)
    address = f"127.0.0.1:{port}"
    broker = LocalKafka(
        folder, address, controller_port=controller_port, heap_mb=384, archive_to=archive
    )
    broker.start(lambda _line: None)
    try:
        ensure_topics(Settings(brokers=(address,)))
    finally:
        broker.stop()
    if not archive.exists():
        raise StartError(f"Java has written no archive:\n{end_of_log(broker.log)}")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_FAILED))
    try:
        make_archive(cache_folder(os.environ))
    except (MissingError, StartError, TopicError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
