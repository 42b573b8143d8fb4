"""What the dispatcher counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ALERTS_RECEIVED = Counter(
    "watchkeeper_alerts_received_total", "Reports of alerts that came in.", ["source"]
)
ALERTS_IGNORED = Counter(
    "watchkeeper_alerts_ignored_total",
    "Reports that changed nothing: invalid, old, late, unknown; echo, doubted, overruled: the word "
    "of the worker or its backstop against the other's.",
    ["reason"],
)
ALERTS_DECIDED = Counter(
    "watchkeeper_alerts_decided_total",
    "Reports that were taken in, by whose word it was: worker, backstop, agreement (of the backstop"
    " with the worker), disagreement, api.",
    ["by"],
)
DISAGREEMENTS = Counter(
    "watchkeeper_backstop_disagreements_total",
    "Alerts that the backstop reported for two group intervals while the worker, which was there, "
    "didn't know of them.",
)
TAKEOVERS = Counter(
    "watchkeeper_backstop_takeovers_total",
    "How often the worker was lost in a partition, so that the backstop decides there.",
)
MARK_AGE = Gauge(
    "watchkeeper_mark_age_seconds",
    "Age of the worker's last word on how far a partition is evaluated; +Inf: none was heard.",
    ["partition"],
)
SLEEPS = Counter(
    "watchkeeper_dispatch_sleeps_total",
    "How often the dispatcher was stopped for long, or its clock jumped.",
)
ALERTS_ACTIVE = Gauge("watchkeeper_alerts_active", "Alerts that fire now.")
GROUPS = Gauge("watchkeeper_alert_groups", "Groups of alerts, emptied ones included.")
OUTBOX = Gauge("watchkeeper_outbox_notifications", "Notifications that are being delivered.")
OLDEST_UNDELIVERED = Gauge(
    "watchkeeper_oldest_undelivered_seconds", "Age of the oldest of them, in event time."
)
NOTIFICATIONS = Counter(
    "watchkeeper_notifications_total",
    "Notifications by how their delivery ended: delivered, refused, gave_up, failed.",
    ["receiver", "outcome"],
)
ATTEMPTS_FAILED = Counter(
    "watchkeeper_notification_attempts_failed_total",
    "Attempts that will be repeated.",
    ["receiver"],
)
LATENCY = Histogram(
    "watchkeeper_notification_latency_seconds",
    "From the sample that made an alert fire to the request that tells it; at speed 1.",
    buckets=(
        0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
    ),
)  # fmt: skip
STORE_ERRORS = Counter("watchkeeper_store_errors_total", "Commits that failed.")
RECORDS_REJECTED = Counter(
    "watchkeeper_alert_records_rejected_total",
    "Records of the alerts topic that could not be read.",
    ["reason"],
)
