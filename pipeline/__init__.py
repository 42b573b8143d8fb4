"""Watchkeeper: node metrics and telemetry in, anomaly scores and Prometheus alerts out."""

__version__ = "0.1.0"
