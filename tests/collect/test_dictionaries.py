"""Dictionaries wait no longer than something needs them."""

import numpy as np

from pipeline.collect.dictionaries import UnsentDictionaries
from pipeline.model import Frame, Series, SeriesDictionary, Target

TARGET = Target("job", "a", "/m")


def dictionary(name: str) -> SeriesDictionary:
    return SeriesDictionary(TARGET, (Series((("__name__", name),)),))


def frame(of: SeriesDictionary) -> Frame:
    return Frame(TARGET.id, of.id, 1, np.zeros(1))


def test_a_sent_dictionary_is_needed_no_more() -> None:
    unsent, a = UnsentDictionaries(), dictionary("a")
    unsent.add(a)
    unsent.enqueued(frame(a))

    assert unsent.needed_by(frame(a)) is a
    unsent.sent(a.id)

    assert unsent.needed_by(frame(a)) is None
    assert len(unsent) == 0


def test_the_newest_is_kept_though_its_frames_were_dropped() -> None:
    unsent, a = UnsentDictionaries(), dictionary("a")
    unsent.add(a)
    unsent.enqueued(frame(a))
    unsent.left(frame(a))

    assert unsent.needed_by(frame(a)) is a


def test_one_that_only_dropped_frames_used_is_forgotten() -> None:
    unsent, a, b = UnsentDictionaries(), dictionary("a"), dictionary("b")
    unsent.add(a)
    unsent.enqueued(frame(a))
    unsent.add(b)
    assert len(unsent) == 2

    unsent.left(frame(a))

    assert unsent.needed_by(frame(a)) is None
    assert unsent.needed_by(frame(b)) is b


def test_one_that_nothing_waits_for_is_forgotten_when_a_newer_one_comes() -> None:
    unsent = UnsentDictionaries()
    for i in range(100):
        unsent.add(dictionary(f"a{i}"))

    assert len(unsent) == 1
