from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.local import prepare as subject
from pipeline.local.kafka_jars import KAFKA_VERSION, archive_path
from pipeline.local.prepare import Step, prepare
from pipeline.local.problems import MissingError

DONE, FAILS = ("-c", "print('done')"), ("-c", "raise SystemExit('no network')")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache in which the jars are."""
    jars = tmp_path / "cache" / f"kafka-{KAFKA_VERSION}"
    jars.mkdir(parents=True)
    (jars / "kafka.jar").touch()
    return tmp_path / "cache"


def steps(monkeypatch: pytest.MonkeyPatch, compiling: tuple[str, ...], fetching: tuple[str, ...]):
    """Other programs in the place of those that take long."""
    monkeypatch.setattr(
        subject,
        "_compiling",
        lambda group, logs: Step(f"compiling {group}", compiling, logs / f"{group}.log"),
    )
    monkeypatch.setattr(
        subject, "_fetching", lambda _cache, logs: Step("fetching", fetching, logs / "fetch.log")
    )


def test_everything_is_done_at_once_and_the_compiled_loops_are_remembered(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps(monkeypatch, DONE, DONE)
    prepare(cache, tmp_path)
    assert {log.name for log in tmp_path.glob("*.log")} == {
        "worker.log", "collector.log", "fetch.log",
    }  # fmt: skip
    archive_path(cache).touch()
    steps(monkeypatch, FAILS, FAILS)
    prepare(cache, tmp_path)  # nothing is left to do


def test_loops_that_cannot_be_compiled_stop_the_start_with_the_reason(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps(monkeypatch, FAILS, DONE)
    with pytest.raises(MissingError, match="compiling worker failed:\nno network"):
        prepare(cache, tmp_path)
    steps(monkeypatch, DONE, DONE)
    prepare(cache, tmp_path)


def test_without_the_archive_a_start_goes_on_without_the_jars_it_does_not(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps(monkeypatch, DONE, FAILS)
    prepare(cache, tmp_path)
    with pytest.raises(MissingError, match="fetching failed:\nno network"):
        prepare(tmp_path / "empty", tmp_path)
