"""Which series are scored as rates."""

from __future__ import annotations

from pipeline.model import Series

_CUMULATIVE_SUFFIXES = {
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("_count", "_sum"),
    "unknown": ("_total",),
}


def is_counter(series: Series) -> bool:
    """Whether a series only grows: a counter, or the cumulative part of a compound metric.

    >>> is_counter(Series((("__name__", "http_request_seconds_count"),), "summary"))
    True
    >>> is_counter(Series((("__name__", "http_request_seconds"), ("quantile", "0.99")), "summary"))
    False
    """
    if series.kind == "counter":
        return True
    suffixes = _CUMULATIVE_SUFFIXES.get(series.kind)
    return suffixes is not None and series.name.endswith(suffixes)
