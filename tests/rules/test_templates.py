"""Templates as Prometheus renders them; expected texts are from its documentation and source."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.model import labels_from
from pipeline.rules.humanize import humanize_timestamp
from pipeline.rules.templates import TemplateData, check_template, render, table_link, uses_value

LABELS = labels_from(
    {
        "__name__": "disk_free",
        "instance": "db-1.example.org:9100",
        "device": "sda1",
        "path": "/var/lib",
        "pattern": "(",
    }
)
DATA = TemplateData(LABELS, 3.5, (("site", "one"),), "http://p:9090/prom")


def rendered(text: str) -> str:
    assert check_template(text, "__alert_A", "3") == ""
    result, fine = render(text, "__alert_A", DATA, "3")
    assert fine, result
    return result


RENDERED = [
    ("plain text with } and { in it", "plain text with } and { in it"),
    ("{{ $labels.device }} has {{ $value }}", "sda1 has 3.5"),
    ("{{ .Labels.device }} has {{ .Value }}", "sda1 has 3.5"),
    ("{{ $labels.__name__ }}", "disk_free"),
    ("[{{ $labels.nope }}]", "[]"),
    ('[{{ index $labels "nope" }}] {{ index $labels "device" }}', "[] sda1"),
    ('{{ index (index (args "a") "arg0") 0 }}', "97"),
    ("{{ if $labels.nope }}yes{{ else }}no{{ end }}", "no"),
    ('{{ if eq $labels.device "sda1" }}yes{{ end }}', "yes"),
    ("{{ range $name, $text := $labels }}{{ $name }} {{ end }}",
     "__name__ device instance path pattern "),
    ("{{ with $labels.device }}{{ . }}{{ end }}", "sda1"),
    ("{{/* a comment */}}text", "text"),
    ("{{ gt $value 3.0 }}", "true"),
    ('{{ printf "%d" $value }}', "%!d(float64=3.5)"),
    ('{{ printf "%.2f of %s" $value $labels.device }}', "3.50 of sda1"),
    ("{{ $value | humanize }}", "3.5"),
    ('{{ "1234567" | humanize }}', "1.235M"),
    ("{{ 0.05 | humanize }}", "50m"),
    ("{{ 2048.0 | humanize1024 }}", "2ki"),
    ("{{ 93784 | humanizeDuration }}", "1d 2h 3m 4s"),
    ("{{ 0.1234567 | humanizePercentage }}", "12.35%"),
    ("{{ 1435737600.5 | humanizeTimestamp }}", "2015-07-01 08:00:00.5 +0000 UTC"),
    ("{{ $labels.device | toUpper }}", "SDA1"),
    ('{{ "ABC" | toLower }}', "abc"),
    ('{{ "it\'s a-b c_d éa 1x" | title }}', "It'S A-B C_d Éa 1x"),
    ('{{ match "a[0-9]$" $labels.device }}', "true"),
    ('{{ match "^da" $labels.device }}', "false"),
    ('{{ reReplaceAll "(.*)(a)(.*)" "$3-${2}-$1$$$9$x" "sda1" }}', "1-a-sd$"),
    ('{{ reReplaceAll "(?P<first>[a-z])[a-z]" "$first." "abcd" }}', "a.c."),
    ('{{ reReplaceAll "(x)?b" "[$1]" "ab" }}', "a[]"),
    ("{{ stripPort $labels.instance }}", "db-1.example.org"),
    ('{{ stripPort "[::1]:9100" }}', "::1"),
    ('{{ stripPort "::1" }} {{ stripPort "host" }}', "::1 host"),
    ("{{ stripDomain $labels.instance }}", "db-1:9100"),
    ('{{ stripDomain "10.0.0.1:9100" }} {{ stripDomain "[::1]:90" }}', "10.0.0.1:9100 [::1]:90"),
    ('{{ parseDuration "1m30s" }}', "90"),
    ('{{ safeHtml "<b>" }}', "<b>"),
    ("{{ externalURL }} {{ $externalURL }} {{ pathPrefix }}",
     "http://p:9090/prom http://p:9090/prom /prom"),
    ("{{ $externalLabels.site }}", "one"),
    ('{{ tableLink "up == 0" }}', "/graph?g0.expr=up+%3D%3D+0&g0.tab=1"),
    ('{{ graphLink "up" }}', "/graph?g0.expr=up&g0.tab=0"),
    ('{{ define "t" }}{{ .arg0 }}+{{ .arg1 }}{{ end }}{{ template "t" (args 1 "b") }}', "1+b"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), RENDERED)
def test_a_template_is_rendered(text: str, expected: str) -> None:
    assert rendered(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ gt $value 1 }}", "incompatible types for comparison"),
        ("{{ .Nope }}", "Nope"),
        ("{{ $labels.device.upper }}", "upper"),
        ("{{ match $labels.pattern $labels.device }}", "error parsing regexp"),
        ("{{ reReplaceAll $labels.pattern $labels.device $labels.path }}", "error parsing regexp"),
        ("{{ humanize $labels.device }}", "could not convert"),
        ("{{ humanize true }}", "can't convert bool to float"),
        ("{{ 1e300 | humanizeTimestamp }}", "overflows int64"),
        ('{{ parseDuration "x" }}', "expected a duration"),
        ("{{ toUpper 5 }}", "toUpper"),
    ],
)
def test_a_failure_becomes_the_text(text: str, reason: str) -> None:
    assert check_template(text, "__alert_A", "3") == ""
    result, fine = render(text, "__alert_A", DATA, "3")
    assert not fine
    assert result.startswith("<error expanding template: error executing template __alert_A: ")
    assert result.endswith(">")
    assert reason in result


def test_a_template_that_goes_on_for_ever_is_stopped() -> None:
    text = '{{ define "t" }}{{ template "t" }}{{ end }}{{ template "t" }}'
    result, fine = render(text, "__alert_A", DATA, "3")
    assert not fine
    assert "budget exceeded" in result


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{", "expected a template: line 1, character 1: unclosed action"),
        ("one\n{{ nofunc }}", "expected a template: line 2, character 4: function 'nofunc' not"),
        ("{{ /* c */ }}", "expected a template: line 1, character 4: unexpected '/'"),
        ("{{ $nope }}", "expected a template: line 1, character 4: undefined variable '$nope'"),
        ("{{ end }}", "expected a template: "),
        ('{{ query "up" | first | value }}', 'the template function "query" is not supported yet'),
        ("{{ now }}", 'the template function "now" is not supported yet'),
    ],
)
def test_what_is_no_template_is_refused(text: str, said: str) -> None:
    assert check_template(text, "__alert_A", "3").startswith(said)


def test_deep_nesting_is_refused_without_a_crash() -> None:
    assert check_template("{{ " + "(" * 10_000, "__alert_A", "3").startswith("expected a template")


def test_a_text_beyond_all_reason_is_refused() -> None:
    said = check_template("{{ $value }}" + "x" * 1_000_000, "__alert_A", "3")
    assert said.startswith("expected a template: template source exceeds")


def test_version_2_has_fewer_functions() -> None:
    assert check_template("{{ urlQueryEscape $labels.a }}", "a", "3") == ""
    assert "not defined" in check_template("{{ urlQueryEscape $labels.a }}", "a", "2")
    assert "not defined" in check_template("{{ now }}", "a", "2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain value", False),
        ("{{ $labels.device }}", False),
        ("{{ $labels.device | toUpper }} value", False),
        ('{{ if eq $labels.device "a" }}b{{ end }}', False),
        ("{{ $value }}", True),
        ("{{ .Value }}", True),
        ("{{\n.Value }}", True),
        ("{{ . }}", True),
        ('{{ printf "%v" . }}', True),
        ('{{ query "x" | first }}', True),
        ("{{ now }}", True),
    ],
)
def test_whether_a_text_depends_on_the_value(text: str, expected: bool) -> None:
    assert uses_value(text) == expected


def test_a_table_link_escapes_the_expression() -> None:
    assert table_link('a{b="c"} + 1') == "/graph?g0.expr=a%7Bb%3D%22c%22%7D+%2B+1&g0.tab=1"


def test_times_before_1970_are_written_too() -> None:
    assert humanize_timestamp(-1.5) == "1969-12-31 23:59:58.5 +0000 UTC"


@pytest.mark.parts
def test_promtool_renders_the_same(program: Callable[[str], str], tmp_path: Path) -> None:
    texts = [pair for pair in RENDERED if "externalURL" not in pair[0] and "site" not in pair[0]]
    annotations = {f"a{i}": text for i, (text, _) in enumerate(texts)}
    rule = {"alert": "A", "expr": "disk_free", "annotations": annotations}
    (tmp_path / "r.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}), encoding="utf-8"
    )
    labels = ", ".join(f'{name}="{value}"' for name, value in LABELS if name != "__name__")
    expected = {
        "exp_labels": {name: value for name, value in LABELS if name != "__name__"},
        "exp_annotations": {f"a{i}": text for i, (_, text) in enumerate(texts)},
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": f"disk_free{{{labels}}}", "values": "3.5"}],
        "alert_rule_test": [{"alertname": "A", "eval_time": "0m", "exp_alerts": [expected]}],
    }
    (tmp_path / "t.yml").write_text(
        yaml.safe_dump({"rule_files": ["r.yml"], "tests": [test]}), encoding="utf-8"
    )
    done = subprocess.run(
        [program("promtool"), "test", "rules", "t.yml"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
