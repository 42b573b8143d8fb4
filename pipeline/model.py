"""The record types that travel between processes. Nothing here reads a clock, a file or a socket.

A *target* is one feed of one instance. A *frame* is all samples of one target at one instant: an
array of float64 plus the id of the dictionary that names its columns. A record on the `telemetry`
topic is a batch of frames (`FrameBatch`) or a `Tick`.

Times are integer milliseconds since the Unix epoch, UTC, as Prometheus stores them.
"""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from typing import Literal
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
IdArray = npt.NDArray[np.uint64]

Labels = tuple[tuple[str, str], ...]
"""Label pairs sorted by name; a series' name is its `__name__`."""

STALE_BITS = 0x7FF0000000000002
"""Prometheus' stale marker (prometheus/model/value: StaleNaN)."""
ABSENT_BITS = 0x7FF000000000574B
"""Payload of a column that this frame has no sample for. Never stored, never shown."""

STALE: FloatArray = np.array([STALE_BITS], dtype=np.uint64).view(np.float64)
ABSENT: FloatArray = np.array([ABSENT_BITS], dtype=np.uint64).view(np.float64)
"""One-element arrays: copying a Python float or doing arithmetic can destroy a NaN's payload."""


def is_stale(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Where `values` holds the stale marker, compared as bits."""
    return np.equal(values.view(np.uint64), np.uint64(STALE_BITS))


def is_absent(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Where `values` holds "not in this frame", compared as bits."""
    return np.equal(values.view(np.uint64), np.uint64(ABSENT_BITS))


def hash64(*parts: str) -> int:
    """A 64-bit id of `parts`, stable across processes and versions (BLAKE2b, 8 bytes)."""
    pieces: list[bytes] = []
    for part in parts:
        encoded = part.encode()
        pieces += (len(encoded).to_bytes(4, "little"), encoded)
    return int.from_bytes(blake2b(b"".join(pieces), digest_size=8).digest(), "little")


def labels_from(mapping: dict[str, str]) -> Labels:
    """The canonical form of a label mapping: sorted, empty values left out.

    >>> labels_from({"job": "node", "instance": "a:9100", "empty": ""})
    (('instance', 'a:9100'), ('job', 'node'))
    """
    return tuple(sorted([pair for pair in mapping.items() if pair[1]]))


class Target(msgspec.Struct, frozen=True, order=True, dict=True):
    """One feed: what is scraped or subscribed to at one instance.

    `feed` tells several feeds of an instance apart: a path (`/metrics`, `/ws/dashboard`), a probe
    (`health`) or a way of pushing (`remote_write`).
    """

    job: str
    instance: str
    feed: str

    @cached_property
    def id(self) -> int:
        return hash64(self.job, self.instance, self.feed)


def metric_name(labels: Labels) -> str:
    """The value of `__name__`; "" without one."""
    for name, value in labels:
        if name == "__name__":
            return value
    return ""


SeriesKind = Literal["counter", "gauge", "histogram", "summary", "info", "stateset", "unknown"]


class Series(msgspec.Struct, frozen=True, cache_hash=True, gc=False):
    """What one column of a frame is: its labels (with `__name__`), metric type and unit."""

    labels: Labels
    kind: SeriesKind = "unknown"
    unit: str = ""

    @property
    def name(self) -> str:
        return metric_name(self.labels)


class SeriesDictionary(msgspec.Struct, frozen=True, dict=True):
    """The columns of a target's frames, in order. Its id is the hash of its content."""

    target: Target
    series: tuple[Series, ...]

    @cached_property
    def id(self) -> int:
        content = msgspec.msgpack.encode(self)
        return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


class Frame(msgspec.Struct, frozen=True, eq=False):
    """All samples of one target at one instant.

    `values` has shape (n,) with n the number of series of the dictionary; a column without a sample
    is `ABSENT`, a series that has just ended is `STALE`.
    """

    target_id: int
    dictionary_id: int
    time_ms: int
    values: FloatArray


class FrameBatch(msgspec.Struct, frozen=True, eq=False):
    """Frames in columns, as they lie in a record: f frames, v values in all.

    `targets`, `dictionaries` uint64 (f,); `times_ms` int64 (f,); `offsets` int64 (f + 1,): frame i
    has the values `values[offsets[i]:offsets[i + 1]]`; `values` float64 (v,).
    """

    targets: IdArray
    dictionaries: IdArray
    times_ms: IntArray
    offsets: IntArray
    values: FloatArray

    def __len__(self) -> int:
        return len(self.times_ms)

    def frame(self, i: int) -> Frame:
        start, end = int(self.offsets[i]), int(self.offsets[i + 1])
        return Frame(
            int(self.targets[i]),
            int(self.dictionaries[i]),
            int(self.times_ms[i]),
            self.values[start:end],
        )


class Tick(msgspec.Struct, frozen=True):
    """A collector's word that it has sent everything it has up to `time_ms` (exclusive)."""

    collector: str
    time_ms: int


class Scores(msgspec.Struct, frozen=True, eq=False):
    """Anomaly scores of some columns of one frame; above 1 is anomalous.

    `columns` uint32 (k,) indexes the dictionary; `scores` float32 (k,). Columns left out scored
    below the publishing threshold.
    """

    target_id: int
    dictionary_id: int
    time_ms: int
    columns: npt.NDArray[np.uint32]
    scores: npt.NDArray[np.float32]


class ScoreBatch(msgspec.Struct, frozen=True, eq=False):
    """Scores of several frames in columns, as they lie in a record: f frames, k scores in all.

    `targets`, `dictionaries`, `times_ms` (f,) and `offsets` (f + 1,) as in `FrameBatch`; frame i
    has `columns` uint32 and `scores` float32 from `offsets[i]` to `offsets[i + 1]`.
    """

    targets: IdArray
    dictionaries: IdArray
    times_ms: IntArray
    offsets: IntArray
    columns: npt.NDArray[np.uint32]
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.times_ms)

    def frame(self, i: int) -> Scores:
        start, end = int(self.offsets[i]), int(self.offsets[i + 1])
        return Scores(
            int(self.targets[i]),
            int(self.dictionaries[i]),
            int(self.times_ms[i]),
            self.columns[start:end],
            self.scores[start:end],
        )


class Evaluated(msgspec.Struct, frozen=True):
    """A worker's mark: `partition` has been evaluated up to `time_ms`."""

    worker: str
    partition: int
    time_ms: int


AlertState = Literal["pending", "firing", "inactive"]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One report of an alert's state; the newest `time_ms` of a fingerprint counts.

    `starts_at_ms` is when it began to fire (when it became active, while pending); `ends_at_ms` is
    when a firing report stops being believed, or when the alert ended.
    """

    labels: Labels
    annotations: Labels
    state: AlertState
    time_ms: int
    active_at_ms: int
    starts_at_ms: int
    ends_at_ms: int
    value: float
    sample_time_ms: int
    """Time of the sample that caused the last change of state, for measuring latency."""
    group: str
    """`file;group` of the rule, as Prometheus names a group."""
    generator_url: str = ""
    source: Literal["worker", "backstop", "api"] = "worker"

    @property
    def fingerprint(self) -> int:
        return fingerprint(self.labels)


_FNV_OFFSET, _FNV_PRIME, _MASK64 = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


def fingerprint(labels: Labels) -> int:
    """Alertmanager's fingerprint of a label set: FNV-1a over sorted name, 0xff, value, 0xff.

    References
    ----------
    prometheus/common, model/signature.go: labelSetToFingerprint.

    >>> f"{fingerprint(()):016x}"
    'cbf29ce484222325'
    """
    value = _FNV_OFFSET
    for name, text in sorted(labels):
        for byte in name.encode() + b"\xff" + text.encode() + b"\xff":
            value = ((value ^ byte) * _FNV_PRIME) & _MASK64
    return value


def partition_of(instance: str, partitions: int) -> int:
    """The partition of everything about an instance: crc32 modulo the number of partitions."""
    return crc32(instance.encode()) % partitions
