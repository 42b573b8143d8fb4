"""A snapshot: the state of one partition as of one offset, as bytes with checksums, and back.

Taking one copies flat arrays between two records; everything here works on that copy, so a thread
can do it. A file begins with a header: magic and format version, length and checksum of what
follows, then, as MessagePack, whose state it is and the name, length and checksum of every block.
The first blocks are the document, MessagePack again, in which a number stands for each array; the
arrays follow. No block is larger than a few megabytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from pipeline.stream.fleetwide import FleetwideCut
from pipeline.stream.partition import PartitionCut

FORMAT = 1
BLOCK_BYTES = 4 << 20

_MAGIC = b"WKSNAP"
_PREFIX = struct.Struct("<6sHIQ")
"""Magic, format version, length and checksum of the header."""

AnyArray = npt.NDArray[np.generic]
Cut = PartitionCut | FleetwideCut
_CUTS: dict[str, type[Cut]] = {"telemetry": PartitionCut, "signals": FleetwideCut}


class SnapshotError(ValueError):
    """Bytes that are no usable snapshot; `reason` is one of a small fixed set, for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Snapshot(msgspec.Struct, frozen=True, eq=False):
    """The state of a partition of `telemetry` or `signals` after all records before `offset`."""

    topic: str
    """Without prefix."""
    partition: int
    offset: int
    cut: Cut


class _Array(msgspec.Struct, frozen=True, array_like=True):
    dtype: str | list[tuple[str, str]]
    shape: tuple[int, ...]


class _Block(msgspec.Struct, frozen=True, array_like=True):
    name: str
    size: int
    checksum: int


class _Header(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int
    arrays: list[_Array]
    blocks: list[_Block]


def encode(snapshot: Snapshot) -> Iterator[memoryview]:
    """The parts of the file, in order; arrays are not copied."""
    arrays: list[AnyArray] = []

    def number(value: object) -> int:
        assert isinstance(value, np.ndarray), "a cut holds plain values and arrays"
        arrays.append(np.ascontiguousarray(value))
        return len(arrays) - 1

    document = msgspec.msgpack.encode(snapshot.cut, enc_hook=number)
    parts = list(_parts("document", memoryview(document)))
    for i, array in enumerate(arrays):
        parts += _parts(f"array-{i}", array.reshape(-1).view(np.uint8).data)
    header = _Header(
        snapshot.topic,
        snapshot.partition,
        snapshot.offset,
        [_Array(_described(array.dtype), array.shape) for array in arrays],
        [_Block(name, part.nbytes, _checksum(part)) for name, part in parts],
    )
    encoded = msgspec.msgpack.encode(header)
    yield memoryview(_PREFIX.pack(_MAGIC, FORMAT, len(encoded), _checksum(encoded)) + encoded)
    for _, part in parts:
        yield part


def decode(data: bytes) -> Snapshot:
    """The snapshot in a file; its arrays are views of `data`.

    Raises
    ------
    SnapshotError
        `truncated`, `not_a_snapshot`, `version`, `checksum` or `malformed`.
    """
    if len(data) < _PREFIX.size:
        raise SnapshotError("truncated", f"expected {_PREFIX.size} bytes or more, got {len(data)}")
    magic, version, size, checksum = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise SnapshotError(
            "not_a_snapshot", f"expected it to begin with {_MAGIC!r}, got {magic!r}"
        )
    if version != FORMAT:
        raise SnapshotError("version", f"expected format version {FORMAT}, got {version}")
    view = memoryview(data)
    start = _PREFIX.size + size
    if len(data) < start:
        raise SnapshotError("truncated", f"expected {start} bytes of header, got {len(data)}")
    encoded = view[_PREFIX.size : start]
    if _checksum(encoded) != checksum:
        raise SnapshotError("checksum", "the header's checksum is wrong")
    try:
        header = msgspec.msgpack.decode(encoded, type=_Header)
        return _decoded(header, _contents(header, view[start:]))
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, IndexError, TypeError) as error:
        raise SnapshotError("malformed", f"{type(error).__name__}: {error}") from error


def _contents(header: _Header, body: memoryview) -> dict[str, memoryview]:
    """The checked bytes of the document and of each array, by name."""
    expected = sum(block.size for block in header.blocks)
    if len(body) != expected:
        raise SnapshotError("truncated", f"expected {expected} bytes of blocks, got {len(body)}")
    places: dict[str, tuple[int, int]] = {}
    at = 0
    for block in header.blocks:
        end = at + block.size
        if _checksum(body[at:end]) != block.checksum:
            raise SnapshotError("checksum", f"block {block.name} at {at}: the checksum is wrong")
        first, _ = places.get(block.name, (at, at))
        places[block.name] = (first, end)
        at = end
    return {name: body[first:end] for name, (first, end) in places.items()}


def _decoded(header: _Header, contents: dict[str, memoryview]) -> Snapshot:
    def array(_: type, number: int) -> AnyArray:
        described = header.arrays[number]
        flat = np.frombuffer(contents.get(f"array-{number}", b""), np.dtype(described.dtype))
        return flat.reshape(described.shape)

    cut = msgspec.msgpack.decode(contents["document"], type=_CUTS[header.topic], dec_hook=array)
    return Snapshot(header.topic, header.partition, header.offset, cut)


def _parts(name: str, content: memoryview) -> Iterator[tuple[str, memoryview]]:
    for at in range(0, content.nbytes, BLOCK_BYTES):
        yield name, content[at : at + BLOCK_BYTES]


# Any: numpy's own word for the type of an element.
def _described(dtype: np.dtype[Any]) -> str | list[tuple[str, str]]:
    if dtype.names is None:
        return dtype.str
    return [(name, dtype[name].str) for name in dtype.names]


def _checksum(content: bytes | memoryview) -> int:
    return xxhash.xxh3_64_intdigest(content)
