"""YAML as a tree whose every node knows its line, read strictly, every fault collected.

A file becomes PyYAML nodes, not Python values: a rule file's texts are taken as written (`5m`,
`1.50`, `yes`), as Prometheus takes them, and each problem names its line.
"""

from __future__ import annotations

from enum import Enum

import msgspec
import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_DEPTH = 50
"""Rule files nest 5 deep; composing a node tree takes a stack as deep as the file."""

_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"


class Severity(Enum):
    """Whether a file with this problem is refused."""

    ERROR = "error"
    WARNING = "warning"


class Problem(msgspec.Struct, frozen=True, order=True):
    """Something wrong in a file, with its place: `cpu.yml:12: groups[0].name: expected …`."""

    file: str
    line: int
    """Counted from 1; 0 is the file as a whole."""
    path: str
    message: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        words = [place, self.path, self.message] if self.path else [place, self.message]
        if self.severity is Severity.WARNING:
            words.insert(1, "warning")
        return ": ".join(words)


class Document:
    """Reads typed fields from the nodes of one file; what is wrong goes into `problems`."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def fault(self, node: Node | None, path: str, message: str) -> None:
        self.problems.append(Problem(self.file, line_of(node), path, message))

    def warn(self, node: Node | None, path: str, message: str) -> None:
        self.problems.append(Problem(self.file, line_of(node), path, message, Severity.WARNING))

    def parse(self, content: bytes) -> Node | None:
        """The first document's root; None when it is empty or not YAML (then a problem says so)."""
        loader = yaml.CSafeLoader(content)
        try:
            if _too_deep(content):
                self.fault(None, "", f"expected at most {MAX_DEPTH} levels of nesting, got more")
                return None
            root: Node | None = loader.get_node() if loader.check_node() else None
            if _documents(content) > 1:
                self.warn(None, "", "only the first YAML document of a file is read")
        except yaml.YAMLError as error:
            self._not_yaml(error)
            return None
        finally:
            loader.dispose()
        return None if root is None or is_null(root) else root

    def _not_yaml(self, error: yaml.YAMLError) -> None:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        line = mark.line + 1 if mark is not None else 0
        self.problems.append(Problem(self.file, line, "", f"expected YAML: {said}"))

    def mapping(self, node: Node, path: str, expected: str) -> dict[str, Node]:
        """The entries of a mapping, in order; a key that stands twice is a problem."""
        if is_null(node):
            return {}
        if not isinstance(node, MappingNode):
            self.fault(node, path, f"expected {expected}, got {describe(node)}")
            return {}
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                sources = value.value if isinstance(value, SequenceNode) else [value]
                for source in sources:
                    for name, inherited in self.mapping(source, path, "a mapping").items():
                        merged.setdefault(name, inherited)
            elif not isinstance(key, ScalarNode):
                self.fault(key, path, f"expected a text as key, got {describe(key)}")
            elif key.value in own:
                first = line_of(own[key.value])
                self.fault(key, path, f'key "{key.value}" stands twice (first in line {first})')
            else:
                own[key.value] = value
        return {**merged, **own}

    def fields(
        self, node: Node, path: str, allowed: tuple[str, ...], expected: str
    ) -> dict[str, Node]:
        """The entries of a mapping with fixed keys; an unknown one is a problem."""
        entries = self.mapping(node, path, expected)
        known: dict[str, Node] = {}
        for name, value in entries.items():
            if name in allowed:
                known[name] = value
            else:
                names = ", ".join(allowed)
                self.fault(value, _join(path, name), f"unknown field; expected one of {names}")
        return known

    def items(self, node: Node | None, path: str, expected: str) -> list[Node]:
        if node is None or is_null(node):
            return []
        if not isinstance(node, SequenceNode):
            self.fault(node, path, f"expected {expected}, got {describe(node)}")
            return []
        for index, item in enumerate(node.value):
            if is_null(item):
                self.warn(item, f"{path}[{index}]", "is empty and left out")
        return [item for item in node.value if not is_null(item)]

    def text(self, node: Node | None, path: str, expected: str = "a text") -> str:
        """A scalar as written; null is the empty text."""
        if node is None or is_null(node):
            return ""
        if isinstance(node, ScalarNode):
            return str(node.value)
        self.fault(node, path, f"expected {expected}, got {describe(node)}")
        return ""

    def whole_number(self, node: Node | None, path: str) -> int:
        """An integer; a fraction is cut off, as Go's YAML reader does (with a warning)."""
        if node is None or is_null(node):
            return 0
        if isinstance(node, ScalarNode) and node.tag in (_INT, _FLOAT):
            try:
                value = yaml.safe_load(node.value)
                if isinstance(value, float) and value != int(value):
                    self.warn(node, path, f"expected a whole number, got {node.value}; cut off")
                return int(value)
            except (ValueError, OverflowError):
                pass
        self.fault(node, path, f"expected a whole number, got {describe(node)}")
        return 0


def is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _NULL


def line_of(node: Node | None) -> int:
    return node.start_mark.line + 1 if node is not None else 0


def describe(node: Node) -> str:
    """What a node is, in few words, for "expected …, got …"."""
    if isinstance(node, MappingNode):
        return "a mapping"
    if isinstance(node, SequenceNode):
        return "a list"
    text = str(node.value)
    return f'"{text[:60]}…"' if len(text) > 60 else f'"{text}"'


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _documents(content: bytes) -> int:
    starts = 0
    try:
        for event in yaml.parse(content, Loader=yaml.CSafeLoader):
            starts += isinstance(event, yaml.DocumentStartEvent)
    except yaml.YAMLError:
        return starts + 1
    return starts


def _too_deep(content: bytes) -> bool:
    """Whether the first document nests deeper than is composed; the parser itself is a loop."""
    depth = 0
    for event in yaml.parse(content, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentEndEvent):
            break
    return False
