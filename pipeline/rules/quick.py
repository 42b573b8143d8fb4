"""Templates of plain text and simple actions, rendered without Go's machine.

Nearly every rule says no more than `{{ $labels.instance }}` and `{{ $value }}`. The general way
(`pipeline.rules.templates`) takes a hundred times as long for them, at the very moment when an
alert should leave. A text that is taken here comes out as it would there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from pipeline.rules import humanize

LONGEST_TEXT = 5_000
"""Characters of a template that is taken; the general way's limits are far beyond."""
LONGEST_RESULT = 100_000
"""Characters; what is longer fails there too."""

_Labels = Mapping[str, str]
_Part = Callable[[float, _Labels, _Labels], str]
"""What stands for an action: value, labels and external labels give its text."""

_HUMANIZE: dict[str, Callable[[float], str]] = {
    "humanize": humanize.humanize,
    "humanize1024": humanize.humanize1024,
    "humanizeDuration": humanize.humanize_duration,
    "humanizePercentage": humanize.humanize_percentage,
    "humanizeTimestamp": humanize.humanize_timestamp,
}
_SPACE = " \t\r\n"
_GRAMMAR = r"""
    \{\{ (?P<trim_before> -(?=SPACE) )? SPACE* (?:
        \$value | \.Value
      | (?: \$value | \.Value ) SPACE* \| SPACE* (?P<piped> FUNCTION )
      | (?P<called> FUNCTION ) SPACE+ (?: \$value | \.Value )
      | (?: \$labels | \.Labels ) (?: \.(?P<label> NAME ) | (?P<labels>) )
      | (?: \$externalLabels | \.ExternalLabels ) (?: \.(?P<outer> NAME ) | (?P<outers>) )
    ) SPACE* (?P<trim_after> (?<=SPACE)- )? \}\}
"""
_FUNCTION = rf'(?: {"|".join(_HUMANIZE)} | printf SPACE+ "%\.\d\d?[efg]" )'
_ACTION = re.compile(
    _GRAMMAR.replace("FUNCTION", _FUNCTION)
    .replace("NAME", "[A-Za-z_][A-Za-z0-9_]*")
    .replace("SPACE", r"[ \t\r\n]"),
    re.VERBOSE | re.ASCII,
)


def render_quickly(
    text: str, value: float, labels: _Labels, external_labels: _Labels
) -> str | None:
    """The rendered template; None if that is left to the general way, as every failure is."""
    parts = _parsed(text)
    if parts is None:
        return None
    try:
        rendered = "".join(
            [
                part if isinstance(part, str) else part(value, labels, external_labels)
                for part in parts
            ]
        )
    except ValueError:
        return None
    return rendered if len(rendered) <= LONGEST_RESULT else None


@lru_cache(maxsize=10_000)
def _parsed(text: str) -> tuple[str | _Part, ...] | None:
    """Literal texts and actions in turn; None if there is anything but simple actions."""
    if len(text) > LONGEST_TEXT:
        return None
    parts: list[str | _Part] = []
    end, trim_after = 0, False
    while (start := text.find("{{", end)) >= 0:
        action = _ACTION.match(text, start)
        if action is None:
            return None
        parts.append(_literal(text[end:start], trim_after, action["trim_before"] is not None))
        parts.append(_part(action))
        end, trim_after = action.end(), action["trim_after"] is not None
    parts.append(_literal(text[end:], trim_after, False))
    return tuple(part for part in parts if part != "")


def _literal(text: str, trim_start: bool, trim_end: bool) -> str:
    text = text.lstrip(_SPACE) if trim_start else text
    return text.rstrip(_SPACE) if trim_end else text


def _part(action: re.Match[str]) -> _Part:
    function = action["piped"] or action["called"]
    if function is not None:
        return partial(_applied, _function(function))
    if action["labels"] is not None:
        return _all_labels
    if action["outers"] is not None:
        return _all_external_labels
    if action["label"] is not None:
        return partial(_label, action["label"])
    if action["outer"] is not None:
        return partial(_external_label, action["outer"])
    return partial(_applied, humanize.shortest)


def _function(written: str) -> Callable[[float], str]:
    if written.startswith("printf"):
        return partial(humanize.formatted, directive=written.split("%")[1].rstrip('"'))
    return _HUMANIZE[written]


def _applied(
    function: Callable[[float], str], value: float, _labels: _Labels, _external: _Labels
) -> str:
    return function(value)


def _label(name: str, _value: float, labels: _Labels, _external: _Labels) -> str:
    return labels.get(name, "")


def _external_label(name: str, _value: float, _labels: _Labels, external: _Labels) -> str:
    return external.get(name, "")


def _all_labels(_value: float, labels: _Labels, _external: _Labels) -> str:
    return _go_map(labels)


def _all_external_labels(_value: float, _labels: _Labels, external: _Labels) -> str:
    return _go_map(external)


def _go_map(labels: _Labels) -> str:
    pairs = " ".join([f"{name}:{labels[name]}" for name in sorted(labels)])
    return f"map[{pairs}]"
