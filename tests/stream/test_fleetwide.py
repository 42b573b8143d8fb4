from fleet import START_MS, dictionary, fleetwide, frame, partition

from pipeline.model import Evaluated
from pipeline.stream.partition import batch_of


def mark(subject, number: int, at_s: float):
    return subject.mark(Evaluated("w", number, START_MS + int(at_s * 1000)))


def forwarded(source, subject, at_s: float, load: float, instance: str):
    """What `source` forwards of a frame; `subject` gets the new dictionaries."""
    step = source.frames(batch_of([frame(instance, at_s, load)]), unknown={})
    for reduced in step.dictionaries:
        subject.learn(reduced)
    return batch_of(step.forwarded[3])


def test_a_sum_over_two_partitions_fires_when_both_have_come_so_far(tmp_path):
    subject, left, right = fleetwide(tmp_path), partition(tmp_path, 0), partition(tmp_path, 1)
    for source, instance in ((left, "a"), (right, "b")):
        source.learn(dictionary(instance))
    mark(subject, 0, 0)
    mark(subject, 1, 0)
    subject.frames(forwarded(left, subject, 1, 13.0, "a"))
    assert mark(subject, 0, 2).alerts == []
    subject.frames(forwarded(right, subject, 1, 14.0, "b"))
    step = mark(subject, 1, 2)
    (alert,) = [a for a in step.alerts if a.state == "firing"]
    assert dict(alert.labels) == {"alertname": "SumTooMuch", "job": "node"}
    assert alert.value == 27.0
    subject.frames(forwarded(left, subject, 3, 1.0, "a"))
    mark(subject, 0, 4)
    step = mark(subject, 1, 4)
    assert [a.state for a in step.alerts] == ["inactive"]


def test_nothing_is_evaluated_while_a_partition_has_given_no_mark(tmp_path):
    subject, left = fleetwide(tmp_path), partition(tmp_path, 0)
    left.learn(dictionary("a"))
    subject.frames(forwarded(left, subject, 1, 30.0, "a"))
    for second in range(2, 40):
        assert mark(subject, 0, second).alerts == []
    assert subject.time_ms is None


def test_a_repeated_mark_or_frame_changes_nothing(tmp_path):
    subject, left = fleetwide(tmp_path, partitions=1), partition(tmp_path, 0)
    left.learn(dictionary("a"))
    mark(subject, 0, 0)
    batch = forwarded(left, subject, 1, 30.0, "a")
    subject.frames(batch)
    subject.frames(batch)
    assert [a.state for a in mark(subject, 0, 2).alerts] == ["firing"]
    assert mark(subject, 0, 2).alerts == []
    assert mark(subject, 0, 1).alerts == []


def test_a_frame_of_an_unknown_dictionary_is_named_and_left_out(tmp_path):
    subject, left = fleetwide(tmp_path, partitions=1), partition(tmp_path, 0)
    left.learn(dictionary("a"))
    batch = batch_of(left.frames(batch_of([frame("a", 1, 30.0)]), unknown={}).forwarded[3])
    assert subject.unknown(batch) == [batch.frame(0).dictionary_id]
    subject.frames(batch)
    mark(subject, 0, 0)
    assert mark(subject, 0, 2).alerts == []
