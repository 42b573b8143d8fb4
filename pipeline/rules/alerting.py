"""Transitions and active alerts as reports for the `alerts` topic.

References
----------
prometheus/rules/manager.go: SendAlerts; prometheus/notifier: Manager.Send (external labels).
"""

from __future__ import annotations

from pipeline.model import Alert, AlertState
from pipeline.rules.alert import ActiveAlert, Kind, Transition
from pipeline.rules.rendering import Expander
from pipeline.rules.rule import AlertingRule
from pipeline.rules.templates import table_link

_STATES: dict[Kind, AlertState] = {
    "pending": "pending",
    "firing": "firing",
    "resolved": "inactive",
    "dropped": "inactive",
}


def report_transition(transition: Transition, expander: Expander, valid_for_ms: int) -> Alert:
    """What is sent at once when an alert changes its state.

    An alert that goes on (pending or firing) is believed for `valid_for_ms` after the report.
    """
    state = _STATES[transition.kind]
    ended = state == "inactive"
    never_fired = transition.kind in ("pending", "dropped")
    return Alert(
        labels=expander.as_sent(transition.labels),
        annotations=expander.annotations(transition.rule, transition.series, transition.value),
        state=state,
        time_ms=transition.reported_at_ms,
        active_at_ms=transition.active_at_ms,
        starts_at_ms=transition.active_at_ms if never_fired else transition.starts_at_ms,
        ends_at_ms=transition.time_ms if ended else transition.reported_at_ms + valid_for_ms,
        value=transition.value,
        sample_time_ms=transition.time_ms,
        group=transition.rule.group,
        generator_url=generator_url(transition.rule, expander),
    )


def report_active(alert: ActiveAlert, expander: Expander, time_ms: int, valid_for_ms: int) -> Alert:
    """What is sent again and again while an alert is pending or firing."""
    return Alert(
        labels=expander.as_sent(alert.labels),
        annotations=expander.annotations(alert.rule, alert.series, alert.value),
        state=alert.state,
        time_ms=time_ms,
        active_at_ms=alert.active_at_ms,
        starts_at_ms=alert.active_at_ms if alert.state == "pending" else alert.starts_at_ms,
        ends_at_ms=time_ms + valid_for_ms,
        value=alert.value,
        sample_time_ms=alert.active_at_ms if alert.state == "pending" else alert.starts_at_ms,
        group=alert.rule.group,
        generator_url=generator_url(alert.rule, expander),
    )


def generator_url(rule: AlertingRule, expander: Expander) -> str:
    """Prometheus' page of the rule's expression, as the rule writes it."""
    return expander.external_url.rstrip("/") + table_link(rule.expr.strip())
