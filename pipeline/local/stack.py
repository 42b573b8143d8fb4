"""What `watchkeeper up` starts: the settings all parts share, their ports, and the parts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import msgspec

from pipeline.api.client import OwnListeners, own_scheme
from pipeline.api.http import port_is_free
from pipeline.local.fleet.control import control_address
from pipeline.local.fleet.targets import write_targets
from pipeline.local.kafka_probe import answers
from pipeline.local.own_targets import watch_own_processes
from pipeline.local.prometheus import prometheus_command, write_config
from pipeline.local.supervisor import Part, Ready
from pipeline.settings import ClockSettings, Settings, WebSettings, environment_of


def settings_of_stack(settings: Settings, nodes: int | None, clock: ClockSettings) -> Settings:
    """The settings of every part; writes the targets into the data folder.

    Targets that the user has configured are watched instead of the fleet; Watchkeeper's own
    processes always are.
    """
    replace = msgspec.structs.replace
    folder = Path(settings.data).resolve()
    simulate = replace(settings.simulate, nodes=nodes or settings.simulate.nodes)
    scrape, feeds = write_targets(simulate, folder / "targets")
    collect = replace(
        settings.collect,
        scrape_config=settings.collect.scrape_config or str(scrape),
        feeds_config=settings.collect.feeds_config or str(feeds),
    )
    dispatch = replace(
        settings.dispatch,
        local_receiver=f"{own_scheme(settings.web)}://{settings.local.listen}/notify",
    )
    stack = replace(
        settings,
        data=str(folder),
        clock=clock,
        simulate=simulate,
        collect=collect,
        dispatch=dispatch,
    )
    return watch_own_processes(stack)


def taken_ports(settings: Settings, prometheus: bool) -> list[str]:
    """A line for each address that the stack needs and something listens on."""
    simulate = settings.simulate
    host = settings.brokers[0].rpartition(":")[0]
    wanted = {
        "brokers": settings.brokers[0],
        "kafka.controller_port": f"{host}:{settings.kafka.controller_port}",
        "collect.listen": settings.collect.listen,
        "worker.listen": settings.worker.listen,
        "dispatch.listen": settings.dispatch.listen,
        "export.listen": settings.export.listen,
        "local.listen": settings.local.listen,
        "simulate.base_port, less one": control_address(simulate),
        **{
            f"simulate.base_port, node {i}": f"127.0.0.1:{simulate.base_port + i}"
            for i in range(simulate.nodes)
        },
    }
    if prometheus:
        wanted["local.prometheus_listen"] = settings.local.prometheus_listen
    return [
        f"{address} (setting {name}): the port is taken"
        for name, address in wanted.items()
        if not port_is_free(address)
    ]


class Stack:
    """The parts of one stack, and what they learn from each other."""

    def __init__(
        self,
        settings: Settings,
        session: aiohttp.ClientSession,
        *,
        prometheus: str | None,
        history: float | None,
    ) -> None:
        """`prometheus` is the program, `history` the seconds of the past that come first."""
        self._settings = settings
        self._prometheus = prometheus
        self._history = history
        self._own = OwnListeners(session, settings.web)
        self._open = OwnListeners(session, WebSettings())

    def environment(self) -> Mapping[str, str]:
        """What a part that starts now is told."""
        return environment_of(self._settings)

    def parts(self) -> list[Part]:
        settings = self._settings
        past = ("--history", f"{int(self._history)}s") if self._history else ()
        kafka = ("kafka",)
        parts = [
            Part("kafka", _command("kafka"), self._kafka_is_ready),
            # The past goes into Kafka, the present is served over sockets.
            Part(
                "simulate",
                _command("simulate", *past),
                self._healthy(control_address(settings.simulate), self._open),
                kafka if past else (),
            ),
            self._process("worker", settings.worker.listen),
            # Its first scrape finds the fleet there.
            self._process("collect", settings.collect.listen, after=("simulate",)),
            self._process("dispatch", settings.dispatch.listen),
            self._process("export", settings.export.listen),
        ]
        if self._prometheus:
            config = write_config(settings, Path.cwd())
            command = prometheus_command(settings, self._prometheus, config)
            ready = self._healthy(settings.local.prometheus_listen)
            parts.append(Part("prometheus", tuple(command), ready))
        return parts

    def _process(self, name: str, listen: str, after: tuple[str, ...] = ()) -> Part:
        """A process of ours that waits for Kafka by itself."""
        return Part(name, _command(name), self._healthy(listen), after, uses=("kafka",))

    def _healthy(self, address: str, listeners: OwnListeners | None = None) -> Ready:
        asked = listeners or self._own

        async def ready() -> bool:
            return await asked.get(address, "/-/healthy") is not None

        return ready

    async def _kafka_is_ready(self) -> bool:
        return await asyncio.to_thread(answers, self._settings.brokers[0])


def _command(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pipeline", *arguments)
