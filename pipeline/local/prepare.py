"""What takes long and is done once for a machine, all at the same time, before a stack starts.

Kafka's jars are fetched, Java's archive of them is written (`java_archive.py`), and the loops are
compiled (`kernels.py`). Each is a process; a start that finds everything done starts none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pipeline.local.children import end_of_log, start_child, stop_child
from pipeline.local.kafka_jars import archive_path, jars_are_there
from pipeline.local.kernels import GROUPS, is_compiled, remember
from pipeline.local.problems import MissingError

_LOOK_INTERVAL = 0.1
_STOP_TIMEOUT = 5.0


class Step(msgspec.Struct, frozen=True):
    """One thing to be done once."""

    text: str
    arguments: tuple[str, ...]
    """Of Python."""
    log: Path


def prepare(cache: Path, logs: Path) -> None:
    """Do what hasn't been done on this machine yet, and show how it goes.

    Raises
    ------
    MissingError
        Kafka can't be had, or the loops can't be compiled. Without Java's archive it goes on.
    """
    compiling = [] if is_compiled(cache) else [_compiling(group, logs) for group in GROUPS]
    fetching = [] if archive_path(cache).exists() else [_fetching(cache, logs)]
    if not compiling and not fetching:
        return
    failed = _run([*compiling, *fetching])
    for step in failed:
        if step in compiling or not jars_are_there(cache):
            raise MissingError(f"{step.text} failed:\n{end_of_log(step.log)}")
    if compiling:
        remember(cache)


def _compiling(group: str, logs: Path) -> Step:
    return Step(
        f"compiling the loops of the {group}, once",
        ("-m", "pipeline.local.kernels", group),
        logs / f"compile-{group}.log",
    )


def _fetching(cache: Path, logs: Path) -> Step:
    text = "a first start of Kafka, so that later ones are quick"
    if not jars_are_there(cache):
        text = "fetching Apache Kafka, and " + text
    return Step(text, ("-m", "pipeline.local.java_archive"), logs / "java-archive.log")


def _run(steps: Sequence[Step]) -> list[Step]:
    """Run all of them at once; those that failed."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"))
    children: dict[Step, subprocess.Popen[bytes]] = {}
    codes: dict[Step, int] = {}
    try:
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            bars = {step: progress.add_task(step.text, total=1) for step in steps}
            for step in steps:
                children[step] = start_child([sys.executable, *step.arguments], step.log)
            while len(codes) < len(steps):
                time.sleep(_LOOK_INTERVAL)
                for step, child in children.items():
                    if step not in codes and (code := child.poll()) is not None:
                        codes[step] = code
                        progress.update(bars[step], completed=1)
    finally:
        for child in children.values():
            stop_child(child, _STOP_TIMEOUT)
    return [step for step, code in codes.items() if code != os.EX_OK]
