"""What the collector counts about itself."""

from prometheus_client import Counter, Gauge, Histogram

SAMPLES = Counter(
    "watchkeeper_samples_total", "Samples taken, by where they come from.", ["source"]
)
FRAMES = Counter("watchkeeper_frames_total", "Frames acknowledged by Kafka.")
SCRAPES = Counter("watchkeeper_scrapes_total", "Scrapes by outcome.", ["outcome"])
REJECTED = Counter(
    "watchkeeper_collect_rejected_total",
    "Inputs and samples that could not be taken, by reason.",
    ["reason"],
)
OVER_LIMIT = Counter(
    "watchkeeper_collect_over_limit_samples_total",
    "Samples dropped because their target has more series than it may have, by target.",
    ["job", "instance", "feed"],
)
FEED_FAILURES = Counter(
    "watchkeeper_collect_feed_failures_total",
    "Connections to feeds that failed or ended, by reason.",
    ["reason"],
)
PROBES = Counter("watchkeeper_probes_total", "Health probes by outcome.", ["outcome"])
DROPPED = Counter(
    "watchkeeper_collect_dropped_frames_total",
    "Frames dropped because the buffer was full or damaged, or a record too large, by target.",
    ["job", "instance", "feed"],
)
BUFFERED = Gauge(
    "watchkeeper_collect_buffered_bytes", "What waits for Kafka, in memory and on disk.", ["where"]
)
BUFFER_LIMIT = Gauge(
    "watchkeeper_collect_buffer_limit_bytes", "What may wait for Kafka at most.", ["where"]
)
BUFFER_OLDEST = Gauge(
    "watchkeeper_collect_buffer_oldest_seconds", "Age of the oldest frame that waits for Kafka."
)
BUFFER_FAILURES = Counter(
    "watchkeeper_collect_buffer_failures_total",
    "Writes that the disk buffer could not do, and damaged files put aside.",
    ["reason"],
)
BATCH_FRAMES = Histogram(
    "watchkeeper_collect_batch_frames",
    "Frames in a record.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
BATCH_BYTES = Histogram(
    "watchkeeper_collect_batch_bytes",
    "Size of a record.",
    buckets=tuple(1 << power for power in range(10, 25, 2)),
)
SEND_FAILURES = Counter(
    "watchkeeper_collect_send_failures_total", "Records that Kafka did not take at first."
)
TARGETS = Gauge("watchkeeper_collect_targets", "Targets that are watched, by kind.", ["kind"])
RESTARTS = Counter(
    "watchkeeper_collect_restarts_total", "Targets whose watching failed and began anew."
)
