from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.api.http import port_is_free
from pipeline.local import up as up_module
from pipeline.local.folder import locked
from pipeline.local.kafka import LocalKafka
from pipeline.local.problems import MissingError
from pipeline.local.up import check_ports, run
from pipeline.settings import Settings

REPOSITORY = Path(__file__).parents[2]


def test_a_folder_in_use_is_refused_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with locked(tmp_path):
        settings = Settings(data=str(tmp_path))
        assert run(settings, speed=1.0, history=None, nodes=None, plain=True) == 4
    assert (
        f"{tmp_path}: another `watchkeeper up` (process {os.getpid()})" in capsys.readouterr().err
    )
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EACCES, "Permission denied"), (errno.ENOSPC, "No space left on device")],
)
def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(
    number: int,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Permissions don't hold back root, under whom tests may run: the lock is replaced."""
    path = tmp_path / "up.lock"

    def refuse(_folder: Path) -> None:
        raise OSError(number, reason, str(path))

    monkeypatch.setattr(up_module, "locked", refuse)
    settings = Settings(data=str(tmp_path))
    assert run(settings, speed=1.0, history=None, nodes=None, plain=True) == 4
    told = capsys.readouterr().err
    assert told.startswith(f"{path}: {reason}; mend that, or choose another data folder")


def test_what_a_killed_stack_left_is_waited_for_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    looks = iter([["a: taken"], ["a: taken"], ["a: taken"], []])
    monkeypatch.setattr(up_module, "taken_ports", lambda *_: next(looks))
    monkeypatch.setattr(up_module, "_PORTS_LOOK", 0.0)
    check_ports(Settings(), prometheus=False, patience=60.0)
    assert capsys.readouterr().out.startswith("The last run was killed: waiting")
    monkeypatch.setattr(up_module, "taken_ports", lambda *_: ["a: taken"])
    with pytest.raises(MissingError, match="a: taken\nStop what listens there"):
        check_ports(Settings(), prometheus=False, patience=0.0)


@pytest.mark.parts
def test_everything_starts_shows_targets_and_stops_on_ctrl_c(
    tmp_path: Path, broker: LocalKafka, ports: Callable[[int], list[int]]
):
    """`broker` is not used, but fetches the jars, or leaves this out."""
    assert broker.running
    names = ("COLLECT", "WORKER", "DISPATCH", "EXPORT", "LOCAL")
    kafka, controller, prometheus, fleet, *own = ports(4 + len(names))
    addresses = {
        f"WATCHKEEPER_{name}_LISTEN": f"127.0.0.1:{own[i]}" for i, name in enumerate(names)
    }
    up = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "up", "--plain", "--nodes", "1"],
        cwd=REPOSITORY,
        env={
            **os.environ,
            **addresses,
            "WATCHKEEPER_DATA": str(tmp_path),
            "WATCHKEEPER_BROKERS": f"127.0.0.1:{kafka}",
            "WATCHKEEPER_KAFKA_CONTROLLER_PORT": str(controller),
            "WATCHKEEPER_SIMULATE_BASE_PORT": str(fleet),
            "WATCHKEEPER_LOCAL_PROMETHEUS_LISTEN": f"127.0.0.1:{prometheus}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert up.stdout is not None
    with up.stdout as output:
        seen = []
        for text in output:
            seen.append(text)
            figures = dict(pair.split("=", 1) for pair in text.split() if "=" in pair)
            started, _, parts = figures.get("parts", "0/1").partition("/")
            if started == parts and not figures.get("targets", "0/0").startswith("0/"):
                break
        else:
            pytest.fail("".join(seen[-20:]))
        up.send_signal(signal.SIGINT)
        rest = output.read()
    assert up.wait(60) == 0
    assert rest.endswith(f"Stopped. The data and the logs are in {tmp_path}.\n")
    for port in (kafka, controller, fleet, *own):
        assert port_is_free(f"127.0.0.1:{port}")
