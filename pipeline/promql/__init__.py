"""PromQL compiled to plans over arrays: what Prometheus would answer, at the time of each frame."""
