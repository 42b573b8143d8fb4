"""Numbers and times as Prometheus' templates write them.

References
----------
prometheus/template/template.go and prometheus/common/helpers/templates.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

_LARGE = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_SMALL = ("", "m", "u", "n", "p", "f", "a", "z", "y")
_BINARY = ("", "ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_NS = 2.0**63
_EXPONENT_FROM = 1e6


def formatted(value: float, directive: str) -> str:
    """Go's `%` with e, f or g and a precision.

    >>> formatted(12345.6, ".4g"), formatted(2.0, ".1f"), formatted(float("inf"), ".0e")
    ('1.235e+04', '2.0', '+Inf')
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:{directive}}"


def four_digits(value: float) -> str:
    return formatted(value, ".4g")


def shortest(value: float) -> str:
    """Go's `%v`: the fewest digits that read back as `value`, with an exponent from a million on.

    >>> shortest(1234567.0), shortest(123456.5), shortest(1.5e-5), shortest(-0.0)
    ('1.234567e+06', '123456.5', '1.5e-05', '-0')
    """
    if not math.isfinite(value):
        return formatted(value, "g")
    digits = repr(value)
    if "e" in digits or abs(value) < _EXPONENT_FROM:
        return digits.removesuffix(".0")
    significant = len(digits.lstrip("-").replace(".", "").rstrip("0"))
    return f"{value:.{significant - 1}e}"


def humanize(value: float) -> str:
    """With metric prefixes.

    >>> humanize(1234567.0), humanize(0.05), humanize(0.0)
    ('1.235M', '50m', '0')
    """
    if value == 0 or not math.isfinite(value):
        return four_digits(value)
    if abs(value) >= 1:
        return _scaled_down(value, 1000.0, _LARGE)
    scaled, prefix = _scaled_up(value)
    return four_digits(scaled) + prefix


def humanize1024(value: float) -> str:
    """With binary prefixes.

    >>> humanize1024(1048576.0), humanize1024(1000.0)
    ('1Mi', '1000')
    """
    if abs(value) <= 1 or not math.isfinite(value):
        return four_digits(value)
    return _scaled_down(value, 1024.0, _BINARY)


def humanize_percentage(value: float) -> str:
    """A ratio in per cent.

    >>> humanize_percentage(0.1234567)
    '12.35%'
    """
    return four_digits(value * 100) + "%"


def humanize_duration(value: float) -> str:
    """Seconds in words.

    >>> humanize_duration(93784.0), humanize_duration(75.5), humanize_duration(0.001)
    ('1d 2h 3m 4s', '1m 15s', '1ms')
    """
    if not math.isfinite(value):
        return four_digits(value)
    if value == 0:
        return "0s"
    if abs(value) < 1:
        scaled, prefix = _scaled_up(value)
        return f"{four_digits(scaled)}{prefix}s"
    sign, size = ("-", -value) if value < 0 else ("", value)
    minutes, seconds = divmod(int(size), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    if minutes:
        return f"{sign}{minutes}m {seconds}s"
    return f"{sign}{four_digits(size)}s"


def humanize_timestamp(value: float) -> str:
    """Unix seconds as Go prints a time, in UTC, cut to milliseconds.

    >>> humanize_timestamp(1435737600.5)
    '2015-07-01 08:00:00.5 +0000 UTC'

    Raises
    ------
    ValueError
        If nanoseconds since the epoch don't fit in 64 bits.
    """
    if not math.isfinite(value):
        return four_digits(value)
    if abs(value * 1e9) >= _MAX_NS:
        raise ValueError(
            f"{value!r} cannot be represented as a nanoseconds timestamp since it overflows int64"
        )
    time_ms = int(value * 1e9) // 1_000_000
    when = _EPOCH + timedelta(milliseconds=time_ms)
    fraction = f".{time_ms % 1000:03d}".rstrip("0").rstrip(".")
    return f"{when:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"


def _scaled_down(value: float, base: float, prefixes: tuple[str, ...]) -> str:
    step = 0
    while abs(value) >= base and step < len(prefixes) - 1:
        value /= base
        step += 1
    return four_digits(value) + prefixes[step]


def _scaled_up(value: float) -> tuple[float, str]:
    step = 0
    while abs(value) < 1 and step < len(_SMALL) - 1:
        value *= 1000.0
        step += 1
    return value, _SMALL[step]
