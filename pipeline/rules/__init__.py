"""Prometheus rule files: loading, checking, templates and the state of every alert."""
