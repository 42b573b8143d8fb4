"""`WatchkeeperInputSilent` by the wall clock: the one alert that no data can bring.

When no collector ticks, neither the metric that tells of it nor the time at which a rule would be
evaluated comes in. So the worker raises this alert itself, with the labels and annotations of the
rule of that name: it and Prometheus, which evaluates the rule, speak of one alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from pipeline.model import Alert, Labels
from pipeline.rules.alerting import generator_url
from pipeline.rules.rendering import Expander
from pipeline.rules.rule import AlertingRule, RuleGroup

NAME, LIMIT_S = "WatchkeeperInputSilent", 10.0
_JOB = "watchkeeper"


class _Firing(msgspec.Struct):
    since_ms: int
    sent_ms: int


class SilentInput:
    """Which partitions it fires for. Without a rule of that name it never does."""

    def __init__(
        self,
        groups: Iterable[RuleGroup],
        expander: Expander,
        resend_ms: int,
        valid_for_ms: int,
    ) -> None:
        self._rule = next(
            (
                rule
                for group in groups
                for rule in group.rules
                if isinstance(rule, AlertingRule) and rule.name == NAME
            ),
            None,
        )
        self._expander = expander
        self._resend_ms = resend_ms
        self._valid_for_ms = valid_for_ms
        self._firing: dict[int, _Firing] = {}

    def reports(self, silent_s: Mapping[int, float], now_ms: int) -> list[Alert]:
        """What is to be told at `now_ms` (event time), of each partition's seconds of silence.

        A partition that is not in `silent_s` is another worker's now, which goes on with it.
        """
        if self._rule is None:
            return []
        self._firing = {number: held for number, held in self._firing.items() if number in silent_s}
        alerts: list[Alert] = []
        for number, seconds in silent_s.items():
            held = self._firing.get(number)
            if seconds <= LIMIT_S:
                if held is not None:
                    del self._firing[number]
                    alerts.append(self._alert(self._rule, number, seconds, held, now_ms, now_ms))
                continue
            if held is None:
                held = self._firing[number] = _Firing(now_ms, now_ms)
            elif now_ms - held.sent_ms < self._resend_ms:
                continue
            held.sent_ms = now_ms
            until_ms = now_ms + self._valid_for_ms
            alerts.append(self._alert(self._rule, number, seconds, held, now_ms, until_ms))
        return alerts

    def _alert(
        self,
        rule: AlertingRule,
        number: int,
        seconds: float,
        held: _Firing,
        now_ms: int,
        ends_at_ms: int,
    ) -> Alert:
        series: Labels = (("job", _JOB), ("partition", str(number)))
        labels = self._expander.labels(rule, series, seconds)
        return Alert(
            labels=self._expander.as_sent(labels),
            annotations=self._expander.annotations(rule, series, seconds),
            state="firing" if ends_at_ms > now_ms else "inactive",
            time_ms=now_ms,
            active_at_ms=held.since_ms,
            starts_at_ms=held.since_ms,
            ends_at_ms=ends_at_ms,
            value=seconds,
            sample_time_ms=held.since_ms,
            group=rule.group,
            generator_url=generator_url(rule, self._expander),
        )
