"""`watchkeeper dispatch` as a user starts it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.dispatch.main import read_config
from pipeline.document import ConfigError
from pipeline.settings import DispatchSettings, Settings


def started(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "dispatch"],
        env=os.environ | {"WATCHKEEPER_DATA": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_bad_configuration_is_reported_with_all_problems(tmp_path: Path) -> None:
    file = tmp_path / "am.yml"
    file.write_text("route: {receiver: x}\ntypo: 1\n")
    done = started(tmp_path, WATCHKEEPER_DISPATCH_CONFIG_FILE=str(file))
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        f"{file}:2: typo: unknown field; expected one of global, route, receivers",
        f"{file}:1: route.receiver: no receiver is called 'x'",
    ]


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = started(tmp_path, WATCHKEEPER_DISPATCH_LISTEN=address)
    assert done.returncode == 4
    assert f"{address}: the port is taken" in done.stderr


def test_without_a_file_everything_goes_to_the_local_receiver() -> None:
    config = read_config(Settings(dispatch=DispatchSettings(local_receiver="http://h:1/notify")))
    local, nobody = config.receivers
    assert local.webhooks[0].url.value == "http://h:1/notify"
    assert config.route.group_wait_ms == 0
    (heartbeat,) = config.route.routes
    assert (config.route.receiver, heartbeat.receiver) == (local.name, nobody.name)
    assert nobody.webhooks == ()


def test_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere/am\.yml: can't be read"):
        read_config(Settings(dispatch=DispatchSettings(config_file="/nowhere/am.yml")))
