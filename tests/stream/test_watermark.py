from pipeline.model import Tick
from pipeline.stream.watermark import Watermark


def advance(watermark: Watermark, collector: str, time_ms: int) -> bool:
    return watermark.advance(Tick(collector, time_ms))


def test_one_collectors_ticks_are_the_watermark():
    watermark = Watermark(30_000)
    assert watermark.time_ms is None
    assert advance(watermark, "a", 1000)
    assert watermark.time_ms == 1000
    assert advance(watermark, "a", 2000)
    assert watermark.time_ms == 2000


def test_the_slowest_collector_that_is_heard_holds_it_back():
    watermark = Watermark(30_000)
    advance(watermark, "a", 10_000)
    assert not advance(watermark, "b", 4000)
    assert watermark.time_ms == 10_000, "it never goes back"
    assert not advance(watermark, "a", 20_000)
    assert watermark.time_ms == 10_000
    assert advance(watermark, "b", 15_000)
    assert watermark.time_ms == 15_000


def test_a_collector_that_fell_silent_is_left_behind():
    watermark = Watermark(30_000)
    advance(watermark, "a", 1000)
    advance(watermark, "b", 1000)
    assert not advance(watermark, "a", 31_000)
    assert watermark.time_ms == 1000
    assert advance(watermark, "a", 31_001)
    assert watermark.time_ms == 31_001


def test_an_old_tick_moves_nothing():
    watermark = Watermark(30_000)
    advance(watermark, "a", 5000)
    assert not advance(watermark, "a", 5000)
    assert not advance(watermark, "a", 4000)
    assert watermark.time_ms == 5000
