"""The worker's own metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

FRAMES = Counter(
    "watchkeeper_frames_processed_total",
    "Frames read from telemetry, by what became of them",
    ["outcome"],
)
SAMPLES = Counter("watchkeeper_samples_processed_total", "Samples scored and given to the rules")
ANOMALIES = Counter("watchkeeper_anomalies_total", "Samples whose anomaly score was above 1")
REJECTED = Counter(
    "watchkeeper_records_rejected_total",
    "Records and frames sent to the rejected topic, by reason",
    ["topic", "reason"],
)
REPEATED = Counter(
    "watchkeeper_records_repeated_total",
    "Records that were seen again after a rebalance and skipped",
    ["topic"],
)
RULE_FAILURES = Counter("watchkeeper_rule_evaluation_failures_total", "Evaluations that failed")
ALERTS_SENT = Counter(
    "watchkeeper_alert_reports_total",
    "Reports of alerts sent to the dispatcher, by state",
    ["state"],
)
ASSIGNED = Gauge("watchkeeper_partitions_assigned", "Partitions that this worker owns", ["topic"])
LAG = Gauge(
    "watchkeeper_kafka_lag_records",
    "Records between what was processed and the end of the partition",
    ["topic", "partition"],
)
WATERMARK = Gauge(
    "watchkeeper_watermark_timestamp_seconds", "How far event time has come", ["partition"]
)
SILENT = Gauge(
    "watchkeeper_input_silent_seconds",
    "Wall time since the last tick in a partition of telemetry that is read to its end",
    ["partition"],
)
STALLED = Gauge(
    "watchkeeper_commits_stalled_seconds",
    "Wall time for which a partition has had lag while nothing was committed in it",
    ["topic", "partition"],
)
ACTIVE_ALERTS = Gauge("watchkeeper_active_alerts", "Alerts of this worker, by state", ["state"])
STEP_SECONDS = Histogram(
    "watchkeeper_step_duration_seconds",
    "Time for detection and rules of one record",
    buckets=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
)
