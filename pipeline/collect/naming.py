"""What a series is called in the end: its own labels, its target's, and metric relabelling."""

from __future__ import annotations

from pipeline.collect.relabel import Relabel, relabel
from pipeline.model import Labels, Series, labels_from

_EXPORTED = "exported_"


class SeriesNaming:
    """Joins the labels of a target's series with those of the target.

    When both have a label, the target's wins and the series' own is kept as `exported_…`; with
    `honor_labels` the series' own wins.
    """

    def __init__(
        self, labels: Labels, honor_labels: bool = False, rules: tuple[Relabel, ...] = ()
    ) -> None:
        self.labels = labels
        self._taken = frozenset(name for name, _ in labels)
        self._honor_labels = honor_labels
        self._rules = rules

    def name(self, series: Series) -> Series | None:
        """The series as it is stored; None if metric relabelling drops it."""
        labels = dict(series.labels)
        if self._honor_labels:
            labels = dict(self.labels) | labels
        else:
            for name, value in self.labels:
                own = labels.get(name)
                if own is not None:
                    exported = _EXPORTED + name
                    while exported in labels or exported in self._taken:
                        exported = _EXPORTED + exported
                    labels[exported] = own
                labels[name] = value
        if self._rules:
            kept = relabel(labels, self._rules)
            if kept is None or "__name__" not in kept:
                return None
            labels = kept
        return Series(labels_from(labels), series.kind, series.unit)

    def report(self, name: str) -> Series:
        """A series about the target itself, which no relabelling touches."""
        return Series(labels_from({**dict(self.labels), "__name__": name}), "gauge")
