"""Label sets that change at every scrape: memory stays, and what is dropped is named."""

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from pipeline.clock import Clock
from pipeline.collect.batcher import Batcher
from pipeline.collect.frames import FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.collect.outlet import Outlet
from pipeline.ingest.prometheus_text import TextParser
from pipeline.ingest.readings import Readings
from pipeline.model import Series, Target, labels_from
from pipeline.settings import CollectSettings, Settings
from tests.collect.recording import RecordingProducer

TARGET = Target("job", "churning", "/metrics")
LABELS = labels_from({"job": "job", "instance": "churning"})
SERIES = 20
LAYOUTS = 1000


def body(turn: int) -> bytes:
    """New values of a label, a new name of a label, and a new metric, in each."""
    values = "".join(f'requests{{pod="p{turn}",path="/{i}"}} {i}\n' for i in range(SERIES - 2))
    return f'{values}names{{label{turn}="x"}} 1\nmetric_{turn}{{a="b"}} 1\n'.encode()


@contextmanager
def flat_memory(before: int, allowed: int) -> Iterator[None]:
    """What is allocated within this is released again, up to `allowed` bytes."""
    gc.collect()
    first = tracemalloc.get_traced_memory()[0]
    yield
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - first
    assert grown < allowed, f"{before} layouts, then {grown} bytes more"


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_thousands_of_layouts_leave_nothing_behind(tmp_path: Path) -> None:
    # No disk, no broker: what waits is bounded by buffer_bytes, and so are its dictionaries.
    collect = CollectSettings(buffer_bytes=20_000, disk_buffer_bytes=1)
    clock = Clock(Settings().clock)
    batcher = Batcher(RecordingProducer(), Settings(data=str(tmp_path), collect=collect), clock, "")
    outlet = Outlet(batcher, "scrape")
    parser, builder = TextParser(), FrameBuilder(TARGET, SeriesNaming(LABELS))

    def scrape(turn: int) -> None:
        built = builder.scrape(parser.parse(body(turn)), 1000 * turn, 0.1)
        outlet.put(TARGET, built)

    for turn in range(LAYOUTS):
        scrape(turn)
    # Names and shapes are remembered up to some 1000, 1 kB each; one more would be 20 MB.
    with flat_memory(LAYOUTS, 2_500_000):
        for turn in range(LAYOUTS, 2 * LAYOUTS):
            scrape(turn)

    assert len(parser._known) == SERIES
    assert len(parser._shapes) <= 2 * SERIES + 1000
    assert len(builder._names) <= 2 * SERIES + 1000 + SERIES
    assert len(builder._columns) <= 3 * SERIES + 40
    assert len(builder._placements) <= 8
    assert len(batcher._unsent) <= 20_000 / (SERIES * 8)
    batcher._spool.close()


@pytest.mark.usefixtures("traced")
def test_a_feed_whose_messages_have_ever_new_series_keeps_no_more_than_it_may() -> None:
    builder = FrameBuilder(TARGET, SeriesNaming(LABELS), max_series=50)

    def message(turn: int) -> int:
        series = tuple(Series((("__name__", f"m{turn}_{i}"),)) for i in range(5))
        return builder.message(Readings(series, np.zeros(5)), 1000 * turn).dropped

    for turn in range(1000):
        message(turn)
    with flat_memory(1000, 1_500_000):  # up to 1000 names
        dropped = sum(message(turn) for turn in range(1000, 3000))

    # Of five minutes' 1500 series 50 are kept.
    assert len(builder._columns) <= 100
    assert dropped > 0.9 * 2000 * 5


def test_dropped_series_are_counted_by_target_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data=str(tmp_path))
    batcher = Batcher(RecordingProducer(), settings, Clock(settings.clock), "")
    outlet = Outlet(batcher, "scrape")
    builder = FrameBuilder(TARGET, SeriesNaming(LABELS), max_series=15)
    for turn in range(3):
        built = builder.scrape(TextParser().parse(body(turn)), 1000 * turn, 0.1)
        outlet.put(TARGET, built)
    batcher._spool.close()

    labels = {"job": "job", "instance": "churning", "feed": "/metrics"}
    dropped = REGISTRY.get_sample_value("watchkeeper_collect_over_limit_samples_total", labels)
    assert dropped == 3 * (SERIES - 15)
    assert caplog.text.count("more series than collect.max_series_per_target") == 1
    assert "churning" in caplog.text
