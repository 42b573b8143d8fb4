"""The disk buffer: what Kafka doesn't take waits in files, in order, within a limit.

Each partition has a queue of segments (`segment.py`), deleted as they are sent. When all of them
together reach the limit, the oldest segment of the partition that has most goes. A segment stands
for itself: it has the dictionaries that its frames need and Kafka may not have, and the names of
their targets. There is nothing on disk while Kafka takes records.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.codec import (
    decode_telemetry,
    encode_dictionary,
    encode_frames,
    encode_tick,
)
from pipeline.collect.segment import (
    SERIES,
    SUFFIX,
    TELEMETRY,
    DamageError,
    Entry,
    Segment,
    target_entry,
)
from pipeline.model import Frame, SeriesDictionary, Target, Tick
from pipeline.selfmetrics import fields

log = logging.getLogger(__name__)

_LARGEST_SEGMENT = 8 * 1024 * 1024
_SEGMENTS = 32
"""At least so many make up the limit, so that little is dropped at a time."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_ID = struct.Struct("<Q")
_NUMBERED = "[0-9]" * 12 + SUFFIX
_ASIDE = "damaged.aside"

Batch = Sequence[tuple[Target, Frame]]
Needed = Callable[[Frame], SeriesDictionary | None]
"""The dictionary that Kafka doesn't have and a frame needs."""


class SpoolError(Exception):
    """The folder can't be the disk buffer of this process."""


class Position(NamedTuple):
    """Up to where a partition's queue was sent."""

    segment: int
    offset: int


class Taken(NamedTuple):
    """What comes next in a partition: the frames of a record, or a tick."""

    frames: list[tuple[Target, Frame]]
    dictionaries: dict[int, bytes]
    """By their ids: records to be sent before."""
    tick: Tick | None
    end: Position


class Spool:
    """The queues of all partitions. One process has the folder at a time."""

    def __init__(self, folder: Path, partitions: int, limit_bytes: int) -> None:
        """Open the folder, and find what an earlier process left.

        Raises
        ------
        SpoolError
            The folder can't be used, or another collector has it.
        """
        self.limit_bytes = limit_bytes
        self.lost: Counter[Target] = Counter()
        """Frames that had to go for newer ones, or were in a damaged file. For the owner to count
        and clear."""
        self.damaged = 0
        """Segments that were put aside."""
        self._folders = [folder / f"{i}-of-{partitions}" for i in range(partitions)]
        self._segment_bytes = min(_LARGEST_SEGMENT, max(1, limit_bytes // _SEGMENTS))
        self._queues: list[deque[Segment]] = [deque() for _ in range(partitions)]
        self._numbers = [0] * partitions
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for partition, queue_folder in enumerate(self._folders):
                queue_folder.mkdir(exist_ok=True)
                self._recover(partition)
        except BlockingIOError:
            self._lock.close()
            raise SpoolError(f"{folder}: another collector has this buffer") from None
        except OSError as error:
            raise SpoolError(f"{folder}: can't be the buffer: {error.strerror}") from error
        for other in sorted(folder.glob("*-of-*")):
            if other not in self._folders and any(other.glob("*" + SUFFIX)):
                log.error("frames of another number of partitions stay: %s", fields(folder=other))

    def close(self) -> None:
        """Let another process have the folder. What waits stays there."""
        self._lock.close()

    @property
    def used_bytes(self) -> int:
        """All that is on disk."""
        return sum(segment.size for queue in self._queues for segment in queue)

    def pending(self, partition: int) -> int:
        """Bytes of a partition that weren't sent."""
        return sum(segment.pending for segment in self._queues[partition])

    def oldest_ms(self) -> int | None:
        """No frame on disk is older."""
        times = [
            segment.oldest_ms
            for queue in self._queues
            for segment in queue
            if segment.oldest_ms is not None
        ]
        return min(times, default=None)

    def append_frames(self, partition: int, batch: Batch, needed: Needed) -> Position:
        """Put frames behind what is there, as one record; where they end.

        Raises
        ------
        OSError
            They can't be written, and aren't.
        """
        record = encode_frames([frame for _, frame in batch])

        def entries(segment: Segment) -> list[tuple[bytes, bytes]]:
            targets = {target.id: target for target, _ in batch if target.id not in segment.targets}
            found = [needed(frame) for _, frame in batch]
            dictionaries = {each.id: each for each in found if each is not None}
            return [
                *(target_entry(target) for target in targets.values()),
                *(
                    (SERIES, _ID.pack(dictionary.id) + encode_dictionary(dictionary))
                    for dictionary in dictionaries.values()
                    if dictionary.id not in segment.dictionaries
                ),
                (TELEMETRY, record),
            ]

        segment = self._append(partition, entries)
        segment.targets |= {target.id: target for target, _ in batch}
        segment.dictionaries |= {frame.dictionary_id for _, frame in batch}
        frames = decode_telemetry(record)
        assert not isinstance(frames, Tick)
        segment.count(frames)
        return Position(segment.number, segment.size)

    def append_tick(self, partition: int, tick: Tick) -> None:
        """Put a tick behind what is there.

        Raises
        ------
        OSError
            It can't be written, and isn't.
        """
        record = encode_tick(tick)
        self._append(partition, lambda _segment: [(TELEMETRY, record)])

    def take(self, partition: int, max_bytes: int) -> Taken | None:
        """What comes next: about `max_bytes` of frames, or a tick; None: nothing is left.

        It stays on disk until `sent`, but is no longer counted as lost if it has to go.
        """
        while self._queues[partition]:
            segment = self._queues[partition][0]
            try:
                taken = _take(segment, max_bytes)
            except (DamageError, OSError) as damage:
                self.lost += segment.lost()
                self._put_aside(partition, segment, damage)
                self._remove(partition, segment)
                continue
            if taken is not None:
                return taken
            self._remove(partition, segment)
        return None

    def sent(self, partition: int, end: Position) -> None:
        """Everything up to `end` was sent."""
        for segment in list(self._queues[partition]):
            if segment.number < end.segment or (
                segment.number == end.segment and end.offset >= segment.size
            ):
                self._remove(partition, segment)
            elif segment.number == end.segment:
                with suppress(OSError):  # the next process sends it again, that is all
                    segment.mark_sent(end.offset)

    def _append(
        self, partition: int, entries: Callable[[Segment], list[tuple[bytes, bytes]]]
    ) -> Segment:
        """Append what `entries` says for the last segment, after making room for it."""
        while True:
            segment = self._last(partition)
            written = entries(segment)
            size = sum(9 + len(record) for _, record in written)
            if self.used_bytes + size > self.limit_bytes:
                if self._drop_oldest():
                    continue
                raise OSError(errno.ENOSPC, "collect.disk_buffer_bytes is less than one record")
            try:
                segment.append(written)
            except OSError as error:
                if error.errno in _NO_ROOM and self._drop_oldest():
                    continue
                raise
            return segment

    def _last(self, partition: int) -> Segment:
        """The segment that is written to; a new one if the last is full."""
        queue = self._queues[partition]
        if not queue or queue[-1].size >= self._segment_bytes:
            self._numbers[partition] += 1
            number = self._numbers[partition]
            queue.append(Segment(self._folders[partition] / f"{number:012d}{SUFFIX}", number))
        return queue[-1]

    def _drop_oldest(self) -> bool:
        """Drop the oldest segment of the partition that has most; false if there is none."""
        sizes = [sum(segment.size for segment in queue) for queue in self._queues]
        partition = max(range(len(sizes)), key=sizes.__getitem__)
        if not sizes[partition]:
            return False
        segment = self._queues[partition][0]
        self.lost += segment.lost()
        self._remove(partition, segment)
        return True

    def _remove(self, partition: int, segment: Segment) -> None:
        self._queues[partition].remove(segment)
        with suppress(OSError):  # as above
            segment.delete()

    def _put_aside(self, partition: int, segment: Segment, damage: Exception) -> None:
        """Keep the file for people; only the last one, as room is limited."""
        self.damaged += 1
        with suppress(OSError):  # it is in the log
            segment.path.replace(self._folders[partition] / _ASIDE)
        log.error("disk buffer damaged, put aside: %s", fields(file=segment.path, error=damage))

    def _recover(self, partition: int) -> None:
        paths = sorted(self._folders[partition].glob(_NUMBERED))
        for path in paths:
            self._numbers[partition] = number = int(path.stem)
            segment = Segment(path, number)
            try:
                segment.recover()
            except DamageError as damage:
                if damage.torn and path == paths[-1]:
                    log.info("a half-written end is cut off: %s", fields(file=path, error=damage))
                    segment.cut(damage.offset)
                else:
                    self._salvage(partition, segment, damage)
            if segment.pending:
                self._queues[partition].append(segment)
            else:
                segment.delete()

    def _salvage(self, partition: int, segment: Segment, damage: DamageError) -> None:
        """Go on with what comes before the damage; whose frames come behind it nobody knows."""
        with segment.path.open("rb") as file:
            whole = file.read(damage.offset)
        self._put_aside(partition, segment, damage)
        segment.path.write_bytes(whole)
        segment.size = len(whole)


def _take(segment: Segment, max_bytes: int) -> Taken | None:
    """The next frames or tick of a segment; None: it has no more."""
    taken = Taken([], {}, None, Position(segment.number, segment.sent_to))
    size = 0
    entries = segment.read(segment.sent_to)
    while segment.pending and size < max_bytes:
        try:
            entry = next(entries, None)
        except DamageError:
            if taken.frames:
                break  # these first
            raise
        if entry is None:
            break
        if entry.topic == SERIES:
            (dictionary_id,) = _ID.unpack_from(entry.record)
            taken.dictionaries[dictionary_id] = entry.record[_ID.size :]
        elif entry.topic == TELEMETRY:
            record = decode_telemetry(entry.record)
            if isinstance(record, Tick):
                return (
                    taken if taken.frames else taken._replace(tick=record, end=_end(segment, entry))
                )
            segment.count(record, -1)
            for i in range(len(record)):
                frame = record.frame(i)
                taken.frames.append((segment.targets[frame.target_id], frame))
            size += len(entry.record)
            taken = taken._replace(end=_end(segment, entry))
    if not taken.frames:
        return None
    segment.oldest_ms = taken.frames[0][1].time_ms
    return taken


def _end(segment: Segment, entry: Entry) -> Position:
    return Position(segment.number, entry.end)
