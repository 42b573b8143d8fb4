"""Where compiled kernels are cached."""

import shutil
from pathlib import Path

import pipeline
from pipeline.jit import cache_folder

PACKAGE = Path(pipeline.__file__).parent


def copied(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    for place in ("detect", "promql/kernel", "rules"):
        shutil.copytree(PACKAGE / place, package / place)
    shutil.copy(PACKAGE / "jit.py", package)
    return package


def test_the_same_kernels_have_the_same_folder(tmp_path):
    first, second = cache_folder(PACKAGE, tmp_path), cache_folder(copied(tmp_path), tmp_path)
    assert first == second
    assert first.parent == tmp_path


def test_a_kernel_that_changed_has_another_folder_and_the_old_one_goes(tmp_path):
    package, base = copied(tmp_path), tmp_path / "cache"
    before = cache_folder(package, base)
    before.mkdir(parents=True)
    (base / "else").mkdir()
    helper = package / "promql/kernel/samples.py"
    helper.write_text(helper.read_text().replace("-= 1", "-= 2"))
    after = cache_folder(package, base)
    assert after != before
    assert not before.exists()
    assert (base / "else").exists()
