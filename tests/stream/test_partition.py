import numpy as np
from fleet import START_MS, dictionary, frame, partition

from pipeline.model import Frame, Series, SeriesDictionary, Target, Tick, labels_from
from pipeline.stream.partition import batch_of


def states(step) -> list[tuple[str, str, int]]:
    return [
        (dict(a.labels)["alertname"], a.state, a.sample_time_ms - START_MS) for a in step.alerts
    ]


def take(subject, *frames: Frame):
    return subject.frames(batch_of(list(frames)), unknown={})


def tick(subject, at_s: float):
    return subject.tick(Tick("c", START_MS + int(at_s * 1000)))


def test_a_breach_fires_at_its_own_frame_and_one_with_for_is_pending_untold(tmp_path):
    subject = partition(tmp_path)
    subject.learn(dictionary("a"))
    assert states(take(subject, frame("a", 0, 1.0))) == []
    assert states(take(subject, frame("a", 1, 11.0))) == [("TooMuch", "firing", 1000)]
    held = subject.verdicts.active(START_MS + 1000)
    assert {(dict(a.labels)["alertname"], a.state) for a in held} == {
        ("TooMuch", "firing"),
        ("TooLong", "pending"),
    }
    assert subject.verdicts.counts() == {"pending": 1, "firing": 1}
    assert states(take(subject, frame("a", 5, 11.0))) == []
    assert states(take(subject, frame("a", 6, 11.0))) == [("TooLong", "firing", 6000)]
    ended = states(take(subject, frame("a", 7, 1.0)))
    assert sorted(ended) == [("TooLong", "inactive", 7000), ("TooMuch", "inactive", 7000)]


def test_frames_of_one_batch_are_taken_one_after_the_other(tmp_path):
    subject = partition(tmp_path)
    subject.learn(dictionary("a"))
    step = take(subject, frame("a", 1, 11.0), frame("a", 2, 1.0), frame("a", 3, 12.0))
    too_much = [state for state in states(step) if state[0] == "TooMuch"]
    assert too_much == [
        ("TooMuch", "firing", 1000),
        ("TooMuch", "inactive", 2000),
        ("TooMuch", "firing", 3000),
    ]


def test_late_and_duplicate_frames_are_counted_and_change_nothing(tmp_path):
    subject = partition(tmp_path)
    subject.learn(dictionary("a"))
    take(subject, frame("a", 5, 1.0))
    assert states(take(subject, frame("a", 5, 11.0), frame("a", 4, 11.0))) == []
    counts = subject.take_counts()
    assert (counts.frames, counts.duplicate, counts.late, counts.samples) == (1, 1, 1, 2)
    assert subject.take_counts().frames == 0


def test_frames_that_fit_no_dictionary_are_rejected_with_the_reason(tmp_path):
    subject = partition(tmp_path)
    subject.learn(dictionary("a"))
    unknown = frame("b", 1, 11.0)
    good = frame("a", 1, 11.0)
    short = Frame(good.target_id, good.dictionary_id, good.time_ms, np.array([1.0]))
    foreign = Frame(unknown.target_id, good.dictionary_id, good.time_ms, good.values)
    batch = batch_of([unknown, short, foreign, good])
    assert subject.unknown(batch) == [unknown.dictionary_id]
    step = subject.frames(batch, unknown={unknown.dictionary_id: "not in the topic"})
    assert [(r.reason, r.detail) for r in step.rejected] == [
        ("dictionary", "not in the topic"),
        ("columns", "expected 2 values, got 1"),
        ("target", "the dictionary is another target's"),
    ]
    assert ("TooMuch", "firing", 1000) in states(step)
    counts = subject.take_counts()
    assert counts.rejected == {"dictionary": 1, "columns": 1, "target": 1}


def test_a_tick_gives_a_mark_and_repeats_firing_alerts_each_30_s(tmp_path):
    subject = partition(tmp_path, number=2)
    subject.learn(dictionary("a"))
    tick(subject, 0)
    take(subject, frame("a", 1, 11.0))
    step = tick(subject, 2)
    assert [(m.partition, m.time_ms - START_MS) for m in step.marks] == [(2, 2000)]
    assert [a for a in states(step) if a[1] == "firing"] == []
    take(subject, frame("a", 29, 11.0))
    again = tick(subject, 31)
    firing = [a for a in again.alerts if a.state == "firing"]
    assert {dict(a.labels)["alertname"] for a in firing} == {"TooMuch", "TooLong"}
    assert all(a.ends_at_ms == START_MS + 31_000 + 240_000 for a in firing)


def test_a_series_that_stops_resolves_when_its_lookback_is_over(tmp_path):
    subject = partition(tmp_path)
    subject.learn(dictionary("a"))
    tick(subject, 0)
    take(subject, frame("a", 1, 11.0))
    ended = []
    for second in range(10, 340, 10):
        ended += [a for a in tick(subject, second).alerts if a.state == "inactive"]
    assert {dict(a.labels)["alertname"] for a in ended} == {"TooMuch", "TooLong"}
    # The sample of second 1 is seen for 5 minutes; the next instant of the 10 s grid ends it.
    assert all(301_000 < a.time_ms - START_MS <= 321_000 for a in ended)


def test_what_a_global_rule_selects_is_forwarded_to_its_owner(tmp_path):
    subject = partition(tmp_path)
    subject.learn(dictionary("a"))
    step = take(subject, frame("a", 1, 7.0))
    (reduced,) = step.dictionaries
    assert [series.name for series in reduced.series] == ["load"]
    (sent,) = step.forwarded[3]
    assert (sent.target_id, sent.dictionary_id) == (reduced.target.id, reduced.id)
    assert sent.values.tolist() == [7.0]
    assert list(step.forwarded) == [3]
    assert take(subject, frame("a", 2, 7.0)).dictionaries == []


def test_a_jump_is_scored_and_published_with_the_next_tick(tmp_path):
    subject = partition(tmp_path)
    subject.learn(dictionary("a"))
    rng = np.random.default_rng(3)
    found = []
    for second in range(210):
        load = (100 if second < 200 else 200) + float(rng.standard_normal())
        assert take(subject, frame("a", second, 5.0, load)).scores is None
        scores = subject.tick(Tick("c", START_MS + second * 1000)).scores
        found += [(second, s) for s in scores.scores[scores.columns == 1].tolist()]
    assert max(score for _, score in found) > 1.0
    assert 200 <= min(second for second, score in found if score > 1.0) <= 202
    assert subject.take_counts().anomalies >= 1


def test_many_scores_do_not_wait_for_a_tick(tmp_path):
    subject = partition(tmp_path, publish_above=0.0)
    subject.learn(dictionary("a"))
    steps = [take(subject, frame("a", second, 5.0)) for second in range(1024)]
    sent = [len(step.scores) for step in steps if step.scores is not None]
    assert sent == [1024]


def test_a_feed_that_no_rule_looks_at_is_only_scored(tmp_path):
    subject = partition(tmp_path)
    subject.learn(dictionary("a"))
    take(subject, frame("a", 1, 11.0))
    target = Target("node", "a", "/other")
    silent = SeriesDictionary(target, (Series(labels_from({"__name__": "unruled"}), "gauge"),))
    subject.learn(silent)
    step = take(subject, Frame(target.id, silent.id, START_MS + 2000, np.array([1.0])))
    assert step.alerts == []
    assert subject.take_counts().frames == 2
