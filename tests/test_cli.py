from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.local.fleet.faults import FAULTS


def commands(group: click.Group, above: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        yield f"{above} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, name)


@pytest.mark.parametrize("command", ["", *commands(main)])
def test_every_command_shows_examples_that_begin_with_it(command: str):
    result = CliRunner().invoke(main, [*command.split(), "--help"])
    assert result.exit_code == 0
    _, _, examples = result.output.partition("Examples:\n")
    first = examples.splitlines()[0]
    assert f"watchkeeper {command}".strip() in first


def test_help_loads_nothing_that_takes_long():
    """The modules that a process has loaded after `--help`."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pipeline", "up", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {"numpy", "numba", "aiohttp", "aiokafka", "faust", "sqlalchemy", "rich"}


def test_names_of_faults_are_completed():
    complete = ShellComplete(main, {}, "watchkeeper", "_WATCHKEEPER_COMPLETE")
    found = complete.get_completions(["simulate", "fault"], "l")
    assert [item.value for item in found] == [name for name in FAULTS if name.startswith("l")]


def run(tmp_path: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if "WATCHKEEPER" not in name}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=tmp_path,
        env={**outside, "PYTHONPATH": str(Path(__file__).parents[1]), **settings},
        capture_output=True,
        text=True,
    )


def test_wrong_usage_ends_with_2(tmp_path: Path):
    done = run(tmp_path, "up", "--speed", "fast")
    assert done.returncode == 2
    assert "'fast' is not a valid float" in done.stderr


def test_settings_that_cannot_be_used_end_with_3_and_every_problem(tmp_path: Path):
    done = run(tmp_path, "check", WATCHKEEPER_KAFKA_PARTITIONS="0", WATCHKEEPER_COLOUR="red")
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "environment: WATCHKEEPER_COLOUR: no such setting",
        "environment: WATCHKEEPER_KAFKA_PARTITIONS: Expected `int` >= 1, got '0'",
    ]


def test_problems_that_check_finds_end_with_1_and_are_json_for_a_program(tmp_path: Path):
    done = run(tmp_path, "check", "--json", WATCHKEEPER_RULES_FILES="none/*.yml")
    assert done.returncode == 1
    report = msgspec.json.decode(done.stdout)
    assert report["problems"][0]["message"] == "rules.files: no file matches none/*.yml"


def test_a_fault_without_a_fleet_ends_with_4_and_says_how_to_start_one(
    tmp_path: Path, unused_tcp_port: int
):
    port = str(unused_tcp_port)
    done = run(tmp_path, "simulate", "fault", "latency", WATCHKEEPER_SIMULATE_BASE_PORT=port)
    assert done.returncode == 4
    assert "start one with `watchkeeper up`" in done.stderr
