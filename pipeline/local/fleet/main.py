"""`watchkeeper simulate`: runs the fleet, and breaks it on purpose."""

from __future__ import annotations

import asyncio
import logging
import sys
import time

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pipeline.api.http import ListenError, serve
from pipeline.brokers import connection_of
from pipeline.clock import Clock
from pipeline.collect.producer import KafkaProducer, SendError
from pipeline.ending import stop_on_signal
from pipeline.local.fleet import fault as client
from pipeline.local.fleet.control import control_address, control_app
from pipeline.local.fleet.fleet import Fleet
from pipeline.local.fleet.model import FleetModel
from pipeline.local.fleet.server import FleetServer
from pipeline.local.fleet.tokens import Tokens
from pipeline.local.problems import EXIT_DONE, EXIT_FAILED, EXIT_MISSING
from pipeline.selfmetrics import configure_logging, fields
from pipeline.settings import ClockSettings, Settings

_log = logging.getLogger(__name__)


def run(settings: Settings, speed: float | None = None, history_s: float | None = None) -> int:
    """Run the fleet until SIGINT or SIGTERM; the exit code.

    `speed` starts a clock of its own, now; without it the fleet runs on that of the settings, which
    it shares with the other processes. `history_s` seconds of the past are written first.
    """
    configure_logging("simulate")
    if speed is not None:
        clock_settings = ClockSettings(speed=speed, origin=time.time())
        settings = msgspec.structs.replace(settings, clock=clock_settings)
        _log.info(
            "own clock %s",
            fields(
                WATCHKEEPER_CLOCK_SPEED=f"{speed:g}",
                WATCHKEEPER_CLOCK_ORIGIN=f"{clock_settings.origin:.3f}",
            ),
        )
    try:
        asyncio.run(_run(settings, history_s or 0.0))
    except (ListenError, SendError) as error:
        print(error, file=sys.stderr)
        return EXIT_MISSING
    return EXIT_DONE


def fault(
    settings: Settings,
    name: str,
    *,
    node: str | None,
    for_s: float | None,
    end: bool,
    as_json: bool = False,
) -> int:
    """Start or end a fault of the running fleet, and say what came of it; the exit code."""
    try:
        if end:
            faults = asyncio.run(client.end_faults(settings.simulate, name, node))
            lines = [f"ended: {each.name} on {each.node or 'all nodes'}" for each in faults]
        else:
            faults = [asyncio.run(client.start_fault(settings.simulate, name, node, for_s))]
            lines = [f"started: {client.describe(each)}" for each in faults]
        for line in [msgspec.json.encode(faults).decode()] if as_json else lines:
            print(line)
        if not faults:
            print(f"{name}: no such fault is active", file=sys.stderr)
            return EXIT_FAILED
    except client.RefusedError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except client.NoSimulationError as error:
        print(error, file=sys.stderr)
        return EXIT_MISSING
    return EXIT_DONE


async def _run(settings: Settings, history_s: float) -> None:
    simulate = settings.simulate
    model, clock = FleetModel(simulate.nodes, simulate.seed), Clock(settings.clock)
    stopped = stop_on_signal()
    if history_s:
        await _past(settings, model, clock, history_s, stopped)
    if not stopped.is_set():
        await _present(settings, Fleet(model, clock), stopped)


async def _past(
    settings: Settings, model: FleetModel, clock: Clock, history_s: float, stopped: asyncio.Event
) -> None:
    """Write the past up to now, with a bar that shows how far it is."""
    # The collector's parsers bring numba: a second that `simulate fault` need not wait.
    from pipeline.local.fleet.history import write_past

    first_ms = clock.now_ms() - int(history_s * 1000)
    producer = KafkaProducer(connection_of(settings))
    columns = (TextColumn("history"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            bar = progress.add_task("history", total=history_s)
            async for time_ms in write_past(producer, settings, model, first_ms, clock.now_ms):
                progress.update(bar, completed=(time_ms - first_ms) / 1000)
                if stopped.is_set():
                    return
    finally:
        await producer.close()


async def _present(settings: Settings, fleet: Fleet, stopped: asyncio.Event) -> None:
    tokens = Tokens(settings.simulate.seed)
    server = FleetServer(fleet, settings.simulate.base_port, tokens)
    await server.open()
    try:
        control = await serve(control_app(fleet, server), control_address(settings.simulate))
        try:
            _log.info(
                "fleet runs %s",
                fields(
                    nodes=len(server.nodes),
                    first_port=server.nodes[0].port,
                    control=f"{control.host}:{control.port}",
                    speed=f"{settings.clock.speed:g}",
                ),
            )
            await _until(stopped, fleet, server)
        finally:
            await control.close()
    finally:
        await server.close()
        if fleet.skipped:
            _log.warning("fell behind %s", fields(seconds_skipped=fleet.skipped))


async def _until(stopped: asyncio.Event, fleet: Fleet, server: FleetServer) -> None:
    """Run fleet and server until `stopped`; a failure of either ends it with that failure."""
    waiting = asyncio.create_task(stopped.wait())
    tasks = {asyncio.create_task(fleet.run()), asyncio.create_task(server.run()), waiting}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
