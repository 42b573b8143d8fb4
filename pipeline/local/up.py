"""`watchkeeper up`: everything on this machine, shown live, until Ctrl-C."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console
from rich.live import Live

from pipeline.api.client import own_scheme
from pipeline.api.http import ListenError, serve
from pipeline.local.folder import keep_clock, locked
from pipeline.local.kafka import check_protocol
from pipeline.local.kafka_jars import cache_folder, java
from pipeline.local.poll import Poller
from pipeline.local.prepare import prepare
from pipeline.local.problems import EXIT_DONE, EXIT_FAILED, EXIT_MISSING, MissingError, StartError
from pipeline.local.prometheus import (
    AT_ANOTHER_SPEED,
    WITHOUT,
    find_prometheus,
    semantics_of,
    version_of,
)
from pipeline.local.receiver import Inbox, receiver_app
from pipeline.local.screen import line, render
from pipeline.local.snapshot import Snapshot
from pipeline.local.stack import Stack, settings_of_stack, taken_ports
from pipeline.local.supervisor import Supervisor
from pipeline.settings import Settings

_LOOK_INTERVAL = 1.0

Show = Callable[[Snapshot], None]


def run(
    settings: Settings, *, speed: float, history: float | None, nodes: int | None, plain: bool
) -> int:
    """Run a stack until SIGINT or SIGTERM; the exit code.

    `history` seconds of the past are written first; `nodes` is the size of the fleet, if not that
    of the settings. `plain`, or an output that is no terminal, shows lines instead of a view.
    """
    folder = Path(settings.data).resolve()
    try:
        with locked(folder) as killed:
            _keep_log(folder / "logs")
            check_protocol(settings)
            speed = speed if speed != 1.0 else settings.clock.speed
            clock = keep_clock(folder, speed, time.time())
            stack = settings_of_stack(settings, nodes, clock)
            program, missing = _prometheus(stack)
            if program:
                stack = _with_semantics(stack, version_of(program))
            check_ports(stack, program is not None, _LEFTOVERS_END_WITHIN if killed else 0.0)
            java()
            prepare(cache_folder(os.environ), folder / "logs")
            asyncio.run(_up(stack, history, program, missing, plain))
    except (MissingError, ListenError) as error:
        print(error, file=sys.stderr)
        return EXIT_MISSING
    except StartError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:  # before anything was started that has to be stopped in order
        print("\nStopped.", file=sys.stderr)
    except OSError as error:
        if error.errno not in _UNUSABLE:
            raise
        print(
            f"{error.filename or folder}: {error.strerror}; mend that, or choose another data "
            "folder (WATCHKEEPER_DATA)",
            file=sys.stderr,
        )
        return EXIT_MISSING
    return EXIT_DONE


_UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)
"""Of a data folder, or of the disk it is on."""
_LEFTOVERS_END_WITHIN = 45.0
"""Seconds; what a killed stack had started is told to end by the kernel, Kafka closes its logs."""


def check_ports(settings: Settings, prometheus: bool, patience: float) -> None:
    """Raise `MissingError` if, after `patience` seconds, an address that is needed is taken."""
    deadline = time.monotonic() + patience
    if patience and taken_ports(settings, prometheus):
        print("The last run was killed: waiting for what it had started to end ...", flush=True)
    while taken := taken_ports(settings, prometheus):
        if time.monotonic() >= deadline:
            raise MissingError("\n".join([*taken, _CHOOSE_PORTS]))
        time.sleep(_PORTS_LOOK)


_PORTS_LOOK = 0.2
_CHOOSE_PORTS = (
    "Stop what listens there (another stack, or a service: `ss -ltnp` names it), or set other "
    "ports in watchkeeper.toml; local.prometheus = false leaves Prometheus out."
)


def _prometheus(settings: Settings) -> tuple[str | None, list[str]]:
    """The program, or None and the reason."""
    if not settings.local.prometheus:
        return None, []
    if settings.clock.speed != 1.0:
        return None, [AT_ANOTHER_SPEED]
    program = find_prometheus()
    return program, [] if program else [WITHOUT]


def _with_semantics(settings: Settings, prometheus: str) -> Settings:
    """`settings` with which the worker evaluates as that version of Prometheus does."""
    replace = msgspec.structs.replace
    rules = replace(settings.rules, prometheus=semantics_of(prometheus))
    return replace(settings, rules=rules)


def hints_of(settings: Settings, prometheus: bool) -> list[tuple[str, str]]:
    """What to try next, the most useful first."""
    scheme = own_scheme(settings.web)
    hints = [
        ("break something", "watchkeeper simulate fault tps-drop --for 10m"),
        ("mend it", "watchkeeper simulate fault tps-drop --end"),
        ("alerts", f"curl {scheme}://{settings.dispatch.listen}/api/v2/alerts"),
        ("scores", f"curl {scheme}://{settings.export.listen}/metrics"),
        ("targets", f"curl {scheme}://{settings.collect.listen}/api/v1/targets"),
        ("own metrics", f"curl {scheme}://{settings.worker.listen}/metrics"),
    ]
    if prometheus:
        hints.insert(4, ("prometheus", f"{scheme}://{settings.local.prometheus_listen}/alerts"))
    return hints


async def _up(
    settings: Settings, history: float | None, program: str | None, missing: list[str], plain: bool
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    inbox = Inbox()
    receiver = await serve(receiver_app(inbox), settings.local.listen, settings.web.config_file)
    try:
        async with aiohttp.ClientSession() as session:
            stack = Stack(settings, session, prometheus=program, history=history)
            logs = Path(settings.data) / "logs"
            supervisor = Supervisor(stack.parts(), logs, stack.environment)
            hints = hints_of(settings, prometheus=program is not None)
            poller = Poller(settings, session, inbox, missing, hints)
            console = Console()
            if console.is_terminal and not console.is_dumb_terminal and not plain:
                with Live(console=console, screen=True, auto_refresh=False) as live:
                    await _watch(supervisor, poller, stop, _view(live))
            else:
                for text in missing:
                    print(text)
                await _watch(supervisor, poller, stop, _print_line)
            print(f"Stopped. The data and the logs are in {settings.data}.")
    finally:
        await receiver.close()


async def _watch(supervisor: Supervisor, poller: Poller, stop: asyncio.Event, show: Show) -> None:
    """Run the parts and show them, until `stop` or until one can't start."""
    running = asyncio.create_task(supervisor.run())
    stopping = asyncio.create_task(stop.wait())
    showing = asyncio.create_task(_show(supervisor, poller, show))
    try:
        await asyncio.wait([running, stopping, showing], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await supervisor.stop()
        stopping.cancel()
        showing.cancel()
        results = await asyncio.gather(running, showing, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _show(supervisor: Supervisor, poller: Poller, show: Show) -> None:
    while True:
        show(await poller.look(supervisor.states()))
        await asyncio.sleep(_LOOK_INTERVAL)


def _view(live: Live) -> Show:
    def show(snapshot: Snapshot) -> None:
        live.update(render(snapshot, live.console.height), refresh=True)

    return show


def _print_line(snapshot: Snapshot) -> None:
    print(line(snapshot), flush=True)


def _keep_log(folder: Path) -> None:
    """The supervisor's own log goes to a file: the terminal belongs to the view.

    The parts' logs of the last run are kept beside those of this one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        log.replace(log.with_suffix(".log.1"))
    logging.basicConfig(
        filename=folder / "up.log",
        level=logging.INFO,
        format="time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
        force=True,
    )
    logging.getLogger("kafka").setLevel(logging.WARNING)
