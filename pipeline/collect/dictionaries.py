"""Dictionaries that Kafka hasn't acknowledged yet. Bounded by the frames and targets there are."""

from __future__ import annotations

from collections import Counter

from pipeline.model import Frame, SeriesDictionary


class UnsentDictionaries:
    """Keeps a dictionary while a waiting frame uses it, or its target's next frame will."""

    def __init__(self) -> None:
        self._unsent: dict[int, SeriesDictionary] = {}
        self._waiting: Counter[int] = Counter()
        """Frames by the unsent dictionary they use."""
        self._newest: dict[int, int] = {}
        """The dictionary that each target used last, while it is unsent."""

    def __len__(self) -> int:
        return len(self._unsent)

    def add(self, dictionary: SeriesDictionary) -> None:
        before = self._newest.get(dictionary.target.id)
        self._unsent[dictionary.id] = dictionary
        self._newest[dictionary.target.id] = dictionary.id
        if before is not None:
            self._forget_unused(before)

    def enqueued(self, frame: Frame) -> None:
        """`frame` waits."""
        if frame.dictionary_id in self._unsent:
            self._waiting[frame.dictionary_id] += 1

    def needed_by(self, frame: Frame) -> SeriesDictionary | None:
        """The dictionary that has to be sent before `frame`."""
        return self._unsent.get(frame.dictionary_id)

    def sent(self, dictionary_id: int) -> None:
        """Kafka has it, perhaps from disk."""
        dictionary = self._unsent.pop(dictionary_id, None)
        self._waiting.pop(dictionary_id, None)
        if dictionary is not None and self._newest.get(dictionary.target.id) == dictionary_id:
            del self._newest[dictionary.target.id]

    def left(self, frame: Frame) -> None:
        """`frame` no longer waits here: it was dropped, or put on disk with its dictionary."""
        if frame.dictionary_id in self._waiting:
            self._waiting[frame.dictionary_id] -= 1
            self._forget_unused(frame.dictionary_id)

    def _forget_unused(self, dictionary_id: int) -> None:
        dictionary = self._unsent.get(dictionary_id)
        if dictionary is None or self._waiting[dictionary_id] > 0:
            return
        if self._newest.get(dictionary.target.id) != dictionary_id:
            del self._unsent[dictionary_id]
            self._waiting.pop(dictionary_id, None)
