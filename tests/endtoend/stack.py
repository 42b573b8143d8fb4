"""`watchkeeper up` as a process, seen from outside: HTTP, logs, and the notifications it sends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPException
from math import inf
from pathlib import Path
from typing import TypeVar
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import msgspec
import psutil

from pipeline.local.children import end_of_log
from pipeline.local.kernels import compile_group
from pipeline.local.ports import free_ports, free_ports_in_a_row
from pipeline.local.snapshot import read_samples, total
from tests.endtoend.webhook import Labels, Post, Status, WebhookReceiver

REPOSITORY = Path(__file__).parents[2]
_LOOK_INTERVAL = 0.2
_START_WITHIN, _STOP_WITHIN = 200.0, 60.0
_LOCAL_PARTS = ("COLLECT", "WORKER", "DISPATCH", "EXPORT", "LOCAL")

Found = TypeVar("Found")

RECEIVERS = """\
route:
  receiver: engineer
  group_by: ['...']
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1000h
receivers:
  - name: engineer
    webhook_configs:
      - url: {url}
"""
"""Each alert is a group of its own: a notification tells one alert."""


class WorkerAlert(msgspec.Struct, frozen=True, rename="camel"):
    """An alert of `/api/v1/alerts`, of the worker as of Prometheus."""

    labels: Labels
    annotations: Labels
    state: str
    active_at: str


class _Alerts(msgspec.Struct):
    alerts: list[WorkerAlert]


class _AlertsAnswer(msgspec.Struct):
    data: _Alerts


class DispatcherAlert(msgspec.Struct, frozen=True, rename="camel"):
    """An alert of the dispatcher's `/api/v2/alerts`."""

    labels: Labels
    starts_at: str


class Fault(msgspec.Struct, frozen=True):
    """What the fleet says of a fault it has begun; event time in Unix seconds."""

    started_at: float


class Stack:
    """A running stack with `nodes` nodes; made by `running_stack`."""

    def __init__(
        self, folder: Path, speed: float, nodes: int, receiver: WebhookReceiver, more: Labels
    ) -> None:
        self.receiver = receiver
        self._logs = folder / "data" / "logs"
        config = folder / "alertmanager.yml"
        config.write_text(RECEIVERS.format(url=receiver.url))
        first = free_ports_in_a_row(nodes + 1)
        kafka, controller, prometheus, *own = free_ports(3 + len(_LOCAL_PARTS))
        listen = {
            f"WATCHKEEPER_{part}_LISTEN": f"127.0.0.1:{port}"
            for part, port in zip(_LOCAL_PARTS, own, strict=True)
        }
        self._control = f"127.0.0.1:{first}"
        self.prometheus = f"127.0.0.1:{prometheus}"
        self.collector = listen["WATCHKEEPER_COLLECT_LISTEN"]
        self.worker = listen["WATCHKEEPER_WORKER_LISTEN"]
        self.dispatcher = listen["WATCHKEEPER_DISPATCH_LISTEN"]
        self.environment = {
            **{name: value for name, value in os.environ.items() if "WATCHKEEPER" not in name},
            **listen,
            "WATCHKEEPER_DATA": str(folder / "data"),
            "WATCHKEEPER_BROKERS": f"127.0.0.1:{kafka}",
            "WATCHKEEPER_KAFKA_CONTROLLER_PORT": str(controller),
            "WATCHKEEPER_SIMULATE_BASE_PORT": str(first + 1),
            "WATCHKEEPER_LOCAL_PROMETHEUS_LISTEN": self.prometheus,
            "WATCHKEEPER_DISPATCH_CONFIG_FILE": str(config),
            "WATCHKEEPER_COLLECT_HOST": "false",  # this machine's own alerts are not looked at
            **more,
        }
        self._output = (folder / "up.out").open("wb")
        self._up = subprocess.Popen(
            [*_PROGRAM, "up", "--plain", "--nodes", str(nodes), "--speed", str(speed)],
            cwd=REPOSITORY,
            env=self.environment,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        if self._up.poll() is None:
            self._up.send_signal(signal.SIGINT)
        code = self._up.wait(_STOP_WITHIN)
        self._output.close()
        assert code == 0, self.logs()

    def until(self, look: Callable[[], Found], what: str, within: float) -> Found:
        """What `look` gives as soon as it is true; `within` seconds of wall time.

        A process that doesn't answer `look` is waited for, too.
        """
        deadline = time.monotonic() + within
        while not (found := _answered(look)):
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {within:g} s\n{self.logs()}")
            if self._up.poll() is not None:
                raise AssertionError(f"{what}: the stack has ended\n{self.logs()}")
            time.sleep(_LOOK_INTERVAL)
        return found

    def logs(self) -> str:
        """The end of every log."""
        files = [Path(self._output.name), *sorted(self._logs.glob("*.log"))]
        return "\n".join(f"--- {file.name}\n{end_of_log(file)}" for file in files)

    def wait_for_targets(self) -> None:
        """Wait until every process answers, every target is up, and the worker keeps up."""
        self.until(self._watching, "all targets are watched", _START_WITHIN)

    def _watching(self) -> bool:
        line = end_of_log(Path(self._output.name), 1)
        figures = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
        started, _, parts = figures.get("parts", "0/1").partition("/")
        up, _, targets = figures.get("targets", "0/0").partition("/")
        lag = figures.get("lag", "")
        return started == parts and up == targets != "0" and lag.isdigit() and int(lag) < 1000

    def begin_fault(self, name: str, node: str | None = None) -> Fault:
        """What `watchkeeper simulate fault` does; without a node it strikes where it likes."""
        order = {"name": name} if node is None else {"name": name, "node": node}
        url = f"http://{self._control}/faults"
        return msgspec.json.decode(_ask(Request(url, msgspec.json.encode(order))), type=Fault)

    def end_fault(self, name: str) -> None:
        _ask(Request(f"http://{self._control}/faults?{urlencode({'name': name})}", method="DELETE"))

    @contextmanager
    def fault(self, name: str, node: str | None = None) -> Iterator[Fault]:
        """The fault while the block runs."""
        fault = self.begin_fault(name, node)
        try:
            yield fault
        finally:
            self.end_fault(name)

    def until_told(self, status: Status, wanted: Labels, within: float) -> Post:
        """The first notification of that status about an alert with the `wanted` labels."""
        found = self.until(
            lambda: self.receiver.told(status, wanted),
            f"a notification that {wanted} is {status}; so far {self.receiver.posts}",
            within,
        )
        return found[0]

    def worker_alerts(self, wanted: Labels, *addresses: str) -> list[WorkerAlert]:
        """The alerts with the `wanted` labels at `addresses` (default: at the worker)."""
        return [
            alert
            for address in addresses or (self.worker,)
            for alert in _decoded(f"http://{address}/api/v1/alerts", _AlertsAnswer).data.alerts
            if wanted.items() <= alert.labels.items()
        ]

    def dispatcher_alerts(self, wanted: Labels) -> list[DispatcherAlert]:
        url = f"http://{self.dispatcher}/api/v2/alerts"
        alerts = _decoded(url, list[DispatcherAlert])
        return [alert for alert in alerts if wanted.items() <= alert.labels.items()]

    def kill_worker(self) -> None:
        """`kill -9`; the stack starts another one."""
        (worker,) = (
            child
            for child in psutil.Process(self._up.pid).children()
            if child.cmdline()[-1] == "worker"
        )
        worker.kill()

    @contextmanager
    def second_worker(self, folder: Path) -> Iterator[str]:
        """Another worker beside the stack's while the block runs; its address."""
        address = f"127.0.0.1:{free_ports(1)[0]}"
        clock = msgspec.json.decode((self._logs.parent / "clock.json").read_bytes())
        environment = {
            **self.environment,
            "WATCHKEEPER_WORKER_LISTEN": address,
            "WATCHKEEPER_CLOCK_SPEED": str(clock["speed"]),
            "WATCHKEEPER_CLOCK_ORIGIN": str(clock["origin"]),
        }
        with (folder / "second-worker.log").open("wb") as log:
            worker = subprocess.Popen(
                [*_PROGRAM, "worker"], cwd=REPOSITORY, env=environment, stdout=log, stderr=log
            )
        try:
            yield address
        finally:
            worker.terminate()
            worker.wait(_STOP_WITHIN)


_PROGRAM = (sys.executable, "-m", "pipeline")


@contextmanager
def running_stack(
    folder: Path, *, speed: float, nodes: int, more: Mapping[str, str]
) -> Iterator[Stack]:
    """A stack that watches its targets; `more` are settings by their variables."""
    compile_group("worker")  # cold, that is half an hour of records behind at speed 60
    with closing(WebhookReceiver()) as receiver:
        stack = Stack(folder, speed, nodes, receiver, dict(more))
        try:
            stack.wait_for_targets()
            yield stack
        finally:
            stack.stop()


def metric(address: str, name: str, **labels: str) -> float:
    """The sum of a metric of `/metrics`; 0 while there is none."""
    return _total(f"http://{address}/metrics", name, labels)


def lowest(address: str, name: str) -> float:
    """The lowest of a metric's values; infinity while there is none."""
    samples = read_samples(_ask(Request(f"http://{address}/metrics")).decode())
    return min((value for (own, _), value in samples.items() if own == name), default=inf)


def fleet_metric(address: str, name: str, **labels: str) -> float:
    """The same of what the collector passes on from feeds."""
    return _total(f"http://{address}/metrics/fleet", name, labels)


def _total(url: str, name: str, labels: Labels) -> float:
    return total(read_samples(_ask(Request(url)).decode()), name, **labels) or 0.0


def _answered(look: Callable[[], Found]) -> Found | None:
    try:
        return look()
    except (URLError, HTTPException, ConnectionError, TimeoutError):
        return None


def _decoded(url: str, answer: type[Found]) -> Found:
    return msgspec.json.decode(_ask(Request(url)), type=answer)


def _ask(request: Request) -> bytes:
    with urlopen(request, timeout=10.0) as response:
        body: bytes = response.read()
        return body
