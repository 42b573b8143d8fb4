"""The dispatcher: stored alerts, timers, deliveries and Alertmanager's API v2."""
