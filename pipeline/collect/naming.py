"""What a series is called in the end: its own labels, its target's, and metric relabelling."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

from pipeline.collect.relabel import Relabel, relabel
from pipeline.model import Labels, Series, labels_from

_EXPORTED = "exported_"
_REMEMBERED_ORDERS = 1000


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
        self._orders: dict[tuple[str, ...], Callable[[Labels], Labels]] = {}
        """By the names of a series' own labels: what sorts these with the target's behind them."""

    def name(self, series: Series) -> Series | None:
        """The series as it is stored; None if metric relabelling drops it."""
        names = tuple([name for name, _ in series.labels])
        order = self._orders.get(names)
        if order is not None:
            return Series(order(series.labels + self.labels), series.kind, series.unit)
        if self._rules or not self._taken.isdisjoint(names):
            return self._name_by_the_rules(series)
        if len(self._orders) >= _REMEMBERED_ORDERS:
            self._orders.clear()
        together = names + tuple(name for name, _ in self.labels)
        positions = sorted(range(len(together)), key=together.__getitem__)
        if len(positions) > 1:  # else an itemgetter gives no tuple
            self._orders[names] = itemgetter(*positions)
        return Series(labels_from(dict(series.labels + self.labels)), series.kind, series.unit)

    def _name_by_the_rules(self, series: Series) -> Series | None:
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
