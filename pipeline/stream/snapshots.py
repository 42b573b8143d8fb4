"""Snapshots in a folder or at any fsspec URL: written whole or not at all, the last two kept."""

from __future__ import annotations

import logging
import os
import re
import uuid
from contextlib import suppress

import fsspec
from prometheus_client import Counter

from pipeline.selfmetrics import fields
from pipeline.stream.snapshot import Snapshot, SnapshotError, decode, encode

log = logging.getLogger(__name__)

PUT_ASIDE = Counter(
    "watchkeeper_snapshots_put_aside_total",
    "Snapshots that could not be used, by reason; the one before was tried",
    ["reason"],
)

_KEPT = 2
_NAME = re.compile(r"(?P<topic>[\w.-]+)-(?P<partition>\d+)-(?P<offset>\d{20})\.snapshot")


class SnapshotStore:
    """All snapshots of a cluster. Every method blocks: call them in a thread."""

    def __init__(self, url: str, topic_prefix: str) -> None:
        self._files, self._folder = fsspec.core.url_to_fs(url)
        self._local = "file" in self._files.protocol
        self._prefix = topic_prefix

    def save(self, snapshot: Snapshot) -> int:
        """Write `snapshot`, durably, then remove those before the last two; its size in bytes.

        Raises
        ------
        OSError
            If it can't be written; nothing is left behind.
        """
        topic = self._prefix + snapshot.topic
        name = f"{topic}-{snapshot.partition}-{snapshot.offset:020d}.snapshot"
        self._files.makedirs(self._folder, exist_ok=True)
        temporary = self._path(f"{name}.{uuid.uuid4().hex}.tmp")
        try:
            size = self._write(temporary, snapshot)
            self._files.mv(temporary, self._path(name))
        except OSError:
            with suppress(OSError):
                self._files.rm_file(temporary)
            raise
        if self._local:
            _sync_folder(self._folder)
        for old in self._names(topic, snapshot.partition)[:-_KEPT]:
            with suppress(FileNotFoundError):
                self._files.rm_file(self._path(old))
        return size

    def load(self, topic: str, partition: int, end: int) -> list[Snapshot]:
        """The snapshots of a partition that can be read, the newest first.

        One that can't is put aside, and so is one that is ahead of `end`, where its topic ends: the
        topic has been made anew since.
        """
        usable: list[Snapshot] = []
        for name in reversed(self._names(self._prefix + topic, partition)):
            try:
                snapshot = decode(self._files.cat_file(self._path(name)))
                if snapshot.offset > end:
                    raise SnapshotError(
                        "ahead", f"it is as of offset {snapshot.offset}, the topic ends at {end}"
                    )
            except FileNotFoundError:
                continue  # another worker has just removed it
            except SnapshotError as error:
                self._files.mv(self._path(name), self._path(f"{name}.corrupt"))
                PUT_ASIDE.labels(error.reason).inc()
                log.warning(fields(event="snapshot_put_aside", name=name, error=error))
                continue
            usable.append(snapshot)
        return usable

    def _write(self, path: str, snapshot: Snapshot) -> int:
        size = 0
        with self._files.open(path, "wb") as file:
            for part in encode(snapshot):
                file.write(part)
                size += part.nbytes
            if self._local:
                file.flush()
                os.fsync(file.fileno())
        return size

    def _names(self, topic: str, partition: int) -> list[str]:
        """The files of a partition, oldest first."""
        try:
            paths = self._files.ls(self._folder, detail=False, refresh=True)
        except FileNotFoundError:
            return []
        names = [path.rsplit("/", 1)[-1] for path in paths]
        found = [(match, name) for name in names if (match := _NAME.fullmatch(name))]
        return sorted(
            name
            for match, name in found
            if match["topic"] == topic and int(match["partition"]) == partition
        )

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"


def _sync_folder(folder: str) -> None:
    """Make a rename in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
