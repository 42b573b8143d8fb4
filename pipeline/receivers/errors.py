"""How a delivery can fail.

DeliveryError
├── RetryableError   the receiver may take it later: timeouts, closed connections, 5xx
└── PermanentError   the receiver refuses it: repeating at once is no use
"""

from __future__ import annotations


class DeliveryError(Exception):
    """A message that was not delivered. The text names no address: it may hold a secret."""


class RetryableError(DeliveryError):
    """Worth another attempt, not before `retry_after` seconds of wall time if the receiver said."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(DeliveryError):
    """Not worth another attempt before the group is flushed again."""
