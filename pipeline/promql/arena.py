"""Growable flat arrays with owned stretches: one array for a kernel, many owners in Python."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.jit import compiled

Item = TypeVar("Item", bound=np.generic)
Owner = TypeVar("Owner", bound=Hashable)
IntArray = npt.NDArray[np.int64]


class Stretches(msgspec.Struct, Generic[Owner, Item], frozen=True, eq=False):
    """Copies of stretches, one after the other, in the order of their owners."""

    owners: list[Owner]
    sizes: IntArray
    data: npt.NDArray[Item]

    def by_owner(self) -> dict[Owner, npt.NDArray[Item]]:
        """Each owner's stretch; views."""
        ends = np.cumsum(self.sizes).tolist()
        return {
            owner: self.data[end - size : end]
            for owner, size, end in zip(self.owners, self.sizes.tolist(), ends, strict=True)
        }


def gather(
    data: npt.NDArray[Item], starts: IntArray, sizes: IntArray, into: npt.NDArray[Item]
) -> npt.NDArray[Item]:
    """A copy of the stretches `data[starts[i]:starts[i] + sizes[i]]`, one after the other.

    It lies at the beginning of `into`, which is large enough.
    """
    _gather(data, starts, sizes, into)
    return into[: int(sizes.sum())]


@compiled
def _gather(
    data: npt.NDArray[Item], starts: IntArray, sizes: IntArray, gathered: npt.NDArray[Item]
) -> None:
    to = 0
    for i in range(len(starts)):
        size = sizes[i]
        gathered[to : to + size] = data[starts[i] : starts[i] + size]
        to += size


class Arena(Generic[Owner, Item]):
    """A flat array of which each owner holds one stretch.

    Allocating may move every stretch: `generation` counts that, `at` tells the new places. What
    an owner gets is not cleared.
    """

    def __init__(self, dtype: type[Item], size: int = 4096) -> None:
        self.data: npt.NDArray[Item] = np.zeros(size, dtype=dtype)
        self.generation = 0
        self._places: dict[Owner, tuple[int, int]] = {}
        self._used = 0
        self._live = 0

    def copy(self) -> Stretches[Owner, Item]:
        """All stretches, without the gaps between them."""
        places = np.array(list(self._places.values()), dtype=np.int64).reshape(-1, 2)
        sizes = places[:, 1].copy()
        into = np.empty(int(sizes.sum()), dtype=self.data.dtype)
        data = gather(self.data, places[:, 0].copy(), sizes, into)
        return Stretches(list(self._places), sizes, data)

    def at(self, owner: Owner) -> int:
        return self._places[owner][0]

    def view(self, owner: Owner) -> npt.NDArray[Item]:
        """The owner's stretch; valid until the next allocation."""
        at, size = self._places[owner]
        return self.data[at : at + size]

    def release(self, owner: Owner) -> None:
        """Give the owner's stretch back; nothing happens if it has none."""
        _, size = self._places.pop(owner, (0, 0))
        self._live -= size

    def allocate(self, owner: Owner, size: int) -> int:
        """A new stretch for `owner`, in place of the one it has; returns where it begins."""
        self.release(owner)
        if self._used + size > len(self.data):
            self._compact(size)
        at = self._used
        self._places[owner] = (at, size)
        self._used += size
        self._live += size
        return at

    def store(self, owner: Owner, values: npt.NDArray[Item]) -> int:
        """Allocate for `owner` and fill with `values`."""
        at = self.allocate(owner, len(values))
        self.data[at : at + len(values)] = values
        return at

    def _compact(self, wanted: int) -> None:
        """Close the gaps, in a larger array if closing them doesn't free half of this one."""
        size = len(self.data)
        while self._live + wanted > size // 2:
            size *= 2
        data = np.zeros(size, dtype=self.data.dtype)
        cursor = 0
        for owner, (at, length) in self._places.items():
            data[cursor : cursor + length] = self.data[at : at + length]
            self._places[owner] = (cursor, length)
            cursor += length
        self.data = data
        self._used = cursor
        self.generation += 1
