"""Anomaly detection: pure functions over arrays that hold the state of every series."""
