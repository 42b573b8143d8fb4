"""Forecasting: models, calibrated bands and the time left until a limit is crossed."""
