from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.codec import (
    MAX_FRAMES,
    CodecError,
    alert_key,
    decode_alert,
    decode_dictionary,
    decode_mark,
    decode_signal,
    decode_telemetry,
    dictionary_key,
    encode_alert,
    encode_dictionary,
    encode_frames,
    encode_mark,
    encode_scores,
    encode_tick,
)
from pipeline.model import (
    ABSENT,
    ABSENT_BITS,
    STALE,
    STALE_BITS,
    Alert,
    Evaluated,
    Frame,
    FrameBatch,
    ScoreBatch,
    Series,
    SeriesDictionary,
    Target,
    Tick,
    labels_from,
)

DICTIONARY = SeriesDictionary(
    Target("node", "a:9100", "/metrics"),
    (
        Series(labels_from({"__name__": "up", "job": "node"}), "gauge"),
        Series(labels_from({"__name__": "bytes_total", "path": 'é "\n'}), "counter", "bytes"),
    ),
)
ALERT = Alert(
    labels=labels_from({"alertname": "HighLatency", "severity": "medium"}),
    annotations=labels_from({"summary": "p99 is 0.25 s"}),
    state="firing",
    time_ms=1_700_000_300_000,
    active_at_ms=1_700_000_000_000,
    starts_at_ms=1_700_000_300_000,
    ends_at_ms=1_700_000_540_000,
    value=0.25,
    sample_time_ms=1_700_000_299_987,
    group="critical.yml;platform",
    generator_url="http://127.0.0.1:9090/graph",
)
SCORES = ScoreBatch(
    np.array([1], np.uint64),
    np.array([2], np.uint64),
    np.array([3]),
    np.array([0, 2]),
    np.array([0, 7], np.uint32),
    np.array([0.5, 3.0], np.float32),
)

GOLDEN_FRAMES = (
    "574b0101" "02000000"  # 'WK', version 1, kind 1, two frames
    "0100000000000000" "0a00000000000000" "e803000000000000" "02000000" "00000000"
    "ffffffffffffffff" "0b00000000000000" "ffffffffffffffff" "01000000" "00000000"
    "000000000000f03f" "020000000000f07f"  # 1.0, the stale marker
    "4b5700000000f07f"  # absent
)  # fmt: skip
GOLDEN_SCORES = (
    "574b0104" "01000000"
    "0100000000000000" "0200000000000000" "0300000000000000" "02000000" "00000000"
    "00000000" "0000003f" "07000000" "00004040"
)  # fmt: skip


def golden_frames():
    return [
        Frame(1, 10, 1000, np.concatenate([[1.0], STALE])),
        Frame(2**64 - 1, 11, -1, ABSENT),
    ]


def reason(decode, record):
    with pytest.raises(CodecError) as caught:
        decode(record)
    return caught.value.reason


def test_bytes_of_a_version_1_frame_record_are_as_documented():
    assert encode_frames(golden_frames()).hex() == GOLDEN_FRAMES


def test_a_version_1_frame_record_is_read():
    batch = decode_telemetry(bytes.fromhex(GOLDEN_FRAMES))
    assert isinstance(batch, FrameBatch)
    assert len(batch) == 2
    assert batch.targets.tolist() == [1, 2**64 - 1]
    assert batch.dictionaries.tolist() == [10, 11]
    assert batch.times_ms.tolist() == [1000, -1]
    assert batch.offsets.tolist() == [0, 2, 3]
    assert batch.values.view(np.uint64).tolist() == [0x3FF0000000000000, STALE_BITS, ABSENT_BITS]


def test_bytes_of_a_version_1_score_record_are_as_documented():
    assert encode_scores(SCORES).hex() == GOLDEN_SCORES


def test_a_frame_of_a_batch_is_what_was_put_in():
    batch = decode_telemetry(encode_frames(golden_frames()))
    for i, frame in enumerate(golden_frames()):
        got = batch.frame(i)
        assert (got.target_id, got.dictionary_id, got.time_ms) == (
            frame.target_id,
            frame.dictionary_id,
            frame.time_ms,
        )
        assert got.values.tobytes() == frame.values.tobytes()


def test_decoding_copies_no_value():
    record = encode_frames(golden_frames())
    batch = decode_telemetry(record)
    assert not batch.values.flags.writeable
    assert np.shares_memory(batch.values, np.frombuffer(record, np.uint8))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**64 - 1),
            st.integers(-(2**63), 2**63 - 1),
            st.lists(st.integers(0, 2**64 - 1), max_size=8),
        ),
        max_size=8,
    )
)
def test_frames_come_back_bit_for_bit(frames):
    """Any 64 bits as values: no NaN's payload is lost."""
    given_frames = [
        Frame(target, dictionary, time_ms, np.array(bits, np.uint64).view(np.float64))
        for target, dictionary, time_ms, bits in frames
    ]
    batch = decode_telemetry(encode_frames(given_frames))
    got = [
        (f.target_id, f.dictionary_id, f.time_ms, f.values.view(np.uint64).tolist())
        for f in map(batch.frame, range(len(batch)))
    ]
    assert got == frames


def test_ticks_and_marks_come_back():
    tick = Tick("host-a", 1_700_000_000_000)
    assert decode_telemetry(encode_tick(tick)) == tick
    mark = Evaluated("worker-1", 3, 1_700_000_000_000)
    assert decode_signal(encode_mark(mark)) == mark


def test_dictionaries_come_back_with_the_same_id():
    got = decode_dictionary(encode_dictionary(DICTIONARY))
    assert got == DICTIONARY
    assert got.id == DICTIONARY.id


def test_scores_come_back():
    got = decode_signal(encode_scores(SCORES))
    assert isinstance(got, ScoreBatch)
    assert len(got) == 1
    only = got.frame(0)
    assert (only.target_id, only.dictionary_id, only.time_ms) == (1, 2, 3)
    assert only.columns.tolist() == [0, 7]
    assert got.columns.tolist() == [0, 7]
    assert got.scores.tolist() == [0.5, 3.0]
    assert got.columns.dtype == np.uint32
    assert got.scores.dtype == np.float32


def test_forwarded_frames_are_read_from_signals():
    batch = decode_signal(encode_frames(golden_frames()))
    assert isinstance(batch, FrameBatch)
    assert len(batch) == 2


def test_alerts_come_back():
    assert decode_alert(encode_alert(ALERT)) == ALERT


def test_an_alert_can_be_read_by_a_person():
    assert b'"alertname","HighLatency"' in encode_alert(ALERT)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_alert_whose_value_is_no_number_is_not_lost(value):
    """`a / b` is infinite where b is 0, and compares as such."""
    got = decode_alert(encode_alert(msgspec.structs.replace(ALERT, value=value)))
    assert got.value == pytest.approx(value, nan_ok=True)
    assert got.labels == ALERT.labels


def test_keys_are_the_hexadecimal_ids():
    assert dictionary_key(255) == b"00000000000000ff"
    assert alert_key(ALERT) == f"{ALERT.fingerprint:016x}".encode()


FRAMES, TICK = bytes.fromhex(GOLDEN_FRAMES), encode_tick(Tick("a", 1))


@pytest.mark.parametrize(
    ("decode", "record", "expected"),
    [
        (decode_telemetry, b"", "truncated"),
        (decode_telemetry, FRAMES[:7], "truncated"),
        (decode_telemetry, b"XX" + FRAMES[2:], "not_a_record"),
        (decode_telemetry, b"WK\x02" + FRAMES[3:], "version"),
        (decode_telemetry, b"WK\x01\x03" + FRAMES[4:], "kind"),
        (decode_telemetry, FRAMES[:71], "truncated"),
        (decode_telemetry, FRAMES[:-1], "length"),
        (decode_telemetry, FRAMES + b"\0", "length"),
        (decode_telemetry, b"WK\x01\x01" + (MAX_FRAMES + 1).to_bytes(4, "little"), "length"),
        (decode_telemetry, TICK[:-1], "malformed"),
        (decode_telemetry, TICK + b"\0", "malformed"),
        (decode_telemetry, TICK[:8] + b"\x82\xa9collector\xa1\xff\xa7time_ms\x01", "malformed"),
        (decode_telemetry, TICK[:8] + b"\x81\xa1x" + b"\x91" * 100_000, "malformed"),
        (decode_dictionary, TICK, "kind"),
        (decode_dictionary, b"WK\x01\x03\x01\0\0\0\x80", "malformed"),
        (decode_dictionary, b"WK", "truncated"),
        (decode_signal, TICK, "kind"),
        (decode_signal, bytes.fromhex(GOLDEN_SCORES)[:39], "truncated"),
        (decode_signal, bytes.fromhex(GOLDEN_SCORES)[:-1], "length"),
        (decode_signal, b"WK\x01\x05\x01\0\0\0\xc0", "malformed"),
        (decode_alert, b"", "malformed"),
        (decode_alert, b"{}", "malformed"),
        (decode_alert, b'{"version":1,"alert":{}}', "malformed"),
        (decode_alert, b'{"version":2,"incident":{}}', "version"),
        (decode_alert, b'{"version":1,"x":' + b"[" * 100_000, "malformed"),
        (decode_alert, b'{"version":1,"alert":"\xff"}', "malformed"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_told_with_its_reason(decode, record, expected):
    assert reason(decode, record) == expected


def test_an_error_says_what_was_expected_and_what_came():
    with pytest.raises(CodecError, match="expected 96 bytes, got 95"):
        decode_telemetry(FRAMES[:-1])


VALID = [
    FRAMES,
    TICK,
    encode_dictionary(DICTIONARY),
    encode_scores(SCORES),
    encode_mark(Evaluated("w", 1, 2)),
    encode_alert(ALERT),
]
DECODERS = [decode_telemetry, decode_dictionary, decode_signal, decode_alert]


REASONS = {"not_a_record", "version", "kind", "truncated", "length", "malformed"}


def decode_or_reject(decode, record):
    """Any other exception than `CodecError` fails the test."""
    reason = "malformed"
    try:
        decode(record)
    except CodecError as error:
        reason = error.reason
    assert reason in REASONS


@given(st.sampled_from(DECODERS), st.binary(max_size=200))
def test_any_bytes_are_decoded_or_rejected(decode, record):
    decode_or_reject(decode, record)


@given(
    st.sampled_from(DECODERS),
    st.integers(1, 5),
    st.integers(0, 3),
    st.binary(max_size=200),
)
def test_any_bytes_behind_a_valid_beginning_are_decoded_or_rejected(decode, kind, count, body):
    decode_or_reject(decode, b"WK\x01" + bytes([kind]) + count.to_bytes(4, "little") + body)


@given(st.sampled_from(DECODERS), st.sampled_from(VALID), st.data())
def test_a_damaged_record_is_decoded_or_rejected(decode, record, data):
    damaged = bytearray(record)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(damaged)))
    decode_or_reject(decode, bytes(damaged[:end]))


def test_mark_is_picked_out_of_the_signals() -> None:
    mark = Evaluated("w", 3, 1_700_000_000_000)
    assert decode_mark(encode_mark(mark)) == mark
    assert decode_mark(encode_frames([])) is None
    with pytest.raises(CodecError):
        decode_mark(encode_mark(mark)[:-1])
    with pytest.raises(CodecError):
        decode_mark(b"rubbish")


def test_series_of_a_decoded_dictionary_share_the_pairs_that_they_have_in_common():
    common = ("instance", "host-1:9100")
    series = tuple(Series((("__name__", name), common), "gauge") for name in ("a", "b"))
    dictionary = SeriesDictionary(Target("j", "host-1:9100", "/metrics"), series)
    decoded = decode_dictionary(encode_dictionary(dictionary))
    assert decoded == dictionary
    assert decoded.id == dictionary.id
    assert decoded.series[0].labels[1] is decoded.series[1].labels[1]
