"""Noise that needs no memory: a pure function of seed and time, with its integral in closed form.

A simulated counter is the integral of a rate. Because both are known at every instant, a past
fleet and a live one agree, and nothing has to be stored.
"""

from __future__ import annotations

import numpy as np

from pipeline.model import FloatArray, IdArray

_MASK = 0xFFFFFFFFFFFFFFFF
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def hashed(seed: int, ids: IdArray, cell: int) -> FloatArray:
    """One number in [-1, 1) for each stream, the same whenever it is asked for again.

    References
    ----------
    Steele, Lea & Flood, Fast Splittable Pseudorandom Number Generators, 2014 (SplitMix64).
    """
    state = ids ^ np.uint64(_start(seed, cell))
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_SECOND)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


def hashed_one(seed: int, name: int, cell: int) -> float:
    """`hashed` for the first stream under `name`."""
    state = _mix((name << 32) * _GOLDEN & _MASK ^ _start(seed, cell))
    return (state >> 11) * 2.0**-52 - 1.0


def streams(name: int, count: int) -> IdArray:
    """The ids of `count` streams of their own under `name`."""
    return (np.arange(count, dtype=np.uint64) + np.uint64(name << 32)) * np.uint64(_GOLDEN)


def _start(seed: int, cell: int) -> int:
    return _mix(seed * 0x1000003 + cell + _GOLDEN & _MASK)


def _mix(state: int) -> int:
    state = (state ^ (state >> 30)) * _FIRST & _MASK
    state = (state ^ (state >> 27)) * _SECOND & _MASK
    return state ^ (state >> 31)


class Jitter:
    """A rate that jumps once a second, and whose integral never strays from zero.

    The integral is value noise: numbers hashed at whole seconds, joined by straight lines. Its
    slope, the rate, stays within [-1, 1].
    """

    def __init__(self, seed: int, ids: IdArray) -> None:
        self._seed = seed
        self._ids = ids

    def rate(self, at: float) -> FloatArray:
        before, after, _ = self._ends(at)
        return (after - before) / 2

    def integral(self, at: float) -> FloatArray:
        before, after, fraction = self._ends(at)
        return (before + (after - before) * fraction) / 2

    def _ends(self, at: float) -> tuple[FloatArray, FloatArray, float]:
        cell = int(at // 1.0)
        return (
            hashed(self._seed, self._ids, cell),
            hashed(self._seed, self._ids, cell + 1),
            at - cell,
        )


class Waves:
    """Smooth noise within [-1, 1] for each stream: sines of random phase, periods far apart.

    Periods run from `shortest` to `longest` seconds; longer ones are higher (amplitude ~ square
    root of the period), so that a series wanders as a first-order autoregression does.
    """

    def __init__(
        self, seed: int, ids: IdArray, shortest: float, longest: float, terms: int = 8
    ) -> None:
        grid = np.geomspace(shortest, longest, terms)
        spread = np.stack([hashed(seed, ids, -2 * k - 1) for k in range(terms)], axis=1)
        turns = np.stack([hashed(seed, ids, -2 * k - 2) for k in range(terms)], axis=1)
        self._omega = 2 * np.pi / (grid * (1 + 0.2 * spread))
        self._phase = np.pi * turns
        self._height = np.sqrt(grid) / np.sqrt(grid).sum()

    def value(self, at: float) -> FloatArray:
        waves: FloatArray = np.sin(self._omega * at + self._phase) @ self._height
        return waves

    def integral(self, at: float) -> FloatArray:
        """Of `value` from 0 to `at`."""
        area = (np.cos(self._phase) - np.cos(self._omega * at + self._phase)) / self._omega
        total: FloatArray = area @ self._height
        return total
