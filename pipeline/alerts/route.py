"""The route tree: which alert goes to which receiver, and grouped by which labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from pipeline.alerts.config import RouteConfig
from pipeline.alerts.matchers import Matcher
from pipeline.model import Labels


class Route(msgspec.Struct, frozen=True):
    """A node of the tree with everything that it inherits filled in.

    `id` is its place in the tree (`0`, `0.1`); `key` is the matchers on the way to it, the first
    part of a group's key.
    """

    id: str
    key: str
    matchers: tuple[Matcher, ...]
    receiver: str
    group_by: frozenset[str]
    group_by_all: bool
    group_wait_ms: int
    group_interval_ms: int
    repeat_interval_ms: int
    continues: bool
    routes: tuple[Route, ...]

    def match(self, labels: Mapping[str, str]) -> list[Route]:
        """The routes that alerts with these labels take, in order; empty when none does.

        The deepest matching nodes count; a sibling after a match is tried only if that match says
        `continue`.
        """
        if not all(matcher.matches(labels) for matcher in self.matchers):
            return []
        matched: list[Route] = []
        for route in self.routes:
            found = route.match(labels)
            matched += found
            if found and not route.continues:
                break
        return matched or [self]

    def group_labels(self, labels: Labels) -> Labels:
        """The labels that put an alert into one of this route's groups."""
        if self.group_by_all:
            return labels
        return tuple((name, value) for name, value in labels if name in self.group_by)

    def group_key(self, group_labels: Labels) -> str:
        """Alertmanager's key of a group, as webhooks carry it."""
        text = ", ".join(f"{name}={go_quote(value)}" for name, value in group_labels)
        return f"{self.key}:{{{text}}}"

    def walk(self) -> Iterator[Route]:
        """The route itself and all below it."""
        yield self
        for route in self.routes:
            yield from route.walk()


def build_routes(config: RouteConfig) -> Route:
    """The tree of `config`, whose root names a receiver.

    References
    ----------
    alertmanager 0.25, dispatch/route.go: NewRoute; defaults of DefaultRouteOpts.
    """
    root = Route(
        id="", key="", matchers=(), receiver="", group_by=frozenset(), group_by_all=False,
        group_wait_ms=30_000, group_interval_ms=300_000, repeat_interval_ms=4 * 3_600_000,
        continues=False, routes=(),
    )  # fmt: skip
    return _build(config, root, "0")


def _build(config: RouteConfig, parent: Route, place: str) -> Route:
    text = ",".join(str(matcher) for matcher in config.matchers)
    own_groups = bool(config.group_by)
    route = Route(
        id=place,
        key=f"{parent.key}/{{{text}}}" if parent.id else f"{{{text}}}",
        matchers=config.matchers,
        receiver=config.receiver or parent.receiver,
        group_by=frozenset(config.group_by) if own_groups else parent.group_by,
        group_by_all=not own_groups and (config.group_by_all or parent.group_by_all),
        group_wait_ms=_or(config.group_wait_ms, parent.group_wait_ms),
        group_interval_ms=_or(config.group_interval_ms, parent.group_interval_ms),
        repeat_interval_ms=_or(config.repeat_interval_ms, parent.repeat_interval_ms),
        continues=config.continues,
        routes=(),
    )
    children = tuple(_build(c, route, f"{place}.{i}") for i, c in enumerate(config.routes))
    return msgspec.structs.replace(route, routes=children)


def _or(value: int | None, inherited: int) -> int:
    return inherited if value is None else value


_GO_ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\", '"': '\\"',
}  # fmt: skip


def go_quote(text: str) -> str:
    r"""`text` in double quotes as Go's %q writes it.

    >>> print(go_quote('a "b"\tü\x01'))
    "a \"b\"\tü\x01"
    """
    return '"' + "".join(map(_go_character, text)) + '"'


def _go_character(character: str) -> str:
    if character in _GO_ESCAPES:
        return _GO_ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
