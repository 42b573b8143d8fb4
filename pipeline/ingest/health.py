"""A health endpoint's JSON (MicroProfile Health, as Quarkus serves it) to readings."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from pipeline.ingest.readings import Family, PayloadError, Readings
from pipeline.model import Series, labels_from

HEALTH_UP = Series((("__name__", "health_up"),), "gauge")
PROBE_DURATION = Series((("__name__", "health_probe_duration_seconds"),), "gauge")

FAMILIES = {
    "health_up": Family("gauge", "1 if the endpoint says that the node is up."),
    "health_check_up": Family("gauge", "1 if this check of the endpoint is up."),
    "health_probe_duration_seconds": Family("gauge", "How long the health endpoint took."),
}


MAX_CHECKS = 1000


class _Check(msgspec.Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    status: str


class _Health(msgspec.Struct, frozen=True):
    status: str
    checks: Annotated[list[_Check], msgspec.Meta(max_length=MAX_CHECKS)] = []


_decode = msgspec.json.Decoder(_Health).decode


def read_health(body: bytes) -> Readings:
    """`health_up` and, for each check by its name, `health_check_up`.

    Raises
    ------
    PayloadError
        `health`: the body isn't such a JSON object.

    >>> read_health(b'{"status":"UP","checks":[{"name":"Redis","status":"DOWN"}]}').values
    array([1., 0.])
    """
    try:
        health = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PayloadError("health", f"expected health checks in JSON: {error}") from None
    checks = [
        Series(labels_from({"__name__": "health_check_up", "check": check.name}), "gauge")
        for check in health.checks
    ]
    states = [health.status, *(check.status for check in health.checks)]
    values = np.array([float(state.upper() == "UP") for state in states])
    return Readings((HEALTH_UP, *checks), values)
