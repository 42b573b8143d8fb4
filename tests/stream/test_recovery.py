"""Kills, rebalances and repeated records: the same alerts with the same times as on a calm day."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from fleet import START_MS, dictionary, fleetwide, frame, partition
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from pipeline.codec import decode_alert, decode_dictionary, encode_frames, encode_tick
from pipeline.model import SeriesDictionary, Tick
from pipeline.stream.delivery import Record
from pipeline.stream.restoring import Restoring
from pipeline.stream.snapshot import Snapshot, decode, encode
from pipeline.stream.snapshotting import Snapshotting
from pipeline.stream.underway import Effects
from pipeline.stream.worker import Worker

PARTITIONS, OWNER = 4, 3
INSTANCES = {0: ("a", "b"), 1: ("c",)}
"""The instances of the two partitions of telemetry that have any."""


class Past:
    def __init__(self, values: list[bytes]) -> None:
        self.end = len(values)
        self._values = values

    async def some_time_before(self, _offset: int) -> int:
        return 0

    async def records(self, since: int, until: int):
        for value in self._values[since:until]:
            yield value


class Cluster:
    """Kafka as lists, and two workers that share its partitions."""

    def __init__(self, folder: Path, telemetry: dict[int, list[bytes]]) -> None:
        self._folder = folder
        self.logs: defaultdict[tuple[str, int], list[bytes]] = defaultdict(list)
        for number, values in telemetry.items():
            self.logs["telemetry", number] = values
        known = [dictionary(name) for names in INSTANCES.values() for name in names]
        self._dictionaries: dict[int, SeriesDictionary] = {each.id: each for each in known}
        self._snapshots: list[Snapshot] = []
        self._at: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._committed: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.owner = dict.fromkeys(range(PARTITIONS), 0)
        self._workers = [self._new_worker(), self._new_worker()]

    def _new_worker(self) -> Worker:
        return Worker(
            lambda number: partition(self._folder, number),
            lambda _number: fleetwide(self._folder, 2),
            {OWNER},
            PARTITIONS,
            self._deliver,
            self._find,
            Restoring(self._open_past, self._find, self._load),
            Snapshotting(self._save, 3600.0),
        )

    async def _deliver(self, records: Sequence[Record]) -> Effects | None:
        for record in records:
            if record.topic == "series":
                known = decode_dictionary(record.value)
                self._dictionaries[known.id] = known
            self.logs[record.topic, record.partition].append(record.value)
        return None

    async def _find(self, dictionary_id: int) -> SeriesDictionary | None:
        return self._dictionaries.get(dictionary_id)

    @contextlib.asynccontextmanager
    async def _open_past(self, topic, number):
        yield Past(self.logs[topic, number])

    def _save(self, snapshot: Snapshot) -> int:
        written = b"".join(encode(snapshot))
        self._snapshots.insert(0, decode(written))
        return len(written)

    def _load(self, topic, number, _end) -> list[Snapshot]:
        return [s for s in self._snapshots if (s.topic, s.partition) == (topic, number)]

    async def read(self, topic: str, number: int) -> bool:
        """The owner reads the next record; false if there is none."""
        place = (topic, number)
        offset = self._at[place]
        if offset >= len(self.logs[place]):
            return False
        worker = self._workers[self.owner[number]]
        handle = worker.on_telemetry if topic == "telemetry" else worker.on_signal
        await handle(number, offset, self.logs[place][offset])
        self._at[place] = offset + 1
        return True

    async def read_all(self) -> None:
        while any(
            [
                await self.read(topic, number)
                for topic in ("telemetry", "signals")
                for number in range(PARTITIONS)
            ]
        ):
            pass

    def commit(self) -> None:
        self._committed.update(self._at)

    async def snapshot(self, which: int) -> None:
        await self._workers[which].last_snapshots()

    def kill(self, which: int) -> None:
        """A worker dies and starts again: what it had read since the last commit comes again."""
        self._workers[which] = self._new_worker()
        self._rewind(number for number, owner in self.owner.items() if owner == which)

    def move(self, number: int) -> None:
        """A rebalance gives a partition of both topics to the other worker."""
        self.owner[number] = 1 - self.owner[number]
        for which, worker in enumerate(self._workers):
            own = frozenset(n for n, owner in self.owner.items() if owner == which)
            worker.on_assigned("telemetry", own)
            worker.on_assigned("signals", own)
        self._rewind([number])

    def _rewind(self, numbers) -> None:
        for number in numbers:
            for topic in ("telemetry", "signals"):
                self._at[topic, number] = self._committed[topic, number]

    def told(self) -> set[tuple[object, ...]]:
        """Every episode's beginning and end, once."""
        reports = [decode_alert(value) for value in self.logs["alerts", 0]]
        return {
            (a.labels, a.state, a.starts_at_ms) + ((a.ends_at_ms,) if a.state == "inactive" else ())
            for a in reports
        }


def telemetry(rng: Random) -> dict[int, list[bytes]]:
    """Records of the two partitions: a minute of frames, some of them late or twice; ticks."""
    logs: dict[int, list[bytes]] = {number: [] for number in range(PARTITIONS)}
    for second in range(0, 60, 2):
        for number, names in INSTANCES.items():
            loads = [rng.choice([5.0, 9.0, 11.0, 13.0, 20.0]) for _ in names]
            sent = [frame(name, second + 0.25 * i, loads[i]) for i, name in enumerate(names)]
            logs[number].append(encode_frames(sent))
            if rng.random() < 0.2:
                logs[number].append(encode_frames(sent[::-1]))
            logs[number].append(encode_tick(Tick("c", START_MS + (second + 1) * 1000)))
    return logs


Event = tuple[str, int, int]


def night(rng: Random) -> list[Event]:
    """What happens until everybody is calm again."""
    happening: list[Event] = []
    for _ in range(rng.randint(20, 120)):
        kind = rng.choices(
            ["telemetry", "signals", "commit", "snapshot", "kill", "move"], [8, 8, 3, 2, 1, 1]
        )[0]
        most = {"telemetry": 2, "snapshot": 2, "kill": 2}.get(kind, PARTITIONS)
        happening.append((kind, rng.randrange(most), rng.randint(1, 9)))
    return happening


async def eventful(cluster: Cluster, happening: list[Event]) -> None:
    for kind, which, times in happening:
        if kind in ("telemetry", "signals"):
            for _ in range(times):
                await cluster.read(kind, which)
        elif kind == "commit":
            cluster.commit()
        elif kind == "snapshot":
            await cluster.snapshot(which)
        elif kind == "kill":
            cluster.kill(which)
        else:
            cluster.move(which)
    await cluster.read_all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("rules")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rng=st.randoms(use_true_random=True))
def test_whatever_happens_the_alerts_are_those_of_a_calm_day(folder, rng):
    records, happening = telemetry(rng), night(rng)
    note(f"{happening}")
    calm = Cluster(folder, {n: list(values) for n, values in records.items()})
    asyncio.run(calm.read_all())
    rough = Cluster(folder, {n: list(values) for n, values in records.items()})
    asyncio.run(eventful(rough, happening))
    assert rough.told() == calm.told()
