"""Whatever bytes a topic holds, decoding gives a record or a CodecError with one of its reasons."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.codec import (
    CodecError,
    decode_alert,
    decode_dictionary,
    decode_signal,
    decode_telemetry,
    encode_alert,
    encode_dictionary,
    encode_frames,
    encode_mark,
    encode_scores,
    encode_tick,
)
from pipeline.model import (
    Alert,
    Evaluated,
    Frame,
    ScoreBatch,
    Series,
    SeriesDictionary,
    Target,
    Tick,
)

REASONS = {"not_a_record", "version", "kind", "truncated", "length", "malformed"}
DICTIONARY = SeriesDictionary(
    Target("j", "i", "/m"), (Series((("__name__", "a"), ("x", "y")), "counter", "s"),)
)
ALERT = Alert(
    labels=(("alertname", "A"),),
    annotations=(("summary", "s"),),
    state="firing",
    time_ms=1,
    active_at_ms=1,
    starts_at_ms=1,
    ends_at_ms=2,
    value=1.5,
    sample_time_ms=1,
    group="f;g",
)
SCORES = ScoreBatch(
    np.array([1], dtype=np.uint64),
    np.array([2], dtype=np.uint64),
    np.array([3], dtype=np.int64),
    np.array([0, 2], dtype=np.int64),
    np.array([0, 1], dtype=np.uint32),
    np.array([0.5, 0.7], dtype=np.float32),
)
RECORDS = [
    encode_frames([Frame(1, 2, 3, np.array([1.0, 2.0])), Frame(4, 5, 6, np.array([7.0]))]),
    encode_tick(Tick("c", 1)),
    encode_dictionary(DICTIONARY),
    encode_scores(SCORES),
    encode_mark(Evaluated("w", 1, 2)),
    encode_alert(ALERT),
]
DECODERS = (decode_telemetry, decode_dictionary, decode_signal, decode_alert)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A record with a few bytes replaced, cut out or put in; sometimes with another's beginning."""
    record = draw(st.sampled_from(RECORDS))
    if draw(st.booleans()):
        record = draw(st.sampled_from(RECORDS))[:8] + record[8:]
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(record)))
        end = draw(st.integers(start, min(len(record), start + 8)))
        record = record[:start] + draw(st.binary(max_size=8)) + record[end:]
    return record


@settings(max_examples=500, deadline=None)
@given(mutated() | st.binary(max_size=100) | st.binary(max_size=60).map(lambda b: b"WK\x01" + b))
@example(b"WK\x01\x01\xff\xff\xff\xff")
@example(b"WK\x01\x02\x01\x00\x00\x00" + b"\x91" * 100_000)
@example(b'{"version":1,"alert":' + b"[" * 100_000)
@example(b'{"version":1' + b"0" * 5000 + b"}")
def test_any_bytes_are_a_record_or_a_codec_error(record: bytes) -> None:
    reasons = set()
    for decode in DECODERS:
        try:
            decode(record)
        except CodecError as error:
            reasons.add(error.reason)
    assert reasons <= REASONS


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_that_is_cut_off_is_none(record: bytes) -> None:
    for size in range(len(record)):
        for decode in DECODERS:
            with pytest.raises(CodecError):
                decode(record[:size])
