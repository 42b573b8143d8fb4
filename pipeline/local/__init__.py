"""A stack on one machine: Kafka, Prometheus, a simulated fleet and the terminal view."""
