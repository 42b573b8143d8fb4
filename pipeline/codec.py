"""Records to bytes and back, with a version. The only place that knows the wire format.

Binary records start with eight bytes: `WK`, format version, kind, and a count (uint32, little
endian). A frame batch goes on with one header of 32 bytes a frame (target, dictionary: uint64;
time in ms: int64; number of values: uint32; zero: uint32), then all values as float64, so that
decoding is a view and not a copy. Dictionaries are MessagePack behind the same eight bytes. Alerts
are JSON, so that a person can read the topic.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.model import (
    Alert,
    Evaluated,
    FloatArray,
    Frame,
    FrameBatch,
    IdArray,
    IntArray,
    ScoreBatch,
    Series,
    SeriesDictionary,
    Tick,
)

Value = TypeVar("Value")

VERSION = 1
MAX_FRAMES = 1 << 20

_PREFIX = struct.Struct("<2sBBI")
_MAGIC = b"WK"
_FRAMES, _TICK, _DICTIONARY, _SCORES, _EVALUATED = 1, 2, 3, 4, 5
_HEADER = np.dtype(
    [
        ("target", "<u8"),
        ("dictionary", "<u8"),
        ("time_ms", "<i8"),
        ("count", "<u4"),
        ("zero", "<u4"),
    ]
)
_SCORE = np.dtype([("column", "<u4"), ("score", "<f4")])

_pack = msgspec.msgpack.Encoder().encode
_json = msgspec.json.Encoder(order="deterministic").encode
_unpack_tick = msgspec.msgpack.Decoder(Tick).decode
_unpack_evaluated = msgspec.msgpack.Decoder(Evaluated).decode
_unpack_dictionary = msgspec.msgpack.Decoder(SeriesDictionary).decode
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises: invalid text and deep nesting have no error of its own."""


class CodecError(ValueError):
    """Bytes that are no record of ours; `reason` is one of a small fixed set, for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _VersionedAlert(msgspec.Struct, frozen=True):
    version: int
    alert: Alert


class _Version(msgspec.Struct, frozen=True):
    version: int


_read_version = msgspec.json.Decoder(_Version).decode
_read_alert = msgspec.json.Decoder(_VersionedAlert, strict=False).decode  # a value may be a text


def encode_frames(frames: Sequence[Frame]) -> bytes:
    """One `telemetry` record with all of `frames`, in order."""
    header = np.zeros(len(frames), dtype=_HEADER)
    for i, frame in enumerate(frames):
        header[i] = (frame.target_id, frame.dictionary_id, frame.time_ms, len(frame.values), 0)
    prefix = _PREFIX.pack(_MAGIC, VERSION, _FRAMES, len(frames))
    values = [np.ascontiguousarray(frame.values, dtype="<f8").tobytes() for frame in frames]
    return b"".join([prefix, header.tobytes(), *values])


def encode_block(
    target_ids: IdArray,
    dictionary_ids: IdArray,
    lengths: IntArray,
    times_ms: IntArray,
    values: FloatArray,
) -> bytes:
    """`encode_frames` of the same targets at many instants, without a `Frame` for each.

    Shapes are (targets,) three times, (instants, targets), and (instants, sum of lengths): in a row
    of `values` the targets' values lie one behind the other.
    """
    header = np.zeros(times_ms.shape, dtype=_HEADER)
    header["target"], header["dictionary"] = target_ids, dictionary_ids
    header["time_ms"], header["count"] = times_ms, lengths
    prefix = _PREFIX.pack(_MAGIC, VERSION, _FRAMES, header.size)
    return b"".join([prefix, header.tobytes(), np.ascontiguousarray(values, "<f8").tobytes()])


def encode_tick(tick: Tick) -> bytes:
    return _PREFIX.pack(_MAGIC, VERSION, _TICK, 1) + _pack(tick)


def decode_telemetry(record: bytes) -> FrameBatch | Tick:
    """What a record of the `telemetry` topic holds; a batch's arrays are views of `record`.

    Raises
    ------
    CodecError
        `not_a_record`, `version`, `kind`, `truncated`, `length` or `malformed`.
    """
    kind, count = _read_prefix(record)
    if kind == _TICK:
        return _decode(_unpack_tick, _payload(record), "tick")
    if kind != _FRAMES:
        raise CodecError("kind", f"telemetry record: expected kind 1 or 2, got {kind}")
    return _decode_frames(record, count)


def encode_dictionary(dictionary: SeriesDictionary) -> bytes:
    return _PREFIX.pack(_MAGIC, VERSION, _DICTIONARY, 1) + _pack(dictionary)


def decode_dictionary(record: bytes) -> SeriesDictionary:
    """A record of the `series` topic.

    Raises
    ------
    CodecError
        As `decode_telemetry`.
    """
    kind, _ = _read_prefix(record)
    if kind != _DICTIONARY:
        raise CodecError("kind", f"series record: expected kind {_DICTIONARY}, got {kind}")
    return _sharing(_decode(_unpack_dictionary, _payload(record), "dictionary"))


def _sharing(dictionary: SeriesDictionary) -> SeriesDictionary:
    """The same, its series sharing label pairs that are equal: a fifth of the memory."""
    pairs: dict[tuple[str, str], tuple[str, str]] = {}
    shared = tuple(
        Series(tuple([pairs.setdefault(pair, pair) for pair in one.labels]), one.kind, one.unit)
        for one in dictionary.series
    )
    return SeriesDictionary(dictionary.target, shared)


def dictionary_key(dictionary_id: int) -> bytes:
    """The key of a dictionary in the compacted topic `series`."""
    return f"{dictionary_id:016x}".encode()


def encode_scores(batch: ScoreBatch) -> bytes:
    """One `signals` record with the scores of all frames of `batch`."""
    header = np.zeros(len(batch), dtype=_HEADER)
    header["target"], header["dictionary"] = batch.targets, batch.dictionaries
    header["time_ms"], header["count"] = batch.times_ms, np.diff(batch.offsets)
    body = np.empty(len(batch.scores), dtype=_SCORE)
    body["column"], body["score"] = batch.columns, batch.scores
    prefix = _PREFIX.pack(_MAGIC, VERSION, _SCORES, len(batch))
    return prefix + header.tobytes() + body.tobytes()


def encode_mark(mark: Evaluated) -> bytes:
    """One `signals` record that says how far a partition has been evaluated."""
    return _PREFIX.pack(_MAGIC, VERSION, _EVALUATED, 1) + _pack(mark)


def decode_mark(record: bytes) -> Evaluated | None:
    """The mark that a record of the `signals` topic is; None for one of another kind.

    Raises
    ------
    CodecError
        As `decode_telemetry`.
    """
    kind, _ = _read_prefix(record)
    return _decode(_unpack_evaluated, _payload(record), "mark") if kind == _EVALUATED else None


def decode_signal(record: bytes) -> ScoreBatch | Evaluated | FrameBatch:
    """What a record of the `signals` topic holds; frames are those forwarded for global rules.

    Raises
    ------
    CodecError
        As `decode_telemetry`.
    """
    kind, count = _read_prefix(record)
    if kind == _FRAMES:
        return _decode_frames(record, count)
    if kind == _EVALUATED:
        return _decode(_unpack_evaluated, _payload(record), "mark")
    if kind != _SCORES:
        raise CodecError("kind", f"signals record: expected kind 1, 4 or 5, got {kind}")
    header, offsets, start = _read_headers(record, count, "scores", _SCORE.itemsize)
    body = np.frombuffer(record, _SCORE, offset=start)
    return ScoreBatch(
        np.ascontiguousarray(header["target"]),
        np.ascontiguousarray(header["dictionary"]),
        np.ascontiguousarray(header["time_ms"]),
        offsets,
        np.ascontiguousarray(body["column"]),
        np.ascontiguousarray(body["score"]),
    )


def encode_alert(alert: Alert) -> bytes:
    """One record of the `alerts` topic: JSON with a version.

    JSON has no NaN and no infinity: such a value is a text there (`nan`, `inf`, `-inf`).
    """
    versioned = _VersionedAlert(VERSION, alert)
    if math.isfinite(alert.value):
        return _json(versioned)
    document = msgspec.to_builtins(versioned)
    document["alert"]["value"] = str(alert.value)
    return _json(document)


def alert_key(alert: Alert) -> bytes:
    """The key of an alert in the compacted topic `alerts`: its fingerprint in hexadecimal."""
    return f"{alert.fingerprint:016x}".encode()


def decode_alert(record: bytes) -> Alert:
    """What a record of the `alerts` topic holds.

    Raises
    ------
    CodecError
        `malformed` or `version`.
    """
    version = _decode(_read_version, memoryview(record), "alert").version
    if version != VERSION:
        raise CodecError("version", f"alert: expected version {VERSION}, got {version}")
    return _decode(_read_alert, memoryview(record), "alert").alert


def _read_prefix(record: bytes) -> tuple[int, int]:
    if len(record) < _PREFIX.size:
        raise CodecError("truncated", f"record: expected 8 bytes or more, got {len(record)}")
    magic, version, kind, count = _PREFIX.unpack_from(record)
    if magic != _MAGIC:
        raise CodecError("not_a_record", f"record: expected it to begin with 'WK', got {magic!r}")
    if version != VERSION:
        raise CodecError("version", f"record: expected format version {VERSION}, got {version}")
    return kind, count


def _payload(record: bytes) -> memoryview:
    return memoryview(record)[_PREFIX.size :]


def _decode(decode: Callable[[memoryview], Value], payload: memoryview, what: str) -> Value:
    try:
        return decode(payload)
    except _UNDECODABLE as error:
        raise CodecError("malformed", f"{what}: {error}") from error


def _decode_frames(record: bytes, count: int) -> FrameBatch:
    header, offsets, start = _read_headers(record, count, "frames", 8)
    return FrameBatch(
        np.ascontiguousarray(header["target"]),
        np.ascontiguousarray(header["dictionary"]),
        np.ascontiguousarray(header["time_ms"]),
        offsets,
        np.frombuffer(record, "<f8", offset=start),
    )


def _read_headers(
    record: bytes, count: int, what: str, item_bytes: int
) -> tuple[npt.NDArray[np.void], IntArray, int]:
    """The frames' headers, the offsets of their items, and where the first item begins."""
    if count > MAX_FRAMES:
        raise CodecError("length", f"{what}: expected at most {MAX_FRAMES} frames, got {count}")
    start = _PREFIX.size + count * _HEADER.itemsize
    if len(record) < start:
        raise CodecError(
            "truncated", f"{what}: expected {start} bytes of headers, got {len(record)}"
        )
    header = np.frombuffer(record, _HEADER, count, _PREFIX.size)
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(header["count"], out=offsets[1:])
    expected = start + int(offsets[-1]) * item_bytes
    if len(record) != expected:
        raise CodecError("length", f"{what}: expected {expected} bytes, got {len(record)}")
    return header, offsets, start
