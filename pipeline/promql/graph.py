"""The nodes of several plans as one graph: each distinct node once, operands before users."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.promql.plan import Node, Number, Plan, RangeCall, Select, children


class Graph:
    """Nodes in an order in which they can be evaluated."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.nodes: list[Node] = []
        self.operands: list[tuple[int, ...]] = []
        self._numbers: dict[Node, int] = {}
        self.roots = tuple(self._add(plan.root) for plan in plans)
        constants: dict[float, int] = {}
        for node in self.nodes:
            if isinstance(node, Select | RangeCall):
                constants.setdefault(float(node.selector.range_ms), len(constants))
                constants.setdefault(float(node.selector.offset_ms), len(constants))
        self.durations = constants
        """Place of each range and offset among the constants."""
        self.numbers = [node.value for node in self.nodes if isinstance(node, Number)]
        """Literals; they follow the durations."""

    def _add(self, node: Node) -> int:
        known = self._numbers.get(node)
        if known is not None:
            return known
        operands = tuple(self._add(child) for child in children(node))
        self._numbers[node] = len(self.nodes)
        self.nodes.append(node)
        self.operands.append(operands)
        return len(self.nodes) - 1
