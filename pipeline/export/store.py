"""Scores and alert states as Prometheus' text format: updates in, an exposition out.

Pure: event time is an argument. A frame's scores replace those of the frame before; columns that
it leaves out scored below what is published.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from pipeline.codec import dictionary_key
from pipeline.model import Alert, Labels, Scores, SeriesDictionary

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})

_SCORE_HEAD = (
    "# HELP anomaly_score How unusual a series' last values are; above 1 is anomalous.\n"
    "# TYPE anomaly_score gauge\n"
)
_ACTIVE_HEAD = (
    "# HELP watchkeeper_alert_active 1 for each alert that is pending or firing.\n"
    "# TYPE watchkeeper_alert_active gauge\n"
)
_ALERTS_HEAD = (
    "# HELP watchkeeper_alerts Alerts that are pending or firing.\n"
    "# TYPE watchkeeper_alerts gauge\n"
)


class Exposition(msgspec.Struct, frozen=True):
    """What Prometheus reads, and what it doesn't: why scores were left out."""

    text: str
    over_limit: int = 0
    unknown_series: int = 0


class Store:
    """The newest scores and alerts; what is no longer renewed goes."""

    def __init__(self, score_lifetime_ms: int, max_series: int) -> None:
        self._lifetime_ms = score_lifetime_ms
        self._max_series = max_series
        self._dictionaries: dict[int, SeriesDictionary] = {}
        self._label_texts: dict[int, dict[int, str]] = {}
        self._scores: dict[tuple[int, int], Scores] = {}
        self._alerts: dict[int, Alert] = {}

    def add_dictionary(self, dictionary: SeriesDictionary) -> None:
        self._dictionaries[dictionary.id] = dictionary

    def remove_dictionary(self, key: bytes) -> None:
        """Forget the dictionary with this key in the topic `series`."""
        found = [known for known in self._dictionaries if dictionary_key(known) == key]
        for dictionary_id in found:
            del self._dictionaries[dictionary_id]

    def add_scores(self, scores: Scores) -> None:
        """Take a frame's scores; its dictionary may come later."""
        key = scores.target_id, scores.dictionary_id
        held = self._scores.get(key)
        if held is None or held.time_ms <= scores.time_ms:
            self._scores[key] = scores

    def add_alert(self, alert: Alert) -> None:
        """Take a report, unless a newer one of the same alert is held."""
        held = self._alerts.get(alert.fingerprint)
        if held is None or held.time_ms <= alert.time_ms:
            self._alerts[alert.fingerprint] = alert

    def render(self, now_ms: int) -> Exposition:
        """What is to be seen at `now_ms`; forgets what has not been renewed."""
        self._forget(now_ms)
        series, unknown = self._score_lines()
        over = max(0, len(series) - self._max_series)
        if over:
            highest = sorted(series.items(), key=lambda item: (-item[1], item[0]))
            series = dict(highest[: self._max_series])
        scores = "".join(
            [f"anomaly_score{{{labels}}} {score:.6g}\n" for labels, score in series.items()]
        )
        return Exposition(_SCORE_HEAD + scores + self._alert_lines(now_ms), over, unknown)

    def _forget(self, now_ms: int) -> None:
        oldest = now_ms - self._lifetime_ms
        self._scores = {k: held for k, held in self._scores.items() if held.time_ms >= oldest}
        self._alerts = {k: held for k, held in self._alerts.items() if held.ends_at_ms >= oldest}
        live = {dictionary_id for _, dictionary_id in self._scores}
        self._label_texts = {k: texts for k, texts in self._label_texts.items() if k in live}

    def _score_lines(self) -> tuple[dict[str, float], int]:
        """Score by label text; where two dictionaries name a series the newer frame counts."""
        series: dict[str, float] = {}
        unknown = 0
        for scores in sorted(self._scores.values(), key=lambda held: held.time_ms):
            dictionary = self._dictionaries.get(scores.dictionary_id)
            if dictionary is None:
                unknown += len(scores.scores)
                continue
            texts = self._label_texts.setdefault(scores.dictionary_id, {})
            for column, score in zip(scores.columns.tolist(), scores.scores.tolist(), strict=True):
                text = texts.get(column)
                if text is None:
                    if column >= len(dictionary.series):
                        unknown += 1
                        continue
                    text = texts[column] = score_labels(dictionary.series[column].labels)
                series[text] = score
        return series, unknown

    def _alert_lines(self, now_ms: int) -> str:
        active = [
            alert
            for alert in self._alerts.values()
            if alert.state != "inactive" and alert.ends_at_ms > now_ms
        ]
        lines = sorted(
            {
                label_text([*_without(alert.labels, "alertstate"), ("alertstate", alert.state)])
                for alert in active
            }
        )
        counts = Counter(
            (labels.get("alertname", ""), alert.state, labels.get("severity", ""))
            for alert in active
            for labels in [dict(alert.labels)]
        )
        return (
            _ACTIVE_HEAD
            + "".join([f"watchkeeper_alert_active{{{text}}} 1\n" for text in lines])
            + _ALERTS_HEAD
            + "".join(
                [
                    "watchkeeper_alerts{"
                    + label_text(zip(("alertname", "alertstate", "severity"), key, strict=True))
                    + f"}} {count}\n"
                    for key, count in sorted(counts.items())
                ]
            )
        )


def score_labels(labels: Labels) -> str:
    """The labels of a series' score: its own, with its name as `for`.

    A label `for` of its own becomes `exported_for`, as in a scrape.

    >>> score_labels((("__name__", "up"), ("job", "node")))
    'for="up",job="node"'
    """
    name = dict(labels).get("__name__", "")
    own = [
        ("exported_for" if label == "for" else label, value)
        for label, value in _without(labels, "__name__")
    ]
    return label_text([("for", name), *own])


def label_text(labels: list[tuple[str, str]] | zip[tuple[str, str]]) -> str:
    r"""Labels in the text format; characters that it can't have in a name become `_`.

    >>> label_text([("path", 'C:\\"x"'), ("k8s.pod", "a")])
    'path="C:\\\\\\"x\\"",k8s_pod="a"'
    """
    return ",".join(
        [f'{_NOT_IN_NAMES.sub("_", name)}="{value.translate(_ESCAPES)}"' for name, value in labels]
    )


def _without(labels: Labels, left_out: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in labels if name != left_out]
