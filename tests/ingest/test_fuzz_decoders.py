"""Whatever comes in, a decoder gives a value or its own error with one of its reasons."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.ingest.health import read_health
from pipeline.ingest.ledger import FeedReader
from pipeline.ingest.ledger_feeds import FEEDS
from pipeline.ingest.prometheus_text import TextParser
from pipeline.ingest.readings import PayloadError, Readings

SAMPLES = Path(__file__).parent / "samples"
MESSAGES = sorted(path.read_bytes() for path in SAMPLES.glob("*.json"))
TEXTS = sorted(path.read_bytes() for path in SAMPLES.glob("*metrics*.txt"))
REASONS = {"not_json", "shape", "field", "too_many", "refused", "unauthorized"}
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

KEYS = st.sampled_from(
    ["type", "data", "payload", "metrics", "tps", "nodeId", "status", "channelId", "latency",
     "channel", "validator", "peerId", "connected", "event", "value", "gasUsed", "leader", "round",
     "transactionMetrics", "transactionsByType", "checks", "name"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["UP", "ACTIVE", "nodes", "metrics", "message", "auth_response", "ping", "1"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=15,
)


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """A sample with some pieces cut out, doubled or replaced."""
    content = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 40)))
        piece = draw(
            st.sampled_from(
                [b"", content[start:end] * 2, b"null", b"-1", b"1e999", b'"', b"{", b"\xff"]
            )
            | st.binary(max_size=4)
        )
        content = content[:start] + piece + content[end:]
    return content


def read(decode: Callable[[], Readings | None]) -> tuple[Readings | None, str]:
    """What is read, or the reason why nothing is."""
    try:
        return decode(), ""
    except PayloadError as error:
        return None, error.reason


def read_by_all(payload: str | bytes) -> None:
    for path in FEEDS:
        reader = FeedReader(path)
        before = reader.counted()
        readings, reason = read(lambda reader=reader: reader.read(payload).readings)
        after = reader.counted()
        assert not reason or reason in REASONS
        if readings is not None:
            assert len(readings.series) == len(readings.values) > 0
        if reason and before is not None and after is not None:
            assert (before.values == after.values).all()


@quick
@given(mutated(MESSAGES) | st.binary(max_size=60))
@example(b"[" * 100_000)
@example(b'{"type":"message","channel":"c","data":' + b'{"a":' * 1000 + b"1" + b"}" * 1001)
def test_any_bytes_are_read_by_every_feed_or_refused(payload: bytes) -> None:
    read_by_all(payload)
    read_by_all(payload.decode("utf-8", "replace"))


@quick
@given(st.dictionaries(KEYS, JSON, max_size=6) | JSON)
def test_any_json_is_read_by_every_feed_or_refused(content: object) -> None:
    read_by_all(json.dumps(content))


@quick
@given(st.text(max_size=60) | st.sampled_from(["ERROR", "PONG", "SUBSCRIBED ", "SUBSCRIBE"]))
def test_any_text_is_read_by_every_feed_or_refused(text: str) -> None:
    read_by_all(text)


@quick
@given(
    mutated(MESSAGES) | st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode())
)
@example(b'{"status":"UP","checks":' + b"[" * 100_000)
def test_any_bytes_are_health_or_refused(body: bytes) -> None:
    readings, reason = read(lambda: read_health(body))
    if readings is None:
        assert reason == "health"
    else:
        assert len(readings.series) == len(readings.values) >= 1


@quick
@given(mutated(TEXTS) | st.binary(max_size=200), mutated(TEXTS))
@example(b"a" * 200_000, b"a{" * 50_000)
@example(b'a{b="' + b'\\"' * 100_000, b"# HELP a " + b"\\" * 100_000)
def test_any_bytes_are_metrics_or_refused(first: bytes, second: bytes) -> None:
    parser = TextParser()
    for body in (first, second, first):
        readings, reason = read(lambda body=body: parser.parse(body))
        if readings is None:
            assert reason == "exposition"
            continue
        assert len(readings.series) == len(readings.values)
        again = parser.parse_known(body)
        assert again is not None
        assert again.series is readings.series
        assert again.values.tobytes() == readings.values.tobytes()


def test_every_sample_is_mutated() -> None:
    assert len(MESSAGES) > 40
    assert len(TEXTS) == 2
    with pytest.raises(PayloadError):
        read_health(MESSAGES[0][:-3])
