"""The local broker: Apache Kafka in KRaft mode, broker and controller in one Java process.

For one machine: everything is kept once, and nobody but this machine can connect. The topics and
the protocol are those of a cluster.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from pipeline.api.http import port_is_free, split_address
from pipeline.local.children import end_of_log, start_child, stop_child
from pipeline.local.kafka_jars import (
    KAFKA_VERSION,
    Progress,
    archive_path,
    cache_folder,
    java,
    kafka_jars,
)
from pipeline.local.kafka_probe import answers
from pipeline.local.problems import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_MISSING,
    EXIT_SETTINGS,
    MissingError,
    StartError,
    TopicError,
)
from pipeline.selfmetrics import configure_logging
from pipeline.settings import Settings

CLUSTER_ID = "watchkeeper-local-000A"
"""Kafka wants 16 bytes in URL-safe base64; these can also be read."""

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 20.0
_ARCHIVE_TIMEOUT = 180.0
_MIB = 1024 * 1024

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={log_dir}

# One broker: everything once, and nobody to wait for.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0

# Topics are created with their settings, not by a typing error.
auto.create.topics.enable=false

# A batch of frames is one record.
message.max.bytes={message_bytes}
replica.fetch.max.bytes={message_bytes}

# Topics have a retention in time of their own; this keeps a partition from filling the disk.
log.retention.bytes={retention_bytes}
log.segment.bytes={segment_bytes}
log.retention.check.interval.ms=60000

# A small machine.
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size={cleaner_bytes}
"""


class LocalKafka:
    """A Kafka of our own: `start` it, use `address`, `stop` it."""

    def __init__(
        self,
        folder: Path,
        address: str,
        *,
        controller_port: int,
        heap_mb: int,
        quick: bool = False,
        archive_to: Path | None = None,
    ) -> None:
        """Describe a broker that keeps everything in `folder`; nothing is started yet.

        `quick` compiles with the JVM's first compiler only: half the work at start, slower at
        millions of samples. For tests. With `archive_to` the Java archive that later starts read
        is written there when it stops (see `java_archive.py`).
        """
        self.address = address
        self.log = folder / "broker.log"
        self._folder = folder
        self._controller_port = controller_port
        self._java_flags = [f"-Xmx{heap_mb}m", *(["-XX:TieredStopAtLevel=1"] if quick else [])]
        self._archive_to = archive_to
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, progress: Progress) -> None:
        """Format the folder when it is new, start, and return when the broker answers.

        Raises
        ------
        MissingError
            A port is taken, the folder is another cluster's, or Java or Kafka can't be had.
        StartError
            Kafka ended, or didn't answer within a minute.
        """
        self._check_ports()
        check_folder(self._folder / "log")
        cache = cache_folder(os.environ)
        jars = kafka_jars(cache, progress)
        self._folder.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        program = [
            str(java()),
            *self._java_flags,
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            *self._archive_flags(archive_path(cache)),
            "-cp",
            f"{jars}/*",
        ]
        if not (self._folder / "log").exists():
            progress(f"formatting {self._folder}")
            self._format(program)
        progress(f"starting Apache Kafka {KAFKA_VERSION}")
        properties = self._write_properties("server.properties", self._folder / "log")
        recording = [f"-XX:AOTCacheOutput={self._archive_to}"] if self._archive_to else []
        self._child = start_child([*program, *recording, "kafka.Kafka", properties], self.log)
        try:
            self._wait_until_it_answers()
        except BaseException:  # also Ctrl-C: don't leave a broker behind
            self.stop()
            raise

    def stop(self) -> None:
        """End the broker that `start` started; it closes its logs cleanly."""
        if self._child is not None:
            stop_child(self._child, _ARCHIVE_TIMEOUT if self._archive_to else _STOP_TIMEOUT)
            self._child = None

    def _archive_flags(self, archive: Path) -> list[str]:
        """Options of Java: read the archive if there is one, say nothing if it doesn't fit."""
        reading = archive.exists() and self._archive_to is None
        return [f"-XX:AOTCache={archive}", "-Xlog:aot*=off"] if reading else []

    def _check_ports(self) -> None:
        host, port = split_address(self.address)
        taken = [
            f"{host}:{number} (setting {name}): the port is taken"
            for name, number in (
                ("brokers", port),
                ("kafka.controller_port", self._controller_port),
            )
            if not port_is_free(f"{host}:{number}")
        ]
        if taken:
            raise MissingError(
                "\n".join(taken) + "\nstop what listens there (another `watchkeeper kafka`?), "
                "or choose other ports in watchkeeper.toml"
            )

    def _write_properties(self, name: str, log_dir: Path) -> Path:
        host, port = split_address(self.address)
        path = self._folder / name
        path.write_text(
            _PROPERTIES.format(
                host=host,
                port=port,
                controller_port=self._controller_port,
                log_dir=log_dir.resolve(),
                message_bytes=16 * _MIB,
                retention_bytes=2048 * _MIB,
                segment_bytes=256 * _MIB,
                cleaner_bytes=16 * _MIB,
            )
        )
        return path

    def _format(self, program: list[str]) -> None:
        """Format beside the final place and rename, so that a half-formatted folder can't be."""
        unfinished = self._folder / "log.unfinished"
        for leftover in sorted(unfinished.glob("*")):
            leftover.unlink()
        properties = self._write_properties("format.properties", unfinished)
        tool = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
        code = start_child([*program, *tool], self.log).wait()
        if code != 0:
            raise StartError(
                f"{unfinished}: formatting ended with exit code {code}:\n{end_of_log(self.log)}"
            )
        properties.unlink()
        unfinished.rename(self._folder / "log")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while not answers(self.address):
            if not self.running:
                raise StartError(f"Kafka ended while starting:\n{end_of_log(self.log)}")
            if time.monotonic() > deadline:
                raise StartError(
                    f"Kafka didn't answer at {self.address} within {_START_TIMEOUT:.0f} s:\n"
                    + end_of_log(self.log)
                )
            time.sleep(0.05)


def check_folder(log_dir: Path) -> None:
    """Raise `MissingError` unless `log_dir` is not there yet, or was formatted by us."""
    if not log_dir.exists():
        return
    try:
        text = (log_dir / "meta.properties").read_text()
    except FileNotFoundError:
        raise MissingError(
            f"{log_dir}: expected a formatted Kafka folder, but meta.properties is missing; "
            "move the folder away, or choose another `data` folder"
        ) from None
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    found = {key.strip(): value.strip() for key, _, value in pairs}
    if (found.get("cluster.id"), found.get("node.id")) != (CLUSTER_ID, "1"):
        raise MissingError(
            f"{log_dir}: expected node 1 of cluster {CLUSTER_ID}, found node "
            f"{found.get('node.id')} of cluster {found.get('cluster.id')}; "
            "choose another `data` folder"
        )


def check_protocol(settings: Settings) -> None:
    """Raise `MissingError` if the settings want another protocol than the local broker's."""
    protocol = settings.kafka.security_protocol
    if protocol != "PLAINTEXT":
        raise MissingError(
            f"kafka.security_protocol: expected PLAINTEXT, got {protocol}: the broker that this "
            "starts is for this machine only; leave `kafka` and `up` out to use your own cluster"
        )


def local_kafka(settings: Settings) -> LocalKafka:
    """The broker that the settings describe, in `kafka` under the data folder."""
    return LocalKafka(
        Path(settings.data) / "kafka",
        settings.brokers[0],
        controller_port=settings.kafka.controller_port,
        heap_mb=settings.kafka.heap_mb,
    )


def run(settings: Settings) -> int:
    """`watchkeeper kafka`: the local broker with our topics, until a signal; the exit code."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    configure_logging("kafka")
    broker = local_kafka(settings)
    try:
        check_protocol(settings)
        broker.start(show_progress)
        # Clients of Kafka take a moment to load, which Java need not wait for.
        from pipeline.local.topics import ensure_topics

        ensure_topics(settings)
        show_progress("")
        print(
            f"Apache Kafka {KAFKA_VERSION} answers at {broker.address}; "
            f"its data and log are in {settings.data}/kafka. Ctrl-C stops it.",
            flush=True,
        )
        while broker.running and not stopped.wait(0.2):
            pass
        if not stopped.is_set():
            raise StartError(f"Kafka ended by itself:\n{end_of_log(broker.log)}")
    except MissingError as error:
        print(error, file=sys.stderr)
        return EXIT_MISSING
    except TopicError as error:
        print(error, file=sys.stderr)
        return EXIT_SETTINGS
    except StartError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    finally:
        broker.stop()
    return EXIT_DONE


def show_progress(line: str) -> None:
    """Show `line` in place of the last one at a terminal, else as a line of its own."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
    elif line:
        print(line, file=sys.stderr, flush=True)
