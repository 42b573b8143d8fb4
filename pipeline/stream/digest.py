"""One number for a partition's whole state, so that two workers' can be compared."""

from __future__ import annotations

from hashlib import blake2b

from pipeline.stream.fleetwide import Fleetwide
from pipeline.stream.partition import Partition


def digest(state: Partition | Fleetwide) -> str:
    """Equal for two states exactly if no later step could tell them apart.

    Detectors, windows, alerts, watermark and what was seen when go into it bit for bit; how series
    happen to be numbered doesn't.
    """
    whole = blake2b(digest_size=16)
    for part in state.content():
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.hexdigest()
