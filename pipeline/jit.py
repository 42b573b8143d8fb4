"""One way to compile a loop with numba, typed, with the same options everywhere.

The machine code is cached on disk beside the module (or in `NUMBA_CACHE_DIR`), so only the first
start pays for compiling. Numba notices changes of the file of the compiled function, not of
functions that it calls in other files: keep a kernel's helpers in its own file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """`function`, compiled: IEEE arithmetic (division by zero gives inf or NaN), GIL released."""
    jitted = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=False)(function)
    return cast("Function", jitted)
