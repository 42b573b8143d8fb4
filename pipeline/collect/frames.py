"""Readings of one target to frames: columns, stale markers, dictionaries. Time is an argument.

A target's columns stay while its series come and go: a series that is missing is `STALE` once and
then `ABSENT`, and has its column back when it returns. When many columns are empty, those are given
up. So an endpoint whose series flap needs no new dictionary for each scrape.
"""

from __future__ import annotations

from itertools import compress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.collect.naming import SeriesNaming
from pipeline.ingest.readings import Readings
from pipeline.model import (
    ABSENT,
    STALE,
    FloatArray,
    Frame,
    IntArray,
    Series,
    SeriesDictionary,
    Target,
)

SCRAPE_REPORT = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
OWN_TIME = "#own-time"
"""Ends the feed of samples that expose a time of their own, because they have their own order."""
MAX_AHEAD_MS = 600_000
"""As in Prometheus (scrape/scrape.go: maxAheadTime)."""
ENDED_AFTER_MS = 300_000
"""A series that no message of its feed had for this long has ended (Prometheus' lookback)."""
_SPARE_COLUMNS = 32
_REMEMBERED_LAYOUTS, _SMALL_LAYOUT = 8, 200
"""A feed has a few small layouts in turn, one for each type of message; a scrape has one."""
_UNNAMED = Series(())

BoolArray = npt.NDArray[np.bool_]


class Built(NamedTuple):
    """Frames to send, the dictionaries that have to be known before them, and what was left out."""

    frames: tuple[Frame, ...] = ()
    dictionaries: tuple[SeriesDictionary, ...] = ()
    dropped: int = 0
    """Samples of series that are more than the target may have."""
    duplicates: int = 0
    """Samples of a series that the same input had before."""
    late: int = 0
    """Samples whose own time isn't newer than the last one sent."""
    ahead: int = 0
    """Samples whose own time lies too far ahead."""

    def __add__(self, other: object) -> Built:
        """Both, in order."""
        if not isinstance(other, Built):
            return NotImplemented
        return Built(
            self.frames + other.frames,
            self.dictionaries + other.dictionaries,
            self.dropped + other.dropped,
            self.duplicates + other.duplicates,
            self.late + other.late,
            self.ahead + other.ahead,
        )


class _Placement(NamedTuple):
    """Where the samples of a layout go: sample `kept[i]` into column `columns[i]`."""

    kept: IntArray
    columns: IntArray
    dropped: int
    duplicates: int


class FrameBuilder:
    """Builds the frames of one target."""

    def __init__(self, target: Target, naming: SeriesNaming, max_series: int = 100_000) -> None:
        self.target = target
        self._naming = naming
        self._max_series = max_series
        self._report = tuple(naming.report(name) for name in SCRAPE_REPORT)
        self._names: dict[Series, Series | None] = {}
        self._columns: dict[Series, int] = {}
        self._going_on: BoolArray = np.zeros(0, dtype=np.bool_)
        """Columns that had a sample and haven't ended."""
        self._seen_ms: IntArray = np.zeros(0, dtype=np.int64)
        self._placements: list[tuple[tuple[Series, ...], _Placement]] = []
        self._report_columns: IntArray | None = None
        self._dictionary: SeriesDictionary | None = None
        self.last_ms = -1
        """Time of the last frame."""
        self._own_time: FrameBuilder | None = None

    def scrape(self, readings: Readings | None, time_ms: int, duration_s: float) -> Built:
        """The frame of one scrape with the five series of its report; None: the scrape failed.

        Series that the scrape before had and this one hasn't are `STALE`. Samples with a time of
        their own make frames of their own, of the target whose feed ends in `OWN_TIME`.
        """
        self._give_up_columns()
        if self._report_columns is None:
            columns = [self._column(series) for series in self._report]
            self._report_columns = np.array(columns, dtype=np.int64)
        up, samples, timed = 0, 0, Built()
        if readings is None:
            readings = Readings((), np.empty(0))
        else:
            up, samples = 1, len(readings.series)
            readings, timed = self._without_own_time(readings, time_ms + MAX_AHEAD_MS)
        values, placement, added = self._complete(readings, self._report_columns)
        stored = samples - len(readings.series) + len(placement.columns)
        values[self._report_columns] = (up, duration_s, samples, stored, added)
        return timed + self._built(values, time_ms, placement)

    def complete(self, readings: Readings, time_ms: int) -> Built:
        """The frame of a probe: as `scrape`, but without a report."""
        self._give_up_columns()
        values, placement, _ = self._complete(readings, np.zeros(0, dtype=np.int64))
        return self._built(values, time_ms, placement)

    def _complete(self, readings: Readings, report: IntArray) -> tuple[FloatArray, _Placement, int]:
        """The values of a frame that says everything, but for the report; and how many are new."""
        placement = self._place(readings.series, complete=True)
        before = self._widen()
        added = len(placement.columns) - int(np.count_nonzero(before[placement.columns]))
        self._going_on = np.zeros(len(before), dtype=np.bool_)
        self._going_on[placement.columns] = True
        self._going_on[report] = True
        values = self._values(stale=before & ~self._going_on)
        values[placement.columns] = readings.values[placement.kept]
        return values, placement, added

    def message(self, readings: Readings, time_ms: int) -> Built:
        """The frame of one message of a feed: columns that it doesn't mention are `ABSENT`.

        A message of the same millisecond as the one before is put a millisecond later, because a
        frame that isn't newer than the last one counts as a duplicate.
        """
        self._give_up_columns()
        time_ms = max(time_ms, self.last_ms + 1)
        placement = self._place(readings.series, complete=False)
        before = self._widen()
        self._seen_ms[placement.columns] = time_ms
        ended = before & (self._seen_ms < time_ms - ENDED_AFTER_MS)
        self._going_on = before & ~ended
        self._going_on[placement.columns] = True
        values = self._values(stale=ended)
        values[placement.columns] = readings.values[placement.kept]
        return self._built(values, time_ms, placement)

    def end(self, time_ms: int) -> Built:
        """Every series that goes on is `STALE`: the feed is down, or the target is gone."""
        if not self._going_on.any():
            return Built()
        values = self._values(stale=self._widen())
        self._going_on = np.zeros(len(values), dtype=np.bool_)
        return self._built(values, max(time_ms, self.last_ms + 1))

    def _without_own_time(self, readings: Readings, latest_ms: int) -> tuple[Readings, Built]:
        """The samples without a time of their own, and the frames of the others."""
        if readings.times_ms is None:
            return readings, Built()
        if self._own_time is None:
            target = Target(self.target.job, self.target.instance, self.target.feed + OWN_TIME)
            self._own_time = FrameBuilder(target, self._naming, self._max_series)
        built = Built()
        for time_ms in np.unique(readings.times_ms[readings.times_ms != 0]).tolist():
            timed = _part(readings, readings.times_ms == time_ms)
            if time_ms > latest_ms:
                built += Built(ahead=len(timed.series))
            elif time_ms <= self._own_time.last_ms:
                built += Built(late=len(timed.series))
            else:
                built += self._own_time.message(timed, time_ms)
        return _part(readings, readings.times_ms == 0), built

    def _place(self, layout: tuple[Series, ...], *, complete: bool) -> _Placement:
        """The columns of a layout's samples."""
        for known, placement in self._placements:
            if known is layout or known == layout:
                return placement
        named = self._named(layout)
        width = len(self._columns)
        placement = self._place_new(named, complete=complete)
        if len(self._columns) > width:
            self._dictionary = None
        if not placement.dropped:
            others = _REMEMBERED_LAYOUTS - 1 if len(layout) <= _SMALL_LAYOUT else 0
            self._placements = [(layout, placement), *self._placements[:others]]
        return placement

    def _place_new(self, layout: list[Series | None], *, complete: bool) -> _Placement:
        """The columns of a layout's samples, new ones for new series; None: not stored.

        The target may have `max_series`: those of the layout, if it is complete, else also those
        that go on without being in it.
        """
        columns = self._columns
        kept: dict[int, int] = {}
        dropped = duplicates = 0
        series_count = 0 if complete else int(np.count_nonzero(self._going_on))
        for position, series in enumerate(layout):
            if series is None:
                continue
            column = columns.get(series)
            if column is None:
                if series_count >= self._max_series:
                    dropped += 1
                    continue
                column = columns[series] = len(columns)
                series_count += 1
            elif column in kept:
                duplicates += 1
                continue
            elif complete:
                series_count += 1
            kept[column] = position
        return _Placement(
            np.fromiter(kept.values(), np.int64, len(kept)),
            np.fromiter(kept.keys(), np.int64, len(kept)),
            dropped,
            duplicates,
        )

    def _named(self, layout: tuple[Series, ...]) -> list[Series | None]:
        """The series of a layout as they are stored."""
        names = self._names
        if len(names) > 2 * len(layout) + 1000:
            names.clear()
        result: list[Series | None] = []
        for series in layout:
            named = names.get(series, _UNNAMED)
            if named is _UNNAMED:
                named = names[series] = self._naming.name(series)
            result.append(named)
        return result

    def _column(self, series: Series) -> int:
        """The column of a series, a new one if it has none."""
        column = self._columns.setdefault(series, len(self._columns))
        if column >= len(self._going_on):
            self._dictionary = None
        return column

    def _widen(self) -> BoolArray:
        """`_going_on` with all columns there are now."""
        more = len(self._columns) - len(self._going_on)
        if more:
            self._going_on = np.append(self._going_on, np.zeros(more, dtype=np.bool_))
            self._seen_ms = np.append(self._seen_ms, np.zeros(more, dtype=np.int64))
        return self._going_on

    def _give_up_columns(self) -> None:
        """Forget the columns of ended series, once they are many."""
        current = int(np.count_nonzero(self._going_on))
        if len(self._going_on) - current <= max(_SPARE_COLUMNS, current // 2):
            return
        kept = compress(self._columns, self._going_on.tolist())
        self._columns = {series: column for column, series in enumerate(kept)}
        self._seen_ms = self._seen_ms[self._going_on]
        self._going_on = np.ones(len(self._columns), dtype=np.bool_)
        self._placements = []
        self._report_columns = None
        self._dictionary = None

    def _values(self, stale: BoolArray) -> FloatArray:
        values = np.empty(len(stale))
        values[:] = ABSENT
        values[stale] = STALE
        return values

    def _built(
        self, values: FloatArray, time_ms: int, placement: _Placement | None = None
    ) -> Built:
        self.last_ms = time_ms
        new: tuple[SeriesDictionary, ...] = ()
        if self._dictionary is None:
            self._dictionary = SeriesDictionary(self.target, tuple(self._columns))
            new = (self._dictionary,)
        frame = Frame(self.target.id, self._dictionary.id, time_ms, values)
        if placement is None:
            return Built((frame,), new)
        return Built((frame,), new, placement.dropped, placement.duplicates)


def _part(readings: Readings, where: BoolArray) -> Readings:
    series = tuple(readings.series[i] for i in np.flatnonzero(where).tolist())
    return Readings(series, readings.values[where])
