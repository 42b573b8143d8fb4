"""Durations as Prometheus and Alertmanager write them: `1m30s`, `500ms`, `0`."""

from __future__ import annotations

import re

_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
}
_FORM = re.compile(
    r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII
)


def parse_duration(text: str) -> float:
    """Seconds of a duration: units y w d h m s ms, each at most once, the greatest first.

    Raises
    ------
    ValueError
        Anything else; the message says what was expected and what came.

    References
    ----------
    prometheus/common, model/time.go: ParseDuration.

    >>> parse_duration("1m30s"), parse_duration("500ms"), parse_duration("0")
    (90.0, 0.5, 0.0)
    """
    if text == "0":
        return 0.0
    match = _FORM.fullmatch(text)
    if not text or match is None:
        raise ValueError(f'expected a duration such as "30s" or "1m30s", got {text!r}')
    counts = zip(_UNITS_MS.values(), match.groups(), strict=True)
    return sum(unit * int(count) for unit, count in counts if count) / 1000
