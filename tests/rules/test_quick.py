"""The quick way of rendering gives what Go's machine gives, and takes what rules really say."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.model import Labels, labels_from
from pipeline.rules.quick import LONGEST_RESULT, LONGEST_TEXT, render_quickly
from pipeline.rules.templates import TemplateData, check_template, render, render_fully

LABELS = labels_from({"instance": "a:1", "device": "sda"})
DATA = TemplateData(LABELS, 3.5, (("site", "one"),), "http://p:9090/")

SPACES = st.text(" \t\r\n", max_size=2)
GAPS = st.text(" \t\r\n", min_size=1, max_size=2)
NAMES = st.sampled_from(["instance", "device", "nope", "__name__", "_", "A1", "Value", "get"])
NUMBERS = st.sampled_from(["$value", ".Value"])
MAPS = st.sampled_from(["$labels", ".Labels", "$externalLabels", ".ExternalLabels"])
FORMATS = st.builds('printf "%.{}{}"'.format, st.integers(0, 12), st.sampled_from("efg"))
FUNCTIONS = FORMATS | st.sampled_from(
    ["humanize", "humanize1024", "humanizePercentage", "humanizeDuration", "humanizeTimestamp"]
)
BODIES = (
    NUMBERS
    | MAPS
    | st.builds("{}.{}".format, MAPS, NAMES)
    | st.builds("{}{}".format, st.builds("{} {}|".format, NUMBERS, SPACES), FUNCTIONS)
    | st.builds("{}{}|{}{}".format, NUMBERS, SPACES, SPACES, FUNCTIONS)
    | st.builds("{}{}{}".format, FUNCTIONS, GAPS, NUMBERS)
)
OPENINGS = st.sampled_from(["{{"]) | st.builds("{{{{-{}".format, GAPS)
CLOSINGS = st.sampled_from(["}}"]) | st.builds("{}-}}}}".format, GAPS)
ACTIONS = st.builds("{}{}{}{}{}".format, OPENINGS, SPACES, BODIES, SPACES, CLOSINGS)
LITERALS = st.text(max_size=8).filter(lambda text: "{" not in text) | st.sampled_from(
    [" ", "\n", "\v", "\u00a0", "}}", "%", "<b>&", "é", "-", "- ", " -"]
)
TEMPLATES = st.lists(ACTIONS | LITERALS, max_size=5).map("".join)
TOKENS = st.sampled_from(
    ["{{", "{{-", "{{- ", "}}", "-}}", " -}}", "{", "}", " ", "\n", "\v", "(", ")", "-", "1",
     "$value", ".Value", "$labels", ".Labels", "$externalLabels", ".ExternalLabels", ".device",
     ".", "$", "|", "humanize", "printf", '"%.2f"', '"%.2x"', "`%.2f`", "/*", "*/", "x", "é"]
)  # fmt: skip
SOUP = st.lists(TOKENS, max_size=9).map("".join)
ONE_ACTION = st.lists(TOKENS, min_size=1, max_size=5).map(
    lambda tokens: f"{{{{{''.join(tokens)}}}}}"
)
TEXTS = st.text(max_size=6) | st.sampled_from(["a b", "x:1]", "{{ $value }}", "\n", "%!", "é€😀"])
LABEL_SETS = st.dictionaries(NAMES, TEXTS, max_size=4).map(labels_from)
VALUES = (
    st.floats()
    | st.integers(-(10**18), 10**18).map(float)
    | st.floats(-1000, 1000)
    | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1e21, 1e-7, 999999.5, 1e6, 1e16])
)


def both_ways(text: str, data: TemplateData) -> tuple[str | None, tuple[str, bool]]:
    quick = render_quickly(text, data.Value, data.Labels, data.ExternalLabels)
    return quick, render_fully(text, "__alert_A", data, "3")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(text=TEMPLATES, value=VALUES, labels=LABEL_SETS, external=LABEL_SETS)
@example(text="a \n{{- $value -}}\t b", value=1.5, labels=(), external=())
def test_simple_templates_come_out_the_same(
    text: str, value: float, labels: Labels, external: Labels
) -> None:
    quick, (full, fine) = both_ways(text, TemplateData(labels, value, external, ""))
    assert quick == (full if fine else None)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(text=ONE_ACTION | SOUP, value=VALUES)
def test_whatever_is_taken_comes_out_the_same(text: str, value: float) -> None:
    quick = render_quickly(text, value, dict(LABELS), {})
    if quick is not None:
        assert check_template(text, "__alert_A", "3") == ""
        assert (quick, True) == render_fully(
            text, "__alert_A", TemplateData(LABELS, value, (), ""), "3"
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{{ $labels.device }} has {{ $value }}", "sda has 3.5"),
        ("{{.Labels.device}}{{.Value}}", "sda3.5"),
        ("[{{ $labels.nope }}]", "[]"),
        ("{{ $labels }}", "map[device:sda instance:a:1]"),
        ("{{ .ExternalLabels }} {{ $externalLabels.site }}", "map[site:one] one"),
        ('{{ printf "%.2f" $value }} {{ $value | printf "%.0e" }}', "3.50 4e+00"),
        ("{{ humanizePercentage .Value }} {{ $value|humanizeDuration }}", "350% 3.5s"),
        ("a {{- $value -}} b", "a3.5b"),
        ("a {{ $value }} b", "a 3.5 b"),
    ],
)
def test_a_simple_template_is_taken(text: str, expected: str) -> None:
    quick, full = both_ways(text, DATA)
    assert quick == expected
    assert full == (expected, True)


@pytest.mark.parametrize(
    "text",
    [
        "{{ if $value }}x{{ end }}",
        "{{ $labels.device | toUpper }}",
        "{{ $labels.device.x }}",
        "{{ $value | humanize | printf `%s` }}",
        '{{ printf "%d" $value }}',
        '{{ printf "%.2f of" $value }}',
        '{{ printf "%.100f" $value }}',
        "{{ $values }}",
        "{{ $LABELS }}",
        "{{ $labels.é }}",
        "{{ $labels. }}",
        "{{/* comment */}}",
        "{{-$value}}",
        "{{ $value-}}",
        "{{ $value }",
        "{{ $value }} {{",
        "{{ humanize$value }}",
        "{{ humanize $labels.device }}",
    ],
)
def test_what_is_not_simple_is_left(text: str) -> None:
    assert render_quickly(text, 1.0, dict(LABELS), {}) is None


def test_a_failure_is_left_to_tell() -> None:
    data = TemplateData(LABELS, 1e300, (), "")
    text = "{{ $value | humanizeTimestamp }}"
    assert render_quickly(text, 1e300, data.Labels, {}) is None
    rendered, fine = render(text, "__alert_A", data, "3")
    assert not fine
    assert "overflows int64" in rendered


def test_a_very_long_template_is_left() -> None:
    assert render_quickly("x" * LONGEST_TEXT, 1.0, {}, {}) == "x" * LONGEST_TEXT
    assert render_quickly("x" * (LONGEST_TEXT + 1), 1.0, {}, {}) is None


def test_a_result_beyond_the_limit_fails_as_in_the_general_way() -> None:
    fits = TemplateData((("a", "x" * LONGEST_RESULT),), 1.0, (), "")
    assert both_ways("{{ $labels.a }}", fits) == (
        "x" * LONGEST_RESULT,
        ("x" * LONGEST_RESULT, True),
    )
    quick, (full, fine) = both_ways("{{ $labels.a }}.", fits)
    assert quick is None
    assert not fine
    assert "budget exceeded" in full


def test_rendering_takes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simple template never gets as far as Go's machine."""
    monkeypatch.setattr("pipeline.rules.templates._compiled", None)
    assert render("{{ $labels.device }}", "n", DATA, "3") == ("sda", True)


def texts_of(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.yml")):
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in document["groups"]:
            for rule in group["rules"]:
                yield from rule.get("labels", {}).values()
                yield from rule.get("annotations", {}).values()


def test_rules_in_use_are_simple(shared: Path) -> None:
    """Every template of the collected rules is taken, and comes out the same."""
    templates = [text for text in texts_of(shared / "data/rules") if "{{" in text]
    assert len(templates) > 200
    for text in templates:
        for value in (3.5, 12345678.9, math.nan):
            data = TemplateData(LABELS, value, (), "")
            quick, full = both_ways(text, data)
            assert full == (quick, True), text


NUMBERS_IN_GO = {
    "0": "0",
    "-0.5": "-0.5",
    "100000": "100000",
    "999999.5": "999999.5",
    "1000000": "1e+06",
    "1234567": "1.234567e+06",
    "12345678.25": "1.234567825e+07",
    "100000000000000000": "1e+17",
    "1e21": "1e+21",
    "1e-4": "0.0001",
    "1.5e-7": "1.5e-07",
    "NaN": "NaN",
    "+Inf": "+Inf",
    "-Inf": "-Inf",
}
"""fmt's %v: from 1e+06 on and below 1e-04 with an exponent of at least two digits."""


@pytest.mark.parametrize(("value", "expected"), NUMBERS_IN_GO.items())
def test_numbers_are_written_as_in_go(value: str, expected: str) -> None:
    assert render_quickly("{{ $value }}", float(value), {}, {}) == expected


@pytest.mark.parts
def test_promtool_writes_numbers_the_same(program: Callable[[str], str], tmp_path: Path) -> None:
    directives = ["%.0f", "%.3f", "%.2e", "%.3g", "%.0g"]
    annotations = {f"p{i}": f'{{{{ printf "{d}" $value }}}}' for i, d in enumerate(directives)}
    annotations["v"] = "{{ $value }}"
    annotations["labels"] = "{{ $labels }}"
    series = {"a": "z", "b": "x y"}
    rules, tests = [], []
    for i, written in enumerate(NUMBERS_IN_GO):
        rules.append({"alert": f"A{i}", "expr": f"n + {written}", "annotations": annotations})
        expected = {
            name: render_quickly(text, float(written), series, {})
            for name, text in annotations.items()
        }
        alert = {"exp_labels": series, "exp_annotations": expected}
        tests.append({"alertname": f"A{i}", "eval_time": "0m", "exp_alerts": [alert]})
    (tmp_path / "r.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}), encoding="utf-8"
    )
    test = {
        "interval": "1m",
        "input_series": [{"series": 'n{a="z", b="x y"}', "values": "0"}],
        "alert_rule_test": tests,
    }
    (tmp_path / "t.yml").write_text(
        yaml.safe_dump({"rule_files": ["r.yml"], "tests": [test]}), encoding="utf-8"
    )
    done = subprocess.run(
        [program("promtool"), "test", "rules", "t.yml"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
