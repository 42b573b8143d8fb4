"""Passwords and tokens: held so that nothing shows them, and read from files anew at each use."""

from __future__ import annotations

from pathlib import Path

MAX_SECRET_BYTES = 64 * 1024


class SecretError(ValueError):
    """A file that should hold a secret and doesn't; the message names the file, never its text."""


class Secret:
    """A text that `repr`, `str`, formatting and msgspec's encoders don't show.

    >>> password = Secret("hunter2")
    >>> f"{password} {password!r}", password.value
    ('<secret> <secret>', 'hunter2')
    """

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    @property
    def value(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "<secret>"


def read_secret(value: Secret, file: str) -> str:
    """`value`, or what stands in `file` if one is named, so that it can be replaced.

    Raises
    ------
    SecretError
        The file can't be read, is empty, or holds more than one line of text.
    """
    if not file:
        return value.value
    try:
        with Path(file).open("rb") as source:
            text = source.read(MAX_SECRET_BYTES + 1).decode("utf-8").strip()
    except OSError as error:
        raise SecretError(f"{file}: expected a readable secret: {error.strerror}") from error
    except UnicodeDecodeError:
        # Its cause is left out: it holds the text.
        raise SecretError(f"{file}: expected a readable secret: it is not UTF-8") from None
    if not text:
        raise SecretError(f"{file}: expected a readable secret: the file is empty")
    if len(text) >= MAX_SECRET_BYTES or not text.isprintable():
        raise SecretError(f"{file}: expected a readable secret: one line of text")
    return text
