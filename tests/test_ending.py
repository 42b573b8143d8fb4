"""A process that is told to end does, whatever it waits for."""

import signal
import subprocess
import sys

_HANGS = """
import asyncio
from pipeline.ending import stop_on_signal
from pipeline.selfmetrics import configure_logging

async def main():
    configure_logging("test")
    stop = stop_on_signal(0.2)
    print("ready", flush=True)
    await stop.wait()
    if {hang}:
        await asyncio.Event().wait()

asyncio.run(main())
"""


def ended(hang: bool) -> tuple[int, str]:
    program = [sys.executable, "-c", _HANGS.format(hang=hang)]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors


def test_a_process_that_can_ends_by_itself():
    assert ended(hang=False) == (0, "")


def test_one_that_waits_for_something_that_never_comes_is_ended():
    code, errors = ended(hang=True)
    assert code == 1
    assert "event=stop_takes_too_long" in errors
