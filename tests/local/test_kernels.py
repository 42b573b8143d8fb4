from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.local import kernels
from pipeline.local.kernels import GROUPS, is_compiled, remember, state_of

LOOP = "from pipeline.jit import compiled\n\n\n@compiled\ndef loop(n): return n\n"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "loop.py").write_text(LOOP)
    (tmp_path / "other.py").write_text("x = 1\n")
    return tmp_path


def test_the_state_changes_with_the_files_that_have_loops_and_with_no_other(package: Path):
    before = state_of(package)
    (package / "other.py").write_text("x = 2\n")
    assert state_of(package) == before
    (package / "part" / "loop.py").write_text(LOOP + "\n")
    assert state_of(package) != before


def test_a_file_that_was_written_again_is_another_to_numba(package: Path):
    before = state_of(package)
    os.utime(package / "part" / "loop.py", (1, 1))
    assert state_of(package) != before


def test_what_was_remembered_holds_until_the_sources_change(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kernels, "PACKAGE", package)
    cache = tmp_path / "cache"
    assert not is_compiled(cache)
    remember(cache)
    assert is_compiled(cache)
    (package / "part" / "loop.py").write_text(LOOP + "\n")
    assert not is_compiled(cache)


@pytest.mark.parametrize("group", GROUPS)
def test_after_compiling_a_group_no_loop_of_it_is_compiled_again(group: str):
    """Numba says by a variable of the environment when it has to compile."""
    command = [sys.executable, "-m", "pipeline.local.kernels", group]
    subprocess.run(command, check=True)
    again = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_DEBUG_CACHE": "1"},
    )
    said = again.stdout + again.stderr
    assert "[cache] data loaded from" in said
    assert "[cache] data saved to" not in said
