"""Scores and states out again, for Prometheus and its tools."""
