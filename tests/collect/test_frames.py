"""Frames of a target: columns, staleness, dictionaries, limits."""

import numpy as np

from pipeline.collect.frames import ENDED_AFTER_MS, OWN_TIME, Built, FrameBuilder
from pipeline.collect.naming import SeriesNaming
from pipeline.collect.relabel import Relabel, RelabelConfig
from pipeline.ingest.prometheus_text import TextParser
from pipeline.ingest.readings import Readings
from pipeline.model import (
    Series,
    SeriesDictionary,
    Target,
    is_absent,
    is_stale,
    labels_from,
)

TARGET = Target("node", "a:9100", "/metrics")
LABELS = labels_from({"job": "node", "instance": "a:9100"})


def builder(max_series: int = 1000, rules: tuple[Relabel, ...] = ()) -> FrameBuilder:
    return FrameBuilder(TARGET, SeriesNaming(LABELS, False, rules), max_series)


def readings(**values: float) -> Readings:
    series = tuple(Series((("__name__", name),), "gauge") for name in values)
    return Readings(series, np.array(list(values.values()), dtype=np.float64))


class Reader:
    """Reads frames as a consumer does: by the dictionaries it was given."""

    def __init__(self) -> None:
        self.dictionaries: dict[int, SeriesDictionary] = {}

    def read(self, built: Built) -> list[dict[str, float | str]]:
        self.dictionaries |= {dictionary.id: dictionary for dictionary in built.dictionaries}
        frames = []
        for frame in built.frames:
            dictionary = self.dictionaries[frame.dictionary_id]
            assert len(dictionary.series) == len(frame.values)
            assert dictionary.target.id == frame.target_id
            stale, absent = is_stale(frame.values), is_absent(frame.values)
            frames.append(
                {
                    series.name: "stale" if stale[i] else float(frame.values[i])
                    for i, series in enumerate(dictionary.series)
                    if not absent[i]
                }
            )
        return frames

    def one(self, built: Built) -> dict[str, float | str]:
        (frame,) = self.read(built)
        return frame


REPORT = {
    "up", "scrape_duration_seconds", "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling", "scrape_series_added",
}  # fmt: skip


def test_a_scrape_has_its_samples_and_its_report() -> None:
    built = builder().scrape(readings(a=1, b=2), 1000, 0.25)

    assert Reader().one(built) == {
        "a": 1,
        "b": 2,
        "up": 1,
        "scrape_duration_seconds": 0.25,
        "scrape_samples_scraped": 2,
        "scrape_samples_post_metric_relabeling": 2,
        "scrape_series_added": 2,
    }
    assert built.frames[0].time_ms == 1000
    (dictionary,) = built.dictionaries
    assert all(dict(series.labels)["job"] == "node" for series in dictionary.series)


def test_a_series_that_vanishes_is_stale_once_and_has_its_column_back() -> None:
    target, reader = builder(), Reader()
    reader.one(target.scrape(readings(a=1, b=2), 1000, 0))

    second = target.scrape(readings(a=1), 2000, 0)
    third = target.scrape(readings(a=1), 3000, 0)
    fourth = target.scrape(readings(a=1, b=3), 4000, 0)

    assert reader.one(second)["b"] == "stale"
    assert "b" not in reader.one(third)
    back = reader.one(fourth)
    assert back["b"] == 3
    assert back["scrape_series_added"] == 1
    assert not second.dictionaries + third.dictionaries + fourth.dictionaries


def test_a_failed_scrape_makes_all_stale_and_up_0() -> None:
    target, reader = builder(), Reader()
    reader.one(target.scrape(readings(a=1), 1000, 0))

    failed = reader.one(target.scrape(None, 2000, 0.5))

    assert failed["a"] == "stale"
    assert failed["up"] == 0
    assert failed["scrape_samples_scraped"] == 0
    assert reader.one(target.scrape(None, 3000, 0.5)).keys() == REPORT


def test_a_removed_target_s_report_ends_too() -> None:
    target, reader = builder(), Reader()
    reader.one(target.scrape(readings(a=1), 1000, 0))

    ended = reader.one(target.end(2000))

    assert ended == dict.fromkeys(REPORT | {"a"}, "stale")
    assert target.end(3000) == Built()


def test_a_message_leaves_the_other_columns_absent() -> None:
    target, reader = builder(), Reader()
    reader.one(target.message(readings(a=1), 1000))
    reader.one(target.message(readings(b=1), 2000))

    assert reader.one(target.message(readings(a=2), 3000)) == {"a": 2}


def test_messages_of_the_same_millisecond_have_different_times() -> None:
    target = builder()

    times = [target.message(readings(a=1), 1000).frames[0].time_ms for _ in range(3)]

    assert times == [1000, 1001, 1002]


def test_a_series_that_no_message_has_for_five_minutes_ends() -> None:
    target, reader = builder(), Reader()
    reader.one(target.message(readings(a=1, b=1), 1000))

    still = reader.one(target.message(readings(a=1), 1000 + ENDED_AFTER_MS))
    ended = reader.one(target.message(readings(a=1), 1002 + ENDED_AFTER_MS))

    assert "b" not in still
    assert ended["b"] == "stale"


def test_a_probe_s_missing_series_are_stale_and_it_has_no_report() -> None:
    target, reader = builder(), Reader()
    reader.one(target.complete(readings(a=1, b=1), 1000))

    assert reader.one(target.complete(readings(a=1), 2000)) == {"a": 1, "b": "stale"}


def test_columns_of_ended_series_are_given_up_once_they_are_many() -> None:
    target, reader = builder(), Reader()
    widths = []
    for i in range(20):
        names = {f"s{i}_{j}": float(j) for j in range(100)}
        built = target.scrape(readings(**names), 1000 * i, 0)
        frame = reader.one(built)
        assert {name: frame[name] for name in names} == names
        assert sum(value == "stale" for value in frame.values()) == (100 if i else 0)
        widths.append(len(built.frames[0].values))

    assert max(widths) <= 3 * 100 + len(REPORT)


def test_series_beyond_the_limit_are_dropped_and_counted() -> None:
    target, reader = builder(max_series=2), Reader()

    built = target.scrape(readings(a=1, b=2, c=3), 1000, 0)

    assert built.dropped == 1
    frame = reader.one(built)
    assert "c" not in frame
    assert frame["scrape_samples_post_metric_relabeling"] == 2
    assert target.scrape(readings(a=1, b=2, c=3), 2000, 0).dropped == 1


def test_a_feed_s_new_series_beyond_the_limit_are_dropped_the_old_stay() -> None:
    target, reader = builder(max_series=2), Reader()
    reader.one(target.message(readings(a=1, b=2), 1000))

    built = target.message(readings(b=3, c=4), 2000)

    assert built.dropped == 1
    assert reader.one(built) == {"b": 3}


def test_a_feed_s_known_series_don_t_count_twice_against_the_limit() -> None:
    target, reader = builder(max_series=3), Reader()
    reader.one(target.message(readings(a=1, b=2), 1000))

    built = target.message(readings(a=2, b=3, c=4, d=5), 2000)

    assert built.dropped == 1
    assert reader.one(built) == {"a": 2, "b": 3, "c": 4}


def test_of_duplicate_series_the_first_counts() -> None:
    series = Series((("__name__", "a"),))
    built = builder().scrape(Readings((series, series), np.array([1.0, 2.0])), 1000, 0)

    assert built.duplicates == 1
    assert Reader().one(built)["a"] == 1


def test_samples_with_a_time_of_their_own_are_frames_of_their_own() -> None:
    target, reader = builder(), Reader()
    body = b"a 1\nb 2 500\nc 3 400\n"

    built = target.scrape(TextParser().parse(body), 1000, 0)

    first, second, scraped = reader.read(built)
    assert (first, second) == ({"c": 3}, {"b": 2})
    assert [frame.time_ms for frame in built.frames] == [400, 500, 1000]
    assert scraped["a"] == 1
    assert scraped["scrape_samples_scraped"] == 3
    assert scraped["scrape_samples_post_metric_relabeling"] == 3
    assert built.dictionaries[0].target.feed == "/metrics" + OWN_TIME
    again = target.scrape(TextParser().parse(body), 2000, 0)
    assert again.late == 2
    assert [frame.time_ms for frame in again.frames] == [2000]


def test_metric_relabelling_drops_series() -> None:
    rule = Relabel(RelabelConfig(("__name__",), regex="b", action="drop"))

    frame = Reader().one(builder(rules=(rule,)).scrape(readings(a=1, b=2), 1000, 0))

    assert "b" not in frame
    assert frame["scrape_samples_scraped"] == 2
    assert frame["scrape_samples_post_metric_relabeling"] == 1
