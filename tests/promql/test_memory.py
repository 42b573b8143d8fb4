from __future__ import annotations

import numpy as np
import pytest

from pipeline.promql.memory import WindowMemory

MEGABYTE = 1 << 20


def test_parts_do_not_overlap_and_never_move() -> None:
    memory = WindowMemory(MEGABYTE)
    places = [memory.allocate(size) for size in (1, 64, 65, 1000, 1001)]
    sizes = [1, 64, 65, 1000, 1001]
    for number, (at, size) in enumerate(zip(places, sizes, strict=True)):
        memory.data[at : at + size] = number
    for number, (at, size) in enumerate(zip(places, sizes, strict=True)):
        assert memory.data[at : at + size].tolist() == [number] * size
    assert memory.used <= sum(sizes) * 9 // 8 + 64 * len(sizes)


def test_a_released_part_is_used_again_for_one_of_its_size() -> None:
    memory = WindowMemory(MEGABYTE)
    first = memory.allocate(100)
    memory.allocate(100)
    used = memory.used
    memory.release(first, 100)
    assert memory.allocate(101) == first, "both are rounded to 128"
    assert memory.used == used


def test_a_large_released_part_gives_its_memory_back() -> None:
    memory = WindowMemory(16 * MEGABYTE)
    size = 2 * MEGABYTE // 8
    at = memory.allocate(size)
    memory.data[at : at + size] = 7.0
    neighbour = memory.allocate(64)
    memory.data[neighbour] = 8.0
    memory.release(at, size)
    assert np.count_nonzero(memory.data[at : at + size]) == 0, "fresh pages are zero"
    assert memory.data[neighbour] == 8.0


def test_what_does_not_fit_is_refused_with_numbers() -> None:
    memory = WindowMemory(MEGABYTE)
    with pytest.raises(MemoryError, match="805306368 bytes more than the 1048576 reserved"):
        memory.allocate(100_000_001)


def test_less_is_reserved_where_the_system_gives_less() -> None:
    assert len(WindowMemory(1 << 60).data) * 8 >= 1 << 28
