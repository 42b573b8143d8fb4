"""One way to compile a loop with numba, typed, with the same options everywhere.

The machine code is cached on disk, so only the first start pays for compiling. Numba by itself
notices changes of the file of a compiled function, but not of functions that it calls in other
files; so the cache lies in a folder that is named by what all files with kernels say.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])

_PACKAGE = Path(__file__).parent
_WITH_KERNELS = ("jit.py", "detect", "promql/kernel", "rules")
_PREFIX = "kernels-"


def cache_folder(package: Path, base: Path) -> Path:
    """The folder in `base` for the kernels of `package` as they are now; others are removed."""
    digest = hashlib.sha256()
    for place in _WITH_KERNELS:
        root = package / place
        for file in sorted(root.glob("*.py")) if root.is_dir() else [root]:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    folder = base / f"{_PREFIX}{digest.hexdigest()[:16]}"
    for other in base.glob(f"{_PREFIX}*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _base() -> Path:
    """`NUMBA_CACHE_DIR`, else beside the package, else (not writable) the user's cache."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    beside = _PACKAGE / "__pycache__"
    if os.access(beside if beside.exists() else _PACKAGE, os.W_OK):
        return beside
    return Path.home() / ".cache" / "watchkeeper"


# Ignored: numba fills its configuration from a table of variables, which mypy can't see.
numba.config.CACHE_DIR = str(cache_folder(_PACKAGE, _base()))  # type: ignore[attr-defined]


def compiled(function: Function) -> Function:
    """`function`, compiled: IEEE arithmetic (division by zero gives inf or NaN), GIL released."""
    jitted = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)(function)
    return cast("Function", jitted)
