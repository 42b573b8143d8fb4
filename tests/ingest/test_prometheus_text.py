"""The text format: against prometheus_client's parser, by hand, and against anything at all."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from pipeline.ingest.prometheus_text import TextParser, parse_value
from pipeline.ingest.readings import Family, Readings
from pipeline.ingest.series_text import ParseError

EXPOSITION = """\
# HELP http_requests_total The total number of \\\\ HTTP\\n requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400",}    3 1395066363001

# A comment.
msdos_seconds{path="C:\\\\DIR\\\\FILE.TXT",error="Cannot find file:\\n\\"FILE\\""} 1.458255915e9
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
# TYPE rpc_duration_seconds summary
rpc_duration_seconds { quantile = "0.5" } 4773
rpc_duration_seconds_sum 1.7560473e+07
rpc_duration_seconds_count 2693
nothing NaN
"""


def as_dict(readings: Readings) -> dict[tuple[tuple[str, str], ...], float]:
    return dict(zip([s.labels for s in readings.series], readings.values.tolist(), strict=True))


def test_the_documented_example_is_read() -> None:
    parser = TextParser()

    readings = parser.parse(EXPOSITION.encode())

    by_name = {
        (series.name, dict(series.labels).get("code", "")): value
        for series, value in zip(readings.series, readings.values.tolist(), strict=True)
    }
    assert by_name["http_requests_total", "200"] == 1027
    assert by_name["http_requests_total", "400"] == 3
    assert by_name["something_weird", ""] == math.inf
    assert math.isnan(by_name["nothing", ""])
    labels = dict(readings.series[2].labels)
    assert labels["path"] == "C:\\DIR\\FILE.TXT"
    assert labels["error"] == 'Cannot find file:\n"FILE"'
    assert readings.times_ms is not None
    assert readings.times_ms.tolist()[:5] == [1395066363000, 1395066363001, 0, 0, -3982045]
    kinds = {series.name: series.kind for series in readings.series}
    assert kinds["http_requests_total"] == "counter"
    assert kinds["rpc_duration_seconds_sum"] == "summary"
    assert kinds["nothing"] == "unknown"
    help_text = "The total number of \\ HTTP\n requests."
    assert parser.families["http_requests_total"] == Family("counter", help_text)


def test_samples_of_the_platform_are_read_as_prometheus_client_reads_them() -> None:
    folder = Path(__file__).parent / "samples"
    for path in sorted(folder.glob("*q_metrics*.txt")):
        body = path.read_bytes()
        expected = {
            tuple(sorted({"__name__": sample.name, **sample.labels}.items())): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }
        assert as_dict(TextParser().parse(body)) == expected
        assert len(expected) > 10


def test_openmetrics_comments_are_tolerated() -> None:
    body = b"# TYPE x_seconds gauge\n# UNIT x_seconds seconds\nx_seconds 1\n# EOF\n"

    readings = TextParser().parse(body)

    assert readings.series[0].unit == "seconds"
    assert readings.values.tolist() == [1]


def test_an_unchanged_layout_keeps_the_series_object() -> None:
    parser = TextParser()
    first = parser.parse(b'a{x="1"} 1\nb 2 1000\n')

    again = parser.parse(b'a{x="1"} -7.5e3\nb 0.1 2000\n')

    assert again.series is first.series
    assert again.values.tolist() == [-7500, 0.1]
    assert again.times_ms is not None
    assert again.times_ms.tolist() == [0, 2000]


@pytest.mark.parametrize(
    "changed",
    [
        b'a{x="2"} 1\nb 2 1000\n',
        b'a{x="1"} 1\nb 2\n',
        b'a{x="1"} 1 5\nb 2 1000\n',
        b'a{x="1"} 1\nb 2 1000\nc 3\n',
        b'a{x="1"} 1\n',
        b'# TYPE a counter\na{x="1"} 1\nb 2 1000\n',
    ],
)
def test_a_changed_layout_is_read_anew(changed: bytes) -> None:
    parser = TextParser()
    parser.parse(b'a{x="1"} 1\nb 2 1000\n')

    readings = parser.parse(changed)

    fresh = TextParser().parse(changed)
    assert readings.series == fresh.series
    assert readings.values.tolist() == fresh.values.tolist()
    assert (readings.times_ms is None) == (fresh.times_ms is None)


@pytest.mark.parametrize(
    ("body", "line", "message"),
    [
        (b"a 1\nb{x=1} 2\n", 2, "expected a label as name=\"value\", got 'x=1'"),
        (b'a{x="1"\n', 1, "expected labels as {name="),
        (b"a\n", 1, "expected a value after the series, got 'a'"),
        (b"a 1 2 3\n", 1, "expected a time in ms, or the end of the line, got '2 3'"),
        (b"a one\n", 1, "expected a number as value, got 'one'"),
        (b"a 1_000\n", 1, "expected a number as value, got '1_000'"),
        (b"a 1\r\n", 1, "expected a number as value"),
        (b"<html>\n", 1, "expected a metric's name, got '<html>'"),
        (b"# TYPE a sum\n", 1, "expected one of the metric types, got 'sum'"),
        (b'a{x="1",x="2"} 1\n', 1, "expected each label once, got 'x'"),
        (b'a{x="\xff"} 1\n', 1, "expected UTF-8"),
    ],
)
def test_an_error_says_where_what_was_expected_and_what_came(
    body: bytes, line: int, message: str
) -> None:
    with pytest.raises(ParseError) as error:
        TextParser().parse(body)

    assert error.value.line == line
    assert message in str(error.value)
    assert str(error.value).startswith(f"line {line}: ")


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


@given(st.lists(st.floats(), min_size=1, max_size=20), st.data())
@example(
    [5e-324, 1.7976931348623157e308, 2.0**53, 2.0**53 + 2, 1e22, 1e23, -0.0, 123456789012345.67],
    None,
)
def test_values_equal_python_s_float_to_the_last_bit(
    values: list[float], data: st.DataObject | None
) -> None:
    forms = ["{!r}", "{:.3f}", "{:e}", "{:g}", "{:+.17e}", "{:E}"]
    texts = [
        (data.draw(st.sampled_from(forms)) if data else "{!r}").format(value) for value in values
    ]
    parser = TextParser()
    parser.parse("".join(f"a{i} 1\n" for i in range(len(texts))).encode())

    readings = parser.parse("".join(f"a{i} {text}\n" for i, text in enumerate(texts)).encode())

    for text, got in zip(texts, readings.values.tolist(), strict=True):
        expected = float(text)
        assert bits(got) == bits(expected) or (math.isnan(got) and math.isnan(expected))


@given(st.from_regex(rb"[-+]?[0-9]{0,25}\.?[0-9]{0,25}([eE][-+]?[0-9]{0,7})?", fullmatch=True))
def test_any_number_text_is_read_as_float_does_or_refused(text: bytes) -> None:
    parser = TextParser()
    parser.parse(b"a 1\n")
    try:
        expected = parse_value(text)
    except ValueError:
        with pytest.raises(ParseError):
            parser.parse(b"a " + text + b"\n")
        return

    assert bits(parser.parse(b"a " + text + b"\n").values.tolist()[0]) == bits(expected)


LINES = st.one_of(
    st.binary(max_size=40),
    st.from_regex(rb'[a-z]{1,3}(\{[a-z]="[^"\n]{0,4}",?\})? [0-9.eE+-]{1,6}( [0-9]{1,4})?'),
    st.sampled_from([b"# TYPE a counter", b"# HELP a \\n", b"# EOF", b"#", b"a{", b'a{b="'])
)  # fmt: skip


@given(st.lists(LINES, max_size=6), st.lists(LINES, max_size=6))
def test_whatever_comes_it_is_read_as_a_fresh_parser_would_or_refused(
    first: list[bytes], second: list[bytes]
) -> None:
    parser = TextParser()
    for lines in (first, second):
        body = b"\n".join(lines)
        try:
            expected = TextParser().parse(body)
        except ParseError:
            with pytest.raises(ParseError):
                parser.parse(body)
            continue
        readings = parser.parse(body)
        for got in (readings, parser.parse(body)):
            assert got.series == expected.series
            np.testing.assert_array_equal(got.values, expected.values)


def test_a_new_series_of_known_shape_is_read_as_a_fresh_parser_would() -> None:
    known = b'a{x="1",b="2"} 1\n'
    for line in (
        b'a{x="3",b="4"} 2\n',  # the shape
        b'a{x="",b="4"} 2\n',  # a label that isn't there
        b'a{x="\\"3",b="4"} 2\n',  # escapes
        'a{x="é}",b="{,="} 2\n'.encode(),
        b'a{x="3",b="4"} 2 1000\n',  # a time
        b'a{x="3",b="4"} 2\t1000\n',
        b'a{b="3",x="4"} 2\n',  # another order
    ):
        parser = TextParser()
        parser.parse(known)
        readings, expected = parser.parse(known + line), TextParser().parse(known + line)
        assert readings.series == expected.series
        assert readings.values.tolist() == expected.values.tolist()
        assert (readings.times_ms is None) == (expected.times_ms is None)


@pytest.mark.parametrize("line", [b'a{x="\xff"} 1', b'a{x="2"} one', b'a{x="2"} 1_0', b'a{x="2"} '])
def test_an_error_in_a_series_of_known_shape_has_its_place(line: bytes) -> None:
    parser = TextParser()
    parser.parse(b'a{x="1"} 1\n')

    with pytest.raises(ParseError) as error:
        parser.parse(b'a{x="1"} 1\nb 1\n' + line)

    assert error.value.line == 3
