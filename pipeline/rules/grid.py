"""The instants at which Prometheus evaluates a rule group.

Groups are spread over their interval by a hash of their name and file, so that not all of them are
evaluated at once; the same file under the same path gives the same instants here.

References
----------
prometheus/rules: Group.EvalTimestamp and Group.hash; labels.Labels.Hash.
"""

from __future__ import annotations

import numpy as np
import xxhash

from pipeline.model import IntArray
from pipeline.promql.plan import Version
from pipeline.rules.rule import RuleGroup

_NS_PER_MS = 1_000_000


class Grid:
    """The evaluation times of one group.

    `group.file` has to be the path under which Prometheus reads the file.
    """

    def __init__(self, group: RuleGroup, default_interval_ms: int, prometheus: Version) -> None:
        self.interval_ms = group.interval_ms or default_interval_ms
        interval_ns = self.interval_ms * _NS_PER_MS
        self._offset_ns = group_hash(group.file, group.name, prometheus) % interval_ns

    def instants(self, after_ms: int, until_ms: int) -> IntArray:
        """The instants T with after_ms < T <= until_ms."""
        first = self._steps_until(after_ms) + 1
        last = self._steps_until(until_ms)
        return np.array([self._instant(step) for step in range(first, last + 1)], dtype=np.int64)

    def _instant(self, step: int) -> int:
        """Prometheus counts in nanoseconds and stamps samples with whole milliseconds."""
        return (step * self.interval_ms * _NS_PER_MS + self._offset_ns) // _NS_PER_MS

    def _steps_until(self, time_ms: int) -> int:
        return (time_ms - self._offset_ns // _NS_PER_MS) // self.interval_ms


def group_hash(file: str, name: str, prometheus: Version) -> int:
    """Prometheus' hash of the labels `file` and `name`.

    Prometheus 3 (since 2.44) keeps labels in one string with lengths before the texts, and hashes
    that; before, each text ends with a byte 0xff.
    """
    texts = [text.encode() for text in ("file", file, "name", name)]
    if prometheus == "2":
        data = b"".join(text + b"\xff" for text in texts)
    else:
        data = b"".join(_length(len(text)) + text for text in texts)
    return xxhash.xxh64_intdigest(data)


def _length(size: int) -> bytes:
    """One byte, or 0xff and three bytes (prometheus/model/labels: appendLabelTo)."""
    return bytes([size]) if size < 0xFF else b"\xff" + size.to_bytes(3, "little")
