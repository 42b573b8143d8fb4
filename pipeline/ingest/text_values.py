"""The quick way through an exposition whose layout is known: only its numbers are read.

A layout is the body with its numbers cut out: the texts between them, one behind the other
(`skeleton`), and where each begins (`offsets`). Slot i is the number after text i; the last text
follows the last number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.jit import compiled
from pipeline.model import FloatArray, IntArray

ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

MISMATCH = -1

_POWERS: FloatArray = np.array([float(f"1e{exponent}") for exponent in range(23)])
_EXACT = 1 << 53
_MAX_DIGITS = 18
"""More may not fit an int64."""
_MAX_EXPONENT_DIGITS = 5
_NEWLINE, _SPACE, _PLUS, _MINUS, _POINT, _UPPER_E, _LOWER_E = 10, 32, 43, 45, 46, 69, 101


@compiled
def _exact_value(mantissa: int, exponent: int) -> tuple[bool, float]:
    """`mantissa * 10 ** exponent` if one rounding gives it: both factors are exact floats.

    References
    ----------
    W. D. Clinger, How to Read Floating Point Numbers Accurately, PLDI 1990.
    """
    if mantissa > _EXACT or exponent > 22 or exponent < -22:
        return False, 0.0
    if exponent >= 0:
        return True, float(mantissa) * _POWERS[exponent]
    return True, float(mantissa) / _POWERS[-exponent]


@compiled
def _read_digits(
    body: ByteArray, position: int, mantissa: int, digits: int
) -> tuple[int, int, int]:
    """The digits from `position` on: the mantissa with them, how many count, where they end.

    With more than `_MAX_DIGITS` the mantissa is meaningless, but doesn't overflow.
    """
    while position < len(body) and 48 <= body[position] <= 57:
        mantissa = mantissa * 10 + (int(body[position]) - 48)
        if mantissa > 0:
            digits += 1
        if digits > _MAX_DIGITS:
            mantissa = 1
        position += 1
    return mantissa, digits, position


@compiled
def _read_sign(body: ByteArray, position: int) -> tuple[bool, int]:
    """Whether a minus stands at `position`, and where to go on."""
    if position < len(body) and (body[position] == _MINUS or body[position] == _PLUS):
        return body[position] == _MINUS, position + 1
    return False, position


@compiled
def _read_number(body: ByteArray, start: int) -> tuple[bool, bool, float, int]:
    """Whether an exact number stands at `start`, whether it is an integer, the number, its end.

    It ends at a space, at the end of the line, or of the body.
    """
    negative, first = _read_sign(body, start)
    mantissa, digits, position = _read_digits(body, first, 0, 0)
    integer = position > first
    good = integer
    exponent = 0
    if position < len(body) and body[position] == _POINT:
        integer = False
        first = position + 1
        mantissa, digits, position = _read_digits(body, first, mantissa, digits)
        good = good or position > first
        exponent = first - position
    if position < len(body) and (body[position] == _LOWER_E or body[position] == _UPPER_E):
        integer = False
        down, first = _read_sign(body, position + 1)
        shift, shift_digits, position = _read_digits(body, first, 0, 0)
        good = good and position > first and shift_digits <= _MAX_EXPONENT_DIGITS
        exponent += -shift if down else shift
    end = position
    while end < len(body) and body[end] != _NEWLINE and body[end] != _SPACE:
        end += 1
    if not good or end > position or digits > _MAX_DIGITS:
        return False, integer, 0.0, end
    exact, number = _exact_value(mantissa, exponent)
    return exact, integer, -number if negative else number, end


@compiled
def read_numbers(
    body: ByteArray,
    skeleton: ByteArray,
    offsets: IntArray,
    whole: BoolArray,
    numbers: FloatArray,
    hard: IntArray,
) -> int:
    """Fill `numbers` from `body` if its layout is the given one.

    Parameters
    ----------
    body : shape (b,)
        The exposition.
    skeleton : shape (s,)
        The texts of the layout, one behind the other.
    offsets : shape (m + 2,)
        Text i is `skeleton[offsets[i]:offsets[i + 1]]`, for m slots and m + 1 texts.
    whole : shape (m,)
        The slots that only take an integer.
    numbers : shape (m,)
        Filled; the slots listed in `hard` are left to the caller.
    hard : shape (m, 3)
        Filled: slot, start and end of each number that needs more than one exact operation.

    Returns
    -------
    The number of rows of `hard`; `MISMATCH` if the layout is another.
    """
    slots = len(whole)
    position = 0
    hards = 0
    for slot in range(slots + 1):
        start = offsets[slot]
        size = offsets[slot + 1] - start
        if position + size > len(body):
            return MISMATCH
        for i in range(size):
            if body[position + i] != skeleton[start + i]:
                return MISMATCH
        position += size
        if slot == slots:
            break
        first = position
        exact, integer, number, position = _read_number(body, first)
        if whole[slot] and not (exact and integer and body[first] != _PLUS):
            return MISMATCH
        if exact:
            numbers[slot] = number
        else:
            hard[hards, 0], hard[hards, 1], hard[hards, 2] = slot, first, position
            hards += 1
    return hards if position == len(body) else MISMATCH
