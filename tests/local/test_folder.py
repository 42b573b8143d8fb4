from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.local.folder import keep_clock, locked, next_clock
from pipeline.local.problems import MissingError
from pipeline.settings import ClockSettings


def test_a_second_user_of_the_folder_is_refused_and_told_the_first(tmp_path: Path):
    code = f"""
from pathlib import Path
from pipeline.local.folder import locked
with locked(Path({str(tmp_path)!r})):
    print("held", flush=True)
    input()
"""
    first = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdin is not None
    with first.stdout, first.stdin:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(MissingError, match=rf"process {first.pid}\)"), locked(tmp_path):
            pass
        first.kill()
        first.wait(10)
    with locked(tmp_path) as killed:
        assert killed
    with locked(tmp_path) as killed:
        assert not killed


def test_the_clock_goes_on_at_the_same_speed_and_begins_anew_at_another(tmp_path: Path):
    assert keep_clock(tmp_path, 1.0, wall=1000.0) == ClockSettings(1.0, 0.0)
    assert keep_clock(tmp_path, 60.0, wall=2000.0) == ClockSettings(60.0, 2000.0)
    assert keep_clock(tmp_path, 60.0, wall=2010.0) == ClockSettings(60.0, 2000.0)


def test_event_time_never_goes_back():
    # 10 s at speed 60 are 600 s of event time: 590 s ahead of the wall clock.
    with pytest.raises(MissingError, match=r"its time is 590 s ahead"):
        next_clock(ClockSettings(60.0, 2000.0), 1.0, wall=2010.0)
    with pytest.raises(MissingError, match=r"--speed 60"):
        next_clock(ClockSettings(60.0, 2000.0), 2.0, wall=2010.0)
    # Slower than the wall clock lies behind it: any new clock goes forward.
    assert next_clock(ClockSettings(0.5, 2000.0), 1.0, wall=2010.0) == ClockSettings(1.0, 0.0)


def test_a_clock_that_can_not_be_read_is_named(tmp_path: Path):
    (tmp_path / "clock.json").write_text('{"speed": "fast"}')
    with pytest.raises(MissingError, match=r"clock\.json: expected speed and origin"):
        keep_clock(tmp_path, 1.0, wall=1.0)
