"""One file of the disk buffer: entries behind a header that says how far they were sent.

    header   4 bytes WKB1, 4 bytes zero, 8 bytes: offset up to which everything was sent
    entry    4 bytes length of what follows the checksum, 4 bytes CRC-32 of it, its topic (1 byte),
             a record; a dictionary's is behind the 8 bytes of its id

All numbers are little endian. Nothing is synchronised to the medium: a killed process loses
nothing, a machine without power may lose the last seconds.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from pipeline.codec import CodecError, decode_telemetry
from pipeline.model import FrameBatch, Target

SUFFIX = ".segment"
TELEMETRY, SERIES, TARGET = b"t", b"s", b"n"
"""What an entry holds: a record of one of these topics, or what a target is called."""

_HEADER = struct.Struct("<4sIQ")
_MAGIC = b"WKB1"
_ENTRY = struct.Struct("<II")

_unpack_target = msgspec.msgpack.Decoder(Target).decode
_pack = msgspec.msgpack.Encoder().encode


class DamageError(Exception):
    """Bytes that nobody wrote like this, from `offset` on."""

    def __init__(self, message: str, offset: int, *, torn: bool = False) -> None:
        super().__init__(message)
        self.offset = offset
        self.torn = torn
        """The file ends within an entry, as it does when a process is killed while it writes."""


class Entry(NamedTuple):
    topic: bytes
    record: bytes
    end: int
    """Where the next entry begins."""


class Segment:
    """A file of entries, and what has to be known of them."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.size = 0
        """Of the file; 0 while there is none."""
        self.sent_to = _HEADER.size
        self.frames: Counter[int] = Counter()
        """Frames that nobody has taken yet, by target."""
        self.targets: dict[int, Target] = {}
        self.dictionaries: set[int] = set()
        """Those that were written since this process began, to be written once."""
        self.oldest_ms: int | None = None
        """No frame here that wasn't sent is older."""

    @property
    def pending(self) -> int:
        """Bytes that weren't sent."""
        return max(0, self.size - self.sent_to)

    def append(self, entries: list[tuple[bytes, bytes]]) -> int:
        """Write entries (topic, record) at the end, all or none; where they end.

        Raises
        ------
        OSError
            They can't be written.
        """
        data = encode_entries(entries)
        if not self.size:
            data = _HEADER.pack(_MAGIC, 0, _HEADER.size) + data
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(descriptor, data[written:], self.size + written)
        except OSError:
            with suppress(OSError):  # what stays of it is written over, or taken for torn
                os.ftruncate(descriptor, self.size)
            raise
        finally:
            os.close(descriptor)
        self.size += len(data)
        return self.size

    def count(self, batch: FrameBatch, by: int = 1) -> None:
        """Count the frames of a record in, or with -1 out."""
        for target in batch.targets.tolist():
            self.frames[target] += by
        if by > 0 and self.oldest_ms is None and len(batch):
            self.oldest_ms = int(batch.times_ms[0])

    def lost(self) -> Counter[Target]:
        """The frames that are lost if this goes, by target."""
        return Counter({self.targets[id_]: n for id_, n in self.frames.items() if n > 0})

    def mark_sent(self, offset: int) -> None:
        """Everything before `offset` was sent, also for the next process."""
        self.sent_to = max(self.sent_to, offset)
        with self.path.open("r+b", buffering=0) as file:
            file.write(_HEADER.pack(_MAGIC, 0, self.sent_to))

    def read(self, offset: int) -> Iterator[Entry]:
        """The entries from `offset` on.

        Raises
        ------
        DamageError
            The next one isn't whole.
        OSError
            The file can't be read.
        """
        with self.path.open("rb") as file:
            file.seek(offset)
            while header := file.read(_ENTRY.size):
                if len(header) < _ENTRY.size:
                    raise DamageError("expected 8 bytes before an entry", offset, torn=True)
                length, checksum = _ENTRY.unpack(header)
                left = self.size - offset - _ENTRY.size
                if length > left:
                    message = f"expected an entry of {length} bytes, got {left}"
                    raise DamageError(message, offset, torn=True)
                data = file.read(length)
                if not data or crc32(data) != checksum:
                    raise DamageError("expected another checksum", offset)
                offset += _ENTRY.size + length
                yield Entry(data[:1], data[1:], offset)

    def recover(self) -> None:
        """Learn what the file of an earlier process holds.

        Raises
        ------
        DamageError
            It isn't whole; what is known then is what comes before the damage.
        OSError
            The file can't be read.
        """
        self.size = self.path.stat().st_size
        with self.path.open("rb") as file:
            header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise DamageError("expected a header of 16 bytes", 0, torn=True)
        magic, _, sent_to = _HEADER.unpack(header)
        if magic != _MAGIC or not _HEADER.size <= sent_to <= self.size:
            raise DamageError(f"expected the header of a buffer's segment, got {header!r}", 0)
        self.sent_to = sent_to
        for entry in self.read(_HEADER.size):
            self._learn(entry)

    def _learn(self, entry: Entry) -> None:
        try:
            if entry.topic == TARGET:
                target = _unpack_target(entry.record)
                self.targets[target.id] = target
            elif entry.topic == TELEMETRY and entry.end > self.sent_to:
                record = decode_telemetry(entry.record)
                if isinstance(record, FrameBatch):
                    self.count(record)
        except (CodecError, msgspec.MsgspecError) as error:
            begin = entry.end - len(entry.record) - len(entry.topic) - _ENTRY.size
            raise DamageError(f"an entry of another version: {error}", begin) from error

    def cut(self, offset: int) -> None:
        """Leave out what stands from `offset` on."""
        os.truncate(self.path, offset)
        self.size = offset

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)


def encode_entries(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Entries (topic, record) as they stand in a file."""
    parts: list[bytes] = []
    for topic, record in entries:
        data = topic + record
        parts += (_ENTRY.pack(len(data), crc32(data)), data)
    return b"".join(parts)


def target_entry(target: Target) -> tuple[bytes, bytes]:
    """The entry that says what a target is called."""
    return TARGET, _pack(target)
