"""How a message is described: where its numbers stand, and what they are called."""

from __future__ import annotations

import msgspec

from pipeline.model import SeriesKind

MILLI = 1000.0
PERCENT = 100.0
MIB = float(1 << 20)
"""The platform's "MB": the JVM's mebibytes."""
GB = 1e9
MB = 1e6
OTHER = "other"
"""The label of a word that isn't among those that are expected."""


class Field(msgspec.Struct, frozen=True):
    """One number of a message, or one for each key of an object (`each` is then the label)."""

    path: str
    """Keys, joined by dots; empty: the whole object."""
    name: str
    help: str
    kind: SeriesKind = "gauge"
    times: float = 1.0
    per: float = 1.0
    """The number is multiplied by `times` and divided by `per`: both are exact."""
    labels: tuple[tuple[str, str], ...] = ()
    each: str = ""
    """Numbers of inner objects have their keys joined by dots."""
    yes: str = ""
    """For a word: this one is 1, any other 0. True is 1, too."""
    common: bool = False
    """It is about the whole, and not about what the message's label names."""


class Tally(msgspec.Struct, frozen=True):
    """A counter of what passes by: how many messages there were, or the sum of a number."""

    name: str
    help: str
    path: str = ""
    """The number to add, which may be a decimal text; empty: each message adds 1."""
    labels: tuple[tuple[str, str], ...] = ()
    label: str = ""
    word: str = ""
    """Where the word stands that is the label's value, in lower case."""
    words: tuple[str, ...] = ()
    """Any other word, or none, is `OTHER`: a counter has few series, whatever is sent."""
    changed: str = ""
    """Only messages count in which the text that stands here isn't the one it was before."""


class Message(msgspec.Struct, frozen=True):
    """One type of message. With `label`, it (or each item of its list) names what it is about."""

    fields: tuple[Field, ...] = ()
    label: str = ""
    label_key: str = ""
    tallies: tuple[Tally, ...] = ()
