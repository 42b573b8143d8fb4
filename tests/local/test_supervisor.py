from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pipeline.local.problems import MissingError
from pipeline.local.supervisor import Part, Supervisor


def dummy(
    tmp_path: Path,
    name: str,
    code: str = "",
    after: tuple[str, ...] = (),
    uses: tuple[str, ...] = (),
) -> Part:
    """A part that runs `code`, says in `events` when it starts and stops, and waits."""
    events = tmp_path / "events"
    text = (
        f"import sys, signal, threading\n"
        f"def tell(what):\n"
        f"    with open({str(events)!r}, 'a') as file: file.write(what + ' {name}\\n')\n"
        f"done = threading.Event()\n"
        f"signal.signal(signal.SIGTERM, lambda *_: done.set())\n"
        f"tell('start')\n{code}\n"
        f"while not done.wait(0.05): pass\n"
        f"tell('stop')\n"
    )

    async def ready() -> bool:
        return events.exists() and f"start {name}\n" in events.read_text()

    return Part(name, (sys.executable, "-c", text), ready, after, uses)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # other processes set no event of ours
            await asyncio.sleep(0.02)


async def test_parts_start_after_those_they_need_and_stop_before_them(tmp_path: Path):
    parts = [
        dummy(tmp_path, "worker", after=("kafka",)),
        dummy(tmp_path, "kafka"),
        dummy(tmp_path, "collect", after=("kafka", "worker")),
    ]
    supervisor = Supervisor(parts, tmp_path / "logs", dict)
    running = asyncio.create_task(supervisor.run())
    await until(supervisor.all_ready)
    await supervisor.stop()
    await running
    assert (tmp_path / "events").read_text().splitlines() == [
        "start kafka", "start worker", "start collect", "stop collect", "stop worker", "stop kafka",
    ]  # fmt: skip
    assert {state.state for state in supervisor.states()} == {"stopped"}


async def test_what_a_part_uses_need_not_be_ready_when_it_starts_but_ends_after_it(tmp_path: Path):
    async def never() -> bool:
        return False

    kafka = msgspec.structs.replace(dummy(tmp_path, "kafka"), ready=never)
    supervisor = Supervisor(
        [kafka, dummy(tmp_path, "worker", uses=("kafka",))], tmp_path / "logs", dict
    )
    running = asyncio.create_task(supervisor.run())
    events = tmp_path / "events"
    await until(lambda: events.exists() and len(events.read_text().splitlines()) == 2)
    await supervisor.stop()
    await running
    assert events.read_text().splitlines()[2:] == ["stop worker", "stop kafka"]


async def test_settings_that_turn_out_unusable_end_the_stack_even_later(tmp_path: Path):
    late = "import time\ntime.sleep(0.3)\nsys.exit(3)"
    supervisor = Supervisor([dummy(tmp_path, "a", late)], tmp_path / "logs", dict)
    with pytest.raises(MissingError, match="a can't start"):
        await supervisor.run()
    assert supervisor.all_ready()


async def test_a_part_that_dies_is_started_again_and_says_so(tmp_path: Path):
    supervisor = Supervisor([dummy(tmp_path, "a")], tmp_path / "logs", dict)
    running = asyncio.create_task(supervisor.run())
    await until(supervisor.all_ready)
    os.kill(supervisor._children["a"].pid, signal.SIGKILL)
    await until(lambda: supervisor.states()[0].state == "paused")
    [state] = supervisor.states()
    assert state.restarts == 1
    assert "exit code -9; starts again after 1 s" in state.note
    assert str(tmp_path / "logs" / "a.log") in state.note
    await until(lambda: (tmp_path / "events").read_text().count("start a") == 2)
    await supervisor.stop()
    await running


async def test_a_part_that_can_never_start_ends_the_run_with_the_end_of_its_log(tmp_path: Path):
    part = dummy(tmp_path, "a", "print('port 1 is taken', flush=True); sys.exit(4)")
    never = Part("a", part.command, lambda: asyncio.sleep(0, False))
    supervisor = Supervisor([never, dummy(tmp_path, "b")], tmp_path / "logs", dict)
    with pytest.raises(MissingError, match="a can't start:\nport 1 is taken"):
        await supervisor.run()
    await supervisor.stop()


async def test_a_part_sees_the_environment_of_the_moment_it_starts(tmp_path: Path):
    environment = {"LEARNT": "nothing"}
    first = dummy(tmp_path, "first")

    async def ready() -> bool:
        environment["LEARNT"] = "version 2"
        return await first.ready()

    parts = [
        Part("first", first.command, ready),
        dummy(tmp_path, "second", "import os; tell(os.environ['LEARNT'])", after=("first",)),
    ]
    supervisor = Supervisor(parts, tmp_path / "logs", lambda: environment)
    running = asyncio.create_task(supervisor.run())
    await until(
        lambda: (
            "second\n" in (tmp_path / "events").read_text()
            if (tmp_path / "events").exists()
            else False
        )
    )
    await until(lambda: "version 2 second" in (tmp_path / "events").read_text())
    await supervisor.stop()
    await running


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path):
    """The kernel sends them SIGTERM; they stop as they would on any other."""
    code = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_supervisor import dummy
from pipeline.local.supervisor import Supervisor
path = Path({str(tmp_path)!r})
asyncio.run(Supervisor([dummy(path, "a")], path / "logs", dict).run())
"""
    supervisor = subprocess.Popen([sys.executable, "-c", code])
    events = tmp_path / "events"
    try:
        wait_for(events, "start a")
    finally:
        supervisor.kill()
        supervisor.wait(10)
    wait_for(events, "stop a")


def wait_for(events: Path, line: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if events.exists() and line in events.read_text():
            return
        time.sleep(0.02)
    pytest.fail(f"{line!r} didn't happen")
