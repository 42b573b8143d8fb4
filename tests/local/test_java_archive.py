from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.local.java_archive import make_archive
from pipeline.local.kafka import LocalKafka
from pipeline.local.kafka_jars import archive_path, cache_folder, kafka_jars


@pytest.mark.parts
def test_the_archive_is_written_once_and_leftovers_of_a_killed_one_are_removed(
    tmp_path: Path, broker: LocalKafka, monkeypatch: pytest.MonkeyPatch
):
    """`broker` is not used here, but fetches the jars, or leaves this out."""
    assert broker.running
    jars = kafka_jars(cache_folder(os.environ), lambda _line: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = cache_folder(os.environ)
    cache.mkdir()
    (cache / jars.name).symlink_to(jars)
    (cache / "archive-killed").mkdir()
    make_archive(cache)
    archive = archive_path(cache)
    assert archive.stat().st_size > 10_000_000
    assert not list(cache.glob("archive-*"))
    written = archive.stat().st_mtime_ns
    make_archive(cache)
    assert archive.stat().st_mtime_ns == written
