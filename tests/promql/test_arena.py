from __future__ import annotations

import numpy as np

from pipeline.promql.arena import Arena


def test_stretches_survive_growing_and_closing_gaps() -> None:
    arena = Arena(np.int64, size=16)
    for owner in range(20):
        arena.store(owner, np.full(5, owner, dtype=np.int64))
        if owner % 2:
            arena.release(owner - 1)
    for owner in range(1, 20, 2):
        assert arena.view(owner).tolist() == [owner] * 5
        assert arena.data[arena.at(owner)] == owner
    assert arena.generation > 0
    assert len(arena.data) <= 256


def test_storing_again_replaces_the_old_stretch() -> None:
    arena = Arena(np.int32, size=8)
    for length in range(1, 6):
        arena.store("a", np.arange(length, dtype=np.int32))
    assert arena.view("a").tolist() == [0, 1, 2, 3, 4]
    assert len(arena.data) == 16
    arena.release("unknown")
