"""One flat array for all windows, whose parts never move.

Windows grow all day, and a kernel wants one array. So it is a stretch of address space that is
far larger than what is ever used: the system gives memory to the pages that are written, and takes
that of large released parts back.
"""

from __future__ import annotations

import mmap
import sys

import numpy as np

from pipeline.model import FloatArray

_ITEM = 8
_RESERVED_BYTES = 1 << 36
_LEAST_RESERVED_BYTES = 1 << 28
_RETURNED_FROM_BYTES = 1 << 16
"""A released part that is smaller keeps its memory for the next one of its size."""
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0
"""MAP_NORESERVE of mmap(2): the size is no promise, so it may be more than there is."""
_SMALLEST = 64
_STEPS = 8
"""Sizes between a power of two and the next: a part is at most an eighth larger than asked for."""


class WindowMemory:
    """Parts of a float64 array; what a new part holds is left over from others."""

    def __init__(self, reserved_bytes: int = _RESERVED_BYTES) -> None:
        self._map = _reserve(reserved_bytes)
        self.data: FloatArray = np.frombuffer(self._map, dtype=np.float64)
        self.used = 0
        """Nothing beyond this item of `data` has ever been a part: never copy more."""
        self._released: dict[int, list[int]] = {}

    def allocate(self, size: int) -> int:
        """Where a part of `size` items begins.

        Raises
        ------
        MemoryError
            When all of the address space is in use.
        """
        size = _rounded(size)
        released = self._released.get(size)
        if released:
            return released.pop()
        if self.used + size > len(self.data):
            raise MemoryError(
                f"windows: {size * _ITEM} bytes more than the {len(self.data) * _ITEM} reserved"
            )
        at = self.used
        self.used += size
        return at

    def release(self, at: int, size: int) -> None:
        """Give back the part of `size` items (as it was asked for) that begins at `at`."""
        size = _rounded(size)
        self._released.setdefault(size, []).append(at)
        if size * _ITEM >= _RETURNED_FROM_BYTES:
            page = mmap.PAGESIZE
            first = -(-at * _ITEM // page) * page
            end = (at + size) * _ITEM // page * page
            self._map.madvise(mmap.MADV_DONTNEED, first, end - first)


def _rounded(size: int) -> int:
    step = max(_SMALLEST, 1 << max(size.bit_length() - _STEPS.bit_length(), 0))
    return -(-size // step) * step


def _reserve(size: int) -> mmap.mmap:
    """Address space without memory behind it; less than asked for where there is a limit."""
    while True:
        try:
            return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
        except OSError:
            if size <= _LEAST_RESERVED_BYTES:
                raise
            size //= 2
