"""Whether the worker gets on: offsets that stand still while there is lag, input that is silent.

The wall clock is used here, and only here: it decides about this process, never about an alert's
timers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

Place = tuple[str, int]
"""Topic without prefix, and partition."""


class Standing(msgspec.Struct, frozen=True):
    """How far a consumer group is in a partition."""

    committed: int
    """0 if nothing was ever committed."""
    end: int

    @property
    def lag(self) -> int:
        return max(0, self.end - self.committed)


class Progress:
    """Since when each partition has had lag while nothing was committed in it."""

    def __init__(self) -> None:
        self._since: dict[Place, tuple[int, float]] = {}

    def observe(self, now_s: float, standings: Mapping[Place, Standing]) -> dict[Place, float]:
        """Seconds for which each partition that has lag has stood still.

        Partitions that aren't in `standings` are forgotten: they are another worker's.
        """
        since: dict[Place, tuple[int, float]] = {}
        for place, standing in standings.items():
            committed, began_s = self._since.get(place, (-1, now_s))
            moved = standing.committed != committed or standing.lag == 0
            since[place] = (standing.committed, now_s if moved else began_s)
        self._since = since
        return {
            place: now_s - began_s
            for place, (_, began_s) in since.items()
            if standings[place].lag > 0
        }


_LONG = 10
"""Times its patience a worker waits for a partition while others move, or while it restores it: a
restart would begin from the start again."""


def stuck(
    stalled_s: Mapping[Place, float], restored: Iterable[Place], patience_s: float
) -> list[Place]:
    """Partitions for which the worker has to end, so that its supervisor starts it anew.

    These are all that have lag, if none of them has moved within `patience_s`; or any that has not
    moved for ten times as long. A worker that is merely slow in one of them goes on.
    """
    ready = set(restored)
    lost = [place for place, seconds in stalled_s.items() if seconds > _LONG * patience_s]
    if all(place in ready and seconds > patience_s for place, seconds in stalled_s.items()):
        lost = list(stalled_s)
    return sorted(lost)


class Silence:
    """For how long no tick has come in a partition that has nothing left to be read."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[int | None, float]] = {}

    def observe(
        self, now_s: float, watermarks_ms: Mapping[int, int | None], behind: Iterable[int]
    ) -> dict[int, float]:
        """Seconds of silence of each partition in `watermarks_ms`.

        In those of `behind` it is not the input that is silent: the worker has not read it yet.
        """
        late = set(behind)
        heard: dict[int, tuple[int | None, float]] = {}
        for number, watermark_ms in watermarks_ms.items():
            known_ms, at_s = self._heard.get(number, (None, now_s))
            sounds = watermark_ms != known_ms or number in late
            heard[number] = (watermark_ms, now_s if sounds else at_s)
        self._heard = heard
        return {number: now_s - at_s for number, (_, at_s) in heard.items()}
