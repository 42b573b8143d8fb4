"""A stack for a benchmark: Kafka and Watchkeeper's processes in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pipeline.local.children import end_of_log, start_child, stop_child
from pipeline.local.kafka import LocalKafka
from pipeline.local.ports import free_ports
from pipeline.local.topics import ensure_topics
from pipeline.settings import KafkaSettings, Settings

_READY_S = 120.0


class Process:
    """One of Watchkeeper's commands, started for a benchmark."""

    def __init__(
        self, command: list[str], address: str, log: Path, environment: dict[str, str]
    ) -> None:
        self.address = address
        self._command, self._log, self._environment = command, log, environment
        self.child = start_child(command, log, environment)

    def kill_and_restart(self) -> None:
        """SIGKILL it and start the same again: same address, same data folder."""
        self.child.kill()
        self.child.wait()
        self.child = start_child(self._command, self._log, self._environment)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                urllib.request.urlopen(f"http://{self.address}/-/healthy", timeout=1).close()
                return
            except (urllib.error.URLError, OSError):
                self.check_alive()
                if time.monotonic() > deadline:
                    raise SystemExit(f"not ready in time:\n{end_of_log(self._log)}") from None
                time.sleep(0.1)

    def check_alive(self) -> None:
        """Exit with the end of its log if it has ended."""
        if self.child.poll() is not None:
            raise SystemExit(f"a process ended:\n{end_of_log(self._log)}")

    def metric(self, name: str) -> float:
        """The sum of a metric's samples (`name` with or without labels in front of the value)."""
        text = urllib.request.urlopen(f"http://{self.address}/metrics", timeout=5).read().decode()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith((name + " ", name + "{"))
        )

    def cpu_seconds(self) -> float:
        """CPU time that the process has used, user and system (proc(5), fields 14 and 15)."""
        stat = Path(f"/proc/{self.child.pid}/stat").read_text(encoding="utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


class Stack:
    """What a benchmark has started; its brokers stand in `settings`."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.settings = settings
        self._processes: list[Process] = []

    def start(self, command: str, **environment: str) -> Process:
        """Start `watchkeeper <command>`; its port is free and its own."""
        (port,) = free_ports(1)
        address = f"127.0.0.1:{port}"
        name = f"{command}-{len(self._processes)}"
        settings = {
            "WATCHKEEPER_DATA": str(self.folder / name),
            "WATCHKEEPER_BROKERS": self.settings.brokers[0],
            "WATCHKEEPER_KAFKA_PARTITIONS": str(self.settings.kafka.partitions),
            f"WATCHKEEPER_{command.upper()}_LISTEN": address,
        }
        log = self.folder / f"{name}.log"
        outside = {k: v for k, v in os.environ.items() if not k.startswith("WATCHKEEPER_")}
        program = [sys.executable, "-m", "pipeline", command]
        process = Process(program, address, log, {**outside, **settings, **environment})
        self._processes.append(process)
        return process

    def stop(self) -> None:
        for process in reversed(self._processes):
            stop_child(process.child, 15)


@contextlib.contextmanager
def running_stack(partitions: int = 4) -> Iterator[Stack]:
    """Kafka with its topics in a temporary folder; all is stopped and removed at the end."""
    port, controller = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="watchkeeper-bench-") as name:
        folder = Path(name)
        kafka = LocalKafka(
            folder / "kafka", f"127.0.0.1:{port}", controller_port=controller, heap_mb=768
        )
        kafka.start(lambda line: print(f"# {line}", file=sys.stderr))
        stack = None
        try:
            settings = msgspec.structs.replace(
                Settings(),
                data=str(folder),
                brokers=(kafka.address,),
                kafka=KafkaSettings(partitions=partitions),
            )
            ensure_topics(settings)
            stack = Stack(folder, settings)
            yield stack
        finally:
            if stack is not None:
                stack.stop()
            kafka.stop()


def shared_folder() -> Path:
    """The shared material, or exit with what to do."""
    named = os.environ.get("WATCHKEEPER_SHARED")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        raise SystemExit(f"{folder} is not there; WATCHKEEPER_SHARED can name another folder")
    return folder


HOST_RULES = "data/rules/host-and-hardware/node-exporter.yml"
