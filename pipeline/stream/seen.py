"""What was last seen of each target and each dictionary, in event time; and what has ended."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np

from pipeline.model import IdArray, IntArray

Age = Literal["new", "duplicate", "late"]

FORGOTTEN_AT_ONCE = 2000
"""Series: forgetting takes microseconds for each, and a tick must not hold records up."""

_STEADY_MS = 60_000
"""A watermark that moves on by more than this at once has skipped evaluations."""

_NOT_YET = np.iinfo(np.int64).min
"""Of a dictionary that no frame has used so far."""


class SeenCut(msgspec.Struct, frozen=True, eq=False):
    """A copy of it all: what was seen when."""

    targets: IdArray
    newest_ms: IntArray
    dictionaries: IdArray
    used_ms: IntArray
    steady_from_ms: int


class Seen:
    """The newest frame of each target, and the last use of each dictionary.

    A dictionary ends when it has not been used for `forget_after_ms`. A frame that lies further
    behind the watermark than `late_after_ms` is late, whoever sent it: its target may have been
    forgotten, and then nobody knows whether it is a duplicate. After a jump of the watermark, as
    when nothing was collected for a while, alerts need some evaluations to end, as long as rules
    look back: until then nothing is forgotten.
    """

    def __init__(self, forget_after_ms: int, late_after_ms: int) -> None:
        """`forget_after_ms` is longer than `late_after_ms` by what rules look back."""
        self._forget_after_ms = forget_after_ms
        self._late_after_ms = late_after_ms
        self._steady_from_ms = _NOT_YET
        self._newest: dict[int, int] = {}
        self._used: OrderedDict[int, int] = OrderedDict()
        """The last used one is last."""

    @property
    def targets(self) -> int:
        return len(self._newest)

    def learn(self, dictionary_id: int) -> None:
        """There is a dictionary that may be used soon."""
        self._used.setdefault(dictionary_id, _NOT_YET)

    def note(
        self, target_id: int, dictionary_id: int, time_ms: int, watermark_ms: int | None
    ) -> Age:
        """Take in a frame: whether it is newer than all before of its target."""
        newest = self._newest.get(target_id)
        if newest is not None and time_ms <= newest:
            return "duplicate" if time_ms == newest else "late"
        if watermark_ms is not None and time_ms < watermark_ms - self._late_after_ms:
            return "late"
        self._newest[target_id] = time_ms
        self._used[dictionary_id] = time_ms
        self._used.move_to_end(dictionary_id)
        return "new"

    def ended(self, before_ms: int | None, watermark_ms: int) -> Iterator[int]:
        """The dictionaries that have ended when the watermark moves on from `before_ms`.

        Those first that were used the longest ago. Each has to be forgotten with `forget` before
        the next is asked for.
        """
        if before_ms is None or watermark_ms - before_ms > _STEADY_MS:
            self._steady_from_ms = watermark_ms + self._forget_after_ms - self._late_after_ms
        if watermark_ms < self._steady_from_ms:
            return
        while self._used:
            dictionary_id, used_ms = next(iter(self._used.items()))
            if used_ms == _NOT_YET:
                self._used[dictionary_id] = watermark_ms
                self._used.move_to_end(dictionary_id)
            elif used_ms < watermark_ms - self._forget_after_ms:
                yield dictionary_id
            else:
                return

    def forget(self, target_id: int, dictionary_id: int) -> None:
        """A dictionary has ended; with the last that its target used, the target."""
        used_ms = self._used.pop(dictionary_id)
        if self._newest.get(target_id, _NOT_YET) <= used_ms:
            self._newest.pop(target_id, None)

    def cut(self) -> SeenCut:
        """A copy of everything as it is now."""
        return SeenCut(
            np.fromiter(self._newest.keys(), np.uint64, len(self._newest)),
            np.fromiter(self._newest.values(), np.int64, len(self._newest)),
            np.fromiter(self._used.keys(), np.uint64, len(self._used)),
            np.fromiter(self._used.values(), np.int64, len(self._used)),
            self._steady_from_ms,
        )

    def content(self) -> Iterator[bytes]:
        """Everything that later steps depend on; for comparing."""
        newest = sorted(self._newest.items())
        yield msgspec.msgpack.encode((newest, list(self._used.items()), self._steady_from_ms))

    def restore(self, cut: SeenCut) -> None:
        """Go on where another was at `cut`."""
        self._newest = dict(zip(cut.targets.tolist(), cut.newest_ms.tolist(), strict=True))
        self._used = OrderedDict(zip(cut.dictionaries.tolist(), cut.used_ms.tolist(), strict=True))
        self._steady_from_ms = cut.steady_from_ms
