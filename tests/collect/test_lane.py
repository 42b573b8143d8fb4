"""What waits in memory for one partition."""

import numpy as np

from pipeline.collect.lane import Lane
from pipeline.model import Frame, Target, Tick

TARGET = Target("job", "a", "/m")
SIZE = 32 + 8


def frame(time_ms: int) -> Frame:
    return Frame(TARGET.id, 1, time_ms, np.zeros(1))


def lane(*items: int | Tick) -> Lane:
    made = Lane(0)
    for item in items:
        if isinstance(item, Tick):
            made.put_tick(item)
        else:
            made.put(TARGET, frame(item))
    return made


def times(batch: list[tuple[Target, Frame]]) -> list[int]:
    return [frame.time_ms for _, frame in batch]


def test_a_lane_that_fell_behind_gives_full_records_and_only_the_last_tick() -> None:
    behind = lane(0, Tick("me", 1), 2, Tick("me", 3), Tick("me", 4), 5, Tick("me", 6))

    assert times(behind.next_frames(10 * SIZE)) == [0, 2, 5]
    assert behind.tick == Tick("me", 6)
    assert behind.next_frames(10 * SIZE) == []
    assert behind.bytes == 0


def test_frames_behind_the_last_tick_wait_for_it() -> None:
    behind = lane(0, Tick("me", 1), 2)

    assert times(behind.next_frames(10 * SIZE)) == [0]
    assert behind.next_frames(10 * SIZE) == []
    behind.done_with(Tick("me", 1))  # another one with the same time
    assert behind.tick == Tick("me", 1)
    tick = behind.tick
    assert tick is not None
    behind.done_with(tick)

    assert times(behind.next_frames(10 * SIZE)) == [2]
    assert behind.empty


def test_a_record_holds_what_it_may() -> None:
    full = lane(*range(5))

    assert times(full.next_frames(2 * SIZE)) == [0, 1]
    assert full.bytes == 3 * SIZE


def test_what_is_put_back_comes_first_again() -> None:
    full = lane(*range(5))
    full.put_back(full.next_frames(2 * SIZE))

    assert full.bytes == 5 * SIZE
    assert times(full.next_frames(5 * SIZE)) == [0, 1, 2, 3, 4]


def test_the_oldest_frame_is_dropped_not_a_tick() -> None:
    full = lane(Tick("me", 1), 2, 3)

    dropped = full.drop_oldest()

    assert dropped is not None
    assert dropped[1].time_ms == 2
    assert full.bytes == SIZE
    assert full.oldest_ms == 3
    assert full.tick == Tick("me", 1)
    assert lane(Tick("me", 1)).drop_oldest() is None


def test_the_oldest_is_what_is_under_way_then_what_waits() -> None:
    waiting = lane(Tick("me", 1), 2)
    assert waiting.oldest_ms == 2
    waiting.under_way = [(TARGET, frame(1))]

    assert waiting.oldest_ms == 1
    assert lane(Tick("me", 1)).oldest_ms is None
