"""Rounding that takes a number or an array of them: a message is made for one instant or for many.

The state of many instants (`stretch.over_time`) has an array where that of one has a number. Types
name the number; each `cast` below stands where an array takes its place.
"""

from __future__ import annotations

from typing import cast

import numpy as np


def whole(value: float) -> int:
    """`value` without its fraction.

    >>> whole(2.9), whole(np.array([2.9, 3.1])).tolist()
    (2, [2.0, 3.0])
    """
    if isinstance(value, np.ndarray):
        return cast("int", np.trunc(value))  # an array in its place
    return int(value)


def rounded(value: float, digits: int = 0) -> float:
    """`value` with so many digits after the point.

    >>> rounded(2.345, 1), rounded(np.array([2.345, 2.375]), 1).tolist()
    (2.3, [2.3, 2.4])
    """
    if isinstance(value, np.ndarray):
        return cast("float", np.round(value, digits))  # an array in its place
    return round(value, digits) if digits else round(value)


def at_least(least: float, value: float) -> float:
    """The larger one.

    >>> at_least(1.0, 0.5), at_least(1.0, np.array([0.5, 2.0])).tolist()
    (1.0, [1.0, 2.0])
    """
    if isinstance(value, np.ndarray):
        return cast("float", np.maximum(least, value))  # an array in its place
    return max(least, value)
