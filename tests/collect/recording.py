"""A producer that keeps what it is given, and reads it back as a consumer would."""

from __future__ import annotations

import asyncio

from pipeline.codec import decode_dictionary, decode_telemetry
from pipeline.collect.producer import SendError
from pipeline.model import Frame, FrameBatch, Labels, SeriesDictionary, Tick, is_absent, is_stale

Value = float | str


class RecordingProducer:
    """Takes records while `available`."""

    def __init__(self) -> None:
        self.available = True
        self.refused = 0
        self.too_large = 1 << 30
        self.sent: list[tuple[str, int, Tick | FrameBatch | SeriesDictionary]] = []
        self.changed = asyncio.Event()

    async def send(self, topic: str, partition: int, key: bytes | None, value: bytes) -> None:
        await asyncio.sleep(0)
        if not self.available:
            self.refused += 1
            self.changed.set()
            raise SendError("the broker is away", permanent=False)
        if len(value) > self.too_large:
            raise SendError("too large", permanent=True)
        record: Tick | FrameBatch | SeriesDictionary
        if topic == "series":
            assert key is not None
            record = decode_dictionary(value)
        else:
            record = decode_telemetry(value)
        self.sent.append((topic, partition, record))
        self.changed.set()

    def frames(self, feed: str = "") -> list[tuple[Frame, dict[Labels, Value]]]:
        """Every frame (of a feed) with its samples; its dictionary must have come before it."""
        dictionaries: dict[int, SeriesDictionary] = {}
        found = []
        for _, _, record in self.sent:
            if isinstance(record, SeriesDictionary):
                dictionaries[record.id] = record
            elif isinstance(record, FrameBatch):
                for i in range(len(record)):
                    frame = record.frame(i)
                    dictionary = dictionaries[frame.dictionary_id]
                    if not feed or dictionary.target.feed == feed:
                        found.append((frame, _samples(frame, dictionary)))
        return found

    def ticks(self, partition: int) -> list[int]:
        return [
            record.time_ms
            for _, of, record in self.sent
            if isinstance(record, Tick) and of == partition
        ]

    async def until(self, name: str, value: Value, feed: str = "") -> dict[Labels, Value]:
        """The first frame, of those that came and will come, in which a series has this value."""
        async with asyncio.timeout(10):
            while True:
                for _, samples in self.frames(feed):
                    for labels, given in samples.items():
                        if dict(labels)["__name__"] == name and given == value:
                            return samples
                self.changed.clear()
                await self.changed.wait()


def _samples(frame: Frame, dictionary: SeriesDictionary) -> dict[Labels, Value]:
    stale, absent = is_stale(frame.values), is_absent(frame.values)
    return {
        series.labels: "stale" if stale[i] else float(frame.values[i])
        for i, series in enumerate(dictionary.series)
        if not absent[i]
    }
