"""Relabelling, as Prometheus 2.42 does it. A label with an empty value is a label that isn't there.

References
----------
prometheus/model/relabel/relabel.go; Go's regexp.Expand for `$1` and `${name}` in replacements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import md5
from typing import Literal

import msgspec
import re2

Action = Literal[
    "replace", "keep", "drop", "labelmap", "labeldrop", "labelkeep", "hashmod",
    "lowercase", "uppercase", "keepequal", "dropequal",
]  # fmt: skip

_QUIET = re2.Options()
_QUIET.log_errors = False  # a bad expression is reported with its place instead
_REFERENCE = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))", re.ASCII)
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_NEEDS_TARGET = ("replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal")


class RelabelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of `relabel_configs` or `metric_relabel_configs`."""

    source_labels: tuple[str, ...] = ()
    separator: str = ";"
    target_label: str = ""
    regex: str = "(.*)"
    modulus: int = 0
    replacement: str = "$1"
    action: Action = "replace"


class Relabel:
    """One rule, checked and compiled."""

    def __init__(self, config: RelabelConfig) -> None:
        """Compile `config`.

        Raises
        ------
        ValueError
            It can't do what it says; the message begins with the key.
        """
        self.config = config
        if config.action in _NEEDS_TARGET and not config.target_label:
            raise ValueError(f"target_label: expected one for action {config.action}, got none")
        if config.action == "hashmod" and config.modulus < 1:
            raise ValueError(f"modulus: expected 1 or more for hashmod, got {config.modulus}")
        try:
            self._regex = re2.compile(f"^(?:{config.regex})$", _QUIET)
        except re2.error:
            raise ValueError(f"regex: expected RE2 syntax, got {config.regex!r}") from None

    def apply(self, labels: dict[str, str]) -> bool:
        """Change `labels`; false if they are to be dropped."""
        config = self.config
        value = config.separator.join(labels.get(name, "") for name in config.source_labels)
        target = config.target_label
        match config.action:
            case "keep":
                return self._regex.match(value) is not None
            case "drop":
                return self._regex.match(value) is None
            case "keepequal":
                return labels.get(target, "") == value
            case "dropequal":
                return labels.get(target, "") != value
            case "replace":
                self._replace(labels, value)
            case "lowercase":
                _set(labels, target, value.lower())
            case "uppercase":
                _set(labels, target, value.upper())
            case "hashmod":
                # Prometheus takes the last eight bytes; MD5 hides nothing here.
                digest = md5(value.encode(), usedforsecurity=False).digest()
                _set(labels, target, str(int.from_bytes(digest[8:], "big") % config.modulus))
            case _:
                self._rename(labels)
        return True

    def _replace(self, labels: dict[str, str], value: str) -> None:
        match = self._regex.match(value)
        if match is None:
            return
        target = _expand(self.config.target_label, match)
        if not _LABEL_NAME.fullmatch(target):
            labels.pop(self.config.target_label, None)
            return
        _set(labels, target, _expand(self.config.replacement, match))

    def _rename(self, labels: dict[str, str]) -> None:
        action = self.config.action
        for name in list(labels):
            match = self._regex.match(name)
            if action == "labelmap" and match is not None:
                _set(labels, _expand(self.config.replacement, match), labels[name])
            elif (action == "labeldrop" and match is not None) or (
                action == "labelkeep" and match is None
            ):
                del labels[name]


def relabel(labels: dict[str, str], rules: Iterable[Relabel]) -> dict[str, str] | None:
    """`labels` after all `rules`, in order; None if one of them drops it.

    >>> rule = Relabel(RelabelConfig(("a",), regex="x(.)", target_label="b", replacement="${1}!"))
    >>> relabel({"a": "xy"}, [rule])
    {'a': 'xy', 'b': 'y!'}
    """
    result = dict(labels)
    for rule in rules:
        if not rule.apply(result):
            return None
    return result


def _set(labels: dict[str, str], name: str, value: str) -> None:
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)


def _expand(template: str, match: re.Match[str]) -> str:
    """`template` with its references replaced; one to a group that isn't there is empty."""

    def group(reference: re.Match[str]) -> str:
        if reference[1]:
            return "$"
        name = reference[2] or reference[3]
        try:
            return match.group(int(name) if name.isdigit() else name) or ""
        except (IndexError, KeyError):
            return ""

    return _REFERENCE.sub(group, template)
