"""What an evaluator knows, told in an order that doesn't depend on how it came about."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pipeline.promql import kernel
from pipeline.promql.windows import WindowStore

_FIELDS = [kernel.HISTORY, kernel.CAPACITY, kernel.START, kernel.COUNT, kernel.BASE]


def windows_content(store: WindowStore) -> Iterator[bytes]:
    """Every target's windows: layout, labels, times, values and marks, bit for bit."""
    for target_id, target in sorted(store.targets.items()):
        for history_ms, number in sorted(target.blocks.items()):
            rows = [row for row in target.ordered() if row.block == number]
            order = [row.row for row in rows]
            times_ms, bits = store.samples(number)
            yield msgspec.msgpack.encode((target_id, history_ms, [row.labels for row in rows]))
            yield store.blocks[number, _FIELDS].tobytes()
            yield times_ms.tobytes()
            yield bits[:, order].tobytes()
            yield store.marks(number)[order].tobytes()
