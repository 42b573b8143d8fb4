"""The load of benchmarks/chaos.py: HTTP targets whose every scrape is on record.

    python benchmarks/chaos_load.py SEED FILE

serves until its standard input ends, then writes to FILE what it has served. The first line of its
input says when the schedule begins (Unix seconds). Each answer carries
`chaos_turn`, a number of its own, so that a frame can be followed through every topic. Queues go
over the limit on a schedule that follows from the seed alone.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import NamedTuple

TARGETS, SERIES, QUEUES = 100, 500, 20
JOB, TURN, QUEUE = "chaos", "chaos_turn", "chaos_queue_depth"
USUAL, OVER, LIMIT = 10, 5000, 1000
BREACH_EVERY_S, BREACH_S = 2.0, 45.0
_BODIES = 20
_TYPE = "text/plain; version=0.0.4"


class Breach(NamedTuple):
    """One queue of one target is over the limit for a while; each queue once."""

    target: int
    queue: int
    start: float
    end: float


def instance_of(target: int) -> str:
    return f"chaos-{target:03d}:9100"


def breaches(seed: int, start: float) -> list[Breach]:
    """All breaches, one each `BREACH_EVERY_S` after `start` (Unix seconds)."""
    rng = random.Random(seed)  # noqa: S311  # a schedule, no secret
    places = [(target, queue) for target in range(TARGETS) for queue in range(QUEUES)]
    rng.shuffle(places)
    return [
        Breach(target, queue, start + i * BREACH_EVERY_S, start + i * BREACH_EVERY_S + BREACH_S)
        for i, (target, queue) in enumerate(places)
    ]


def filler(seed: int) -> bytes:
    """Counters that fill up the series of a target."""
    rng = random.Random(seed)  # noqa: S311  # numbers, no secrets
    lines = ["# TYPE chaos_operations_total counter\n"]
    for i in range(SERIES - QUEUES - 1):
        labels = f'device="sda{i % 10}",cpu="{i // 10}"'
        lines.append(f"chaos_operations_total{{{labels}}} {rng.random() * 1e6:.2f}\n")
    return "".join(lines).encode()


class Targets:
    """What each target answers, and what was answered when and to whom."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._fillers = [filler(seed + i) for i in range(_BODIES)]
        self._plan: list[Breach] = []
        self._begun = 0
        self._over: list[Breach] = []
        self._turns = [0] * TARGETS
        self.served: list[tuple[int, int, float, bool]] = []
        """Target, turn, time of the answer, and whether Prometheus had asked."""

    def begin(self, start: float) -> None:
        self._plan = breaches(self._seed, start)

    def answer(self, target: int, prometheus: bool) -> bytes:
        """The whole response, and its entry in the record."""
        self._turns[target] += 1
        turn = self._turns[target]
        now = time.time()
        body = self._text(target, turn, now)
        self.served.append((target, turn, now, prometheus))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def _text(self, target: int, turn: int, now: float) -> bytes:
        while self._begun < len(self._plan) and self._plan[self._begun].start <= now:
            self._over.append(self._plan[self._begun])
            self._begun += 1
        self._over = [breach for breach in self._over if breach.end > now]
        over = {breach.queue for breach in self._over if breach.target == target}
        queues = "".join(
            f'{QUEUE}{{queue="{queue}"}} {OVER if queue in over else USUAL + queue}\n'
            for queue in range(QUEUES)
        )
        return self._fillers[turn % _BODIES] + f"{queues}{TURN} {turn}\n".encode()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with nothing but `GET /t<target>`: a framework would cost more than the targets."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            request, self._received = self._received[:end], self._received[end + 4 :]
            target = int(request.split(b" ", 2)[1].removeprefix(b"/t"))
            self._transport.write(self._targets.answer(target, b"Prometheus/" in request))


async def main(seed: int, record: Path) -> None:
    targets = Targets(seed)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(targets), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    if line := await asyncio.to_thread(sys.stdin.readline):
        targets.begin(float(line))
        await asyncio.to_thread(sys.stdin.read)
    await asyncio.to_thread(record.write_text, json.dumps(targets.served), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
