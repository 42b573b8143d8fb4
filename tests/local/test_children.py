from __future__ import annotations

import sys
from pathlib import Path

from pipeline.local.children import end_of_log, start_child, stop_child


def test_output_is_appended_to_the_log(tmp_path: Path):
    log = tmp_path / "logs" / "a.log"
    for word in ("one", "two"):
        assert start_child([sys.executable, "-c", f"print('{word}')"], log).wait(20) == 0
    assert end_of_log(log) == "one\ntwo"


def test_only_the_last_lines_of_a_log_are_shown(tmp_path: Path):
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {i}\n" for i in range(5000)))
    assert end_of_log(log, lines=2) == "line 4998\nline 4999"
    assert end_of_log(tmp_path / "none") == "(no log)"


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(sys.argv[1], 'w').close()\n"
        "time.sleep(60)\n"
    )
    ready = tmp_path / "ready"
    child = start_child([sys.executable, "-c", code, str(ready)], tmp_path / "log")
    while not ready.exists():
        assert child.poll() is None
    assert stop_child(child, timeout=0.1) == -9
    assert stop_child(child, timeout=0.1) == -9
