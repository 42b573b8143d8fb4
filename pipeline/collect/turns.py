"""Who may compute: reading a new layout takes time, in which nobody else is heard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

LARGE_BYTES, LARGE_SERIES = 512 * 1024, 2000
"""What is larger than this takes more than some 50 ms."""

Result = TypeVar("Result")


class Turns:
    """One piece of work at a time, so that the sockets are looked at in between.

    Otherwise the first scrapes of many targets would keep the event loop for seconds, and others
    would time out although their answers are there. Large pieces are done in a thread, also one at
    a time: the small ones don't wait for them.
    """

    def __init__(self) -> None:
        self._small, self._large = asyncio.Lock(), asyncio.Lock()

    async def do(self, work: Callable[[], Result], *, large: bool) -> Result:
        """What `work` gives; when cancelled, only after it has ended."""
        if not large:
            async with self._small:
                await asyncio.sleep(0)
                return work()
        async with self._large:
            working = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                return await asyncio.shield(working)
            except asyncio.CancelledError:
                await asyncio.wait([working])
                raise
