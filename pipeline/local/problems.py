"""What keeps a local stack from starting, and the exit codes that `cli.py` documents."""

from __future__ import annotations

EXIT_DONE, EXIT_FAILED, EXIT_SETTINGS, EXIT_MISSING = 0, 1, 3, 4


class MissingError(RuntimeError):
    """A port is taken or a part is missing; the message says which, and what to do."""


class TopicError(RuntimeError):
    """Topics that aren't as the settings want them, or can't be created; one line for each."""


class StartError(RuntimeError):
    """A part that was started does not work; the message has the end of its log."""
