"""Label matchers as Prometheus has them: `=`, `!=`, `=~`, `!~`, regular expressions by RE2."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import msgspec
import re2

MatchOperator = Literal["=", "!=", "=~", "!~"]


class Matcher(msgspec.Struct, frozen=True):
    """A condition on one label; a series without the label has it as ""."""

    name: str
    operator: MatchOperator
    value: str
    dot_matches_newline: bool = True
    """True in Prometheus 3, false in 2."""

    def accepts(self, value: str) -> bool:
        match self.operator:
            case "=":
                return value == self.value
            case "!=":
                return value != self.value
            case "=~":
                return _matches(self.value, self.dot_matches_newline, value)
            case "!~":
                return not _matches(self.value, self.dot_matches_newline, value)


def accepts_all(matchers: tuple[Matcher, ...], labels: Mapping[str, str]) -> bool:
    """Whether a series with `labels` satisfies every matcher."""
    for matcher in matchers:  # noqa: SIM110  half the time of all(), and run for every new series
        if not matcher.accepts(labels.get(matcher.name, "")):
            return False
    return True


def check_pattern(pattern: str) -> str | None:
    """Why RE2 refuses `pattern`, or None."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        return reason.decode() if isinstance(reason, bytes) else str(reason)
    return None


@lru_cache(maxsize=65536)
def _matches(pattern: str, dot_matches_newline: bool, value: str) -> bool:
    flags = "(?s)" if dot_matches_newline else ""
    return re2.fullmatch(f"{flags}(?:{pattern})", value) is not None
