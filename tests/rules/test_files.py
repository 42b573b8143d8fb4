"""What rule files may hold, and what is said about what they may not."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.promql.plan import Version
from pipeline.rules.document import Problem, Severity
from pipeline.rules.files import load_rules, read_rules, rule_files
from pipeline.rules.rule import AlertingRule, RecordingRule


def read(text: str | bytes, prometheus: Version = "3") -> list[str]:
    content = text.encode() if isinstance(text, str) else text
    return [str(problem) for problem in read_rules(content, "r.yml", prometheus)[1]]


def in_group(*rules: str, fields: str = "") -> str:
    """A file with one group; the first rule stands in line 4 (5 with `fields`)."""
    lines = "".join(f"  - {rule}\n" for rule in rules)
    return f"groups:\n- name: g\n{fields}  rules:\n{lines}"


def test_a_rule_has_all_its_fields() -> None:
    text = in_group(
        "{alert: A, expr: up == 0, for: 1m30s, keep_firing_for: 5m, "
        "labels: {severity: high, team: a}, annotations: {summary: '{{ $value }}'}}",
        "{record: 'job:up:sum', expr: sum by (job) (up), labels: {team: a}}",
        fields="  interval: 30s\n  limit: 0\n  query_offset: 0s\n  labels: {team: g, site: s}\n",
    )
    (group,), problems = read_rules(text.encode(), "r.yml", "3")
    assert problems == []
    assert (group.key, group.interval_ms, group.limit) == ("r.yml;g", 30_000, 0)
    alert, record = group.rules
    assert isinstance(alert, AlertingRule)
    assert (alert.name, alert.expr, alert.for_ms, alert.keep_firing_for_ms) == (
        "A", "up == 0", 90_000, 300_000,
    )  # fmt: skip
    assert alert.labels == (("severity", "high"), ("site", "s"), ("team", "a"))
    assert alert.annotations == (("summary", "{{ $value }}"),)
    assert (alert.group, alert.key, alert.line) == ("r.yml;g", "r.yml;g;A;1", 8)
    assert alert.scope == "local"
    assert isinstance(record, RecordingRule)
    assert (record.name, record.labels, record.line) == (
        "job:up:sum", (("site", "s"), ("team", "a")), 9,
    )  # fmt: skip


def test_rules_of_the_same_name_have_keys_of_their_own() -> None:
    text = in_group("{alert: A, expr: x}", "{alert: B, expr: x}", "{alert: A, expr: y}")
    (group,), _ = read_rules(text.encode(), "r.yml", "3")
    keys = [rule.key for rule in group.rules if isinstance(rule, AlertingRule)]
    assert keys == ["r.yml;g;A;1", "r.yml;g;B;1", "r.yml;g;A;2"]


def test_a_rule_that_sets_the_instance_is_global() -> None:
    text = in_group("{alert: A, expr: x, labels: {instance: all}}")
    (group,), _ = read_rules(text.encode(), "r.yml", "3")
    (rule,) = group.rules
    assert isinstance(rule, AlertingRule)
    assert (rule.plan.scope, rule.scope) == ("local", "global")


def test_merge_keys_are_followed_and_own_keys_win() -> None:
    text = (
        "groups:\n- name: g\n  rules:\n"
        "  - {alert: A, expr: x, labels: &a {one: a, two: a}}\n"
        "  - {alert: B, expr: x, labels: &b {two: b, three: b}}\n"
        "  - {alert: C, expr: x, labels: {<<: [*a, *b], one: c}}\n"
        "  - {alert: D, expr: x, labels: {<<: *a}}\n"
    )
    (group,), problems = read_rules(text.encode(), "r.yml", "3")
    assert problems == []
    assert group.rules[2].labels == (("one", "c"), ("three", "b"), ("two", "a"))
    assert group.rules[3].labels == (("one", "a"), ("two", "a"))


RULE = "r.yml:4: groups[0].rules[0]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (in_group("{alert: A, expr: x, for: 5x}"),
         RULE + '.for: expected a duration such as "30s" or "1m30s", got \'5x\''),
        (in_group("{alert: A, expr: x, for: [5m]}"),
         RULE + ".for: expected a duration, got a list"),
        (in_group("{alert: A, expr: x, for: 300y}"),
         RULE + ".for: expected at most 292 years, got '300y'"),
        (in_group("{alert: A, expr: x, fro: 5m}"),
         RULE + ".fro: unknown field; expected one of record, alert, expr"),
        (in_group("{alert: A}"),
         RULE + ".expr: expected an expression, got nothing"),
        (in_group("{alert: A, expr: [x]}"),
         RULE + ".expr: expected an expression, got a list"),
        (in_group("{expr: x}"),
         RULE + ": expected either alert or record, got neither"),
        (in_group("{alert: A, record: B, expr: x}"),
         RULE + ': expected either alert or record, got "A" and "B"'),
        (in_group("{record: B, expr: x, for: 5m}"),
         RULE + ".for: a recording rule can't have this field"),
        (in_group("{record: B, expr: x, keep_firing_for: 5m}"),
         RULE + ".keep_firing_for: a recording rule can't have this field"),
        (in_group("{record: B, expr: x, annotations: {a: b}}"),
         RULE + ".annotations: a recording rule can't have this field"),
        (in_group("{record: 'B{a=\"b\"}', expr: x}"),
         RULE + '.record: expected a metric name without braces, got "B{a="b"}";'),
        (in_group("{alert: A, expr: x, labels: {__name__: y}}"),
         RULE + '.labels: expected a label name, got "__name__"'),
        (in_group("{alert: A, expr: x, labels: [a]}"),
         RULE + ".labels: expected a mapping of names to texts, got a list"),
        (in_group("{alert: A, expr: x, labels: {a: [b]}}"),
         RULE + ".labels.a: expected a text, got a list"),
        (in_group("{alert: A, expr: x, labels: {a: b, a: c}}"),
         RULE + '.labels: key "a" stands twice (first in line 4)'),
        (in_group("{alert: A, expr: x, labels: {[a]: b}}"),
         RULE + ".labels: expected a text as key, got a list"),
        (in_group("{alert: A, expr: x, annotations: {a: '{{ nofunc }}'}}"),
         RULE + ".annotations.a: expected a template: line 1, character 4: func"),
        (in_group("{alert: A, expr: x, annotations: {a: '{{ query \"up\" }}'}}"),
         RULE + '.annotations.a: the template function "query" is not'),
        (in_group("5"), RULE + ': expected a rule, got "5"'),
        (in_group(fields="  limit: x\n"),
         'r.yml:3: groups[0].limit: expected a whole number, got "x"'),
        (in_group(fields="  limit: '5'\n"),
         'r.yml:3: groups[0].limit: expected a whole number, got "5"'),
        (in_group(fields="  limit: .inf\n"),
         'r.yml:3: groups[0].limit: expected a whole number, got ".inf"'),
        (in_group(fields="  limit: 1.5\n"),
         "r.yml:3: warning: groups[0].limit: expected a whole number, got 1.5; cut off"),
        (in_group(fields="  limit: 2\n"),
         "r.yml:3: warning: groups[0].limit: is not applied yet"),
        (in_group(fields="  query_offset: 1m\n"),
         "r.yml:3: warning: groups[0].query_offset: is not applied yet"),
        ("groups:\n- name: g\n- name: g\n",
         'r.yml:3: groups[1].name: group "g" stands twice (first: groups[0])'),
        ("groups:\n- rules: []\n", "r.yml:2: groups[0].name: expected a name, got nothing"),
        ("groups: 5\n", 'r.yml:1: groups: expected a list of groups, got "5"'),
        ("group: []\n", "r.yml:1: group: unknown field; expected one of groups"),
        ("[]\n", "r.yml:1: expected a mapping with the key groups, got a list"),
        ("groups:\n- name: [\n", "r.yml:3: expected YAML: did not find expected node content"),
        (b"\xff\xfe\xff", "r.yml: expected YAML: "),
        (b"groups: [\x00]", "r.yml: expected YAML: control characters are not allowed"),
        ("groups: " + "[" * 10_000,
         "r.yml: expected at most 50 levels of nesting, got more"),
        ("groups: [~]\n", "r.yml:1: warning: groups[0]: is empty and left out"),
        (in_group("null"), "r.yml:4: warning: groups[0].rules[0]: is empty and left out"),
        ("groups: []\n---\ngroups: [\n",
         "r.yml: warning: only the first YAML document of a file is read"),
        ("groups: []\n---\ngroups: []\n",
         "r.yml: warning: only the first YAML document of a file is read"),
        (in_group("{record: B, expr: x}", "{record: B, expr: y}"),
         'r.yml:5: warning: g: "B" stands twice with the same labels (first in line 4)'),
    ],
)  # fmt: skip
def test_a_problem_says_where_what_was_expected_and_what_came(
    text: str | bytes, expected: str
) -> None:
    problems = read(text)
    assert any(problem.startswith(expected) for problem in problems), problems


def test_long_values_are_cut_in_messages() -> None:
    (problem,) = read("groups: " + "x" * 200 + "\n")
    assert problem == f'r.yml:1: groups: expected a list of groups, got "{"x" * 60}…"'
    (problem,) = read(in_group("{alert: A, expr: '" + "x + " * 40 + "}'}"))
    assert problem.endswith(", in " + ("x + " * 20)[:79] + "…")


def test_an_expression_of_80_characters_is_shown_whole() -> None:
    exact = "x + " * 19 + "ab ("
    (problem,) = read(in_group(f"{{alert: A, expr: '{exact}'}}"))
    assert problem.endswith(f", in {exact}")
    (problem,) = read(in_group(f"{{alert: A, expr: 'a{exact}'}}"))
    assert problem.endswith(f", in a{exact[:78]}…")


def test_50_levels_of_nesting_are_read_and_51_are_not() -> None:
    """The outermost mapping is the first level; what stands side by side is on one level."""
    refused = ["r.yml: expected at most 50 levels of nesting, got more"]
    assert read("groups: " + "[" * 49 + "]" * 49) != refused
    assert read("groups: " + "[" * 50 + "]" * 50) == refused
    assert read(f"groups: [{'[], ' * 60}]") != refused


def test_an_expression_that_is_not_promql_is_shown() -> None:
    (problem,) = read(in_group("{alert: A, expr: 'up =='}"))
    assert problem.startswith("r.yml:4: groups[0].rules[0].expr: ")
    assert problem.endswith("in up ==")


def test_every_problem_of_a_file_is_reported_and_sound_rules_stay() -> None:
    text = in_group(
        "{alert: A, expr: x, for: 5x, labels: {__name__: a}}",
        "{alert: B, expr: x}",
        "{alert: C, expr: 'x ='}",
        "{record: D, expr: 'x ='}",
    )
    (group,), problems = read_rules(text.encode(), "r.yml", "3")
    assert [rule.name for rule in group.rules] == ["B"]
    assert [problem.line for problem in problems] == [4, 4, 6, 7]


@pytest.mark.parametrize("text", ["", "~\n", "groups:\n", "groups: []\n", "groups:\n- name: g\n"])
def test_files_without_rules_are_fine(text: str) -> None:
    assert read(text) == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_read(encoding: str) -> None:
    groups, problems = read_rules(in_group("{alert: Ä, expr: x}").encode(encoding), "r.yml", "3")
    assert problems == []
    assert groups[0].rules[0].name == "Ä"


def test_files_are_found_without_unit_tests(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yml", "a_test.yml", "c.yaml", "d_test.yaml"):
        (tmp_path / name).write_text("groups: []\n", encoding="utf-8")
    expected = [str(tmp_path / name) for name in ("a.yml", "b.yml", "c.yaml")]
    assert rule_files(["*.yml", "*.yaml", "a.*"], tmp_path) == expected
    assert rule_files([f"{tmp_path}/*.y*ml"], Path("/nowhere")) == expected


def test_all_files_come_in_one_report(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(in_group("{alert: A, expr: x}"), encoding="utf-8")
    (tmp_path / "b.yml").write_text("[]\n", encoding="utf-8")
    files = [str(tmp_path / name) for name in ("a.yml", "b.yml", "none.yml")]
    groups, problems = load_rules(files, "3")
    assert [group.file for group in groups] == files[:1]
    assert [str(problem) for problem in problems] == [
        f"{files[1]}:1: expected a mapping with the key groups, got a list",
        f"{files[2]}: can't be read: No such file or directory",
    ]
    assert problems[1] == Problem(files[2], 0, "", "can't be read: No such file or directory")


ACCEPTED_BY_BOTH = [
    "",
    "~\n",
    "groups:\n- null\n",
    "groups:\n- name: g\n  interval: ~\n  rules: null\n",
    in_group("null"),
    in_group("{alert: 5, expr: x}"),
    in_group("{alert: A, expr: 1}"),
    in_group("{alert: A, expr: x, for: 0}"),
    in_group("{alert: A, expr: x, for: 0s, keep_firing_for: 1d1h}"),
    in_group("{alert: A, expr: x, for: null, labels: null, annotations: ~}"),
    in_group("{alert: A, record: '', expr: x}"),
    in_group("{record: A, expr: x, for: 0s}"),
    in_group("{record: A, expr: x, labels: {b: '{{'}}"),
    in_group("{alert: A, expr: x, labels: {alertname: B, c: 5, d: true, e: null, f: 1.50}}"),
    in_group("{alert: A, expr: x}", "{alert: A, expr: x}"),
    in_group("{alert: A, expr: x, annotations: {a: '{{/* c */}}{{ gt $value 1 }}'}}"),
    in_group(fields="  limit: 1.5\n"),
    in_group(fields="  limit: -1\n"),
    "groups: []\n---\nfoo: [\n",
    in_group("{alert: A, expr: x, labels: &l {a: b}}", "{alert: B, expr: x, labels: {<<: *l}}"),
]
REFUSED_BY_BOTH = [
    "[]\n",
    "groups: 5\n",
    "rules: []\n",
    "groups:\n- name: ''\n",
    "groups:\n- name: [a]\n",
    "groups:\n- name: a\n- name: a\n",
    "groups:\n- name: a\n  name: b\n",
    "groups:\n- name: a\n  source: b\n",
    "groups:\n- name: a\n  rules: {}\n",
    "\tgroups: []\n",
    in_group(fields="  interval: 5\n"),
    in_group(fields="  interval: -5m\n"),
    in_group(fields="  limit: '5'\n"),
    in_group(fields="  limit: true\n"),
    in_group("5"),
    in_group("{}"),
    in_group("{alert: A}"),
    in_group("{expr: x}"),
    in_group("{alert: A, record: b, expr: x}"),
    in_group("{alert: [1], expr: x}"),
    in_group("{alert: A, expr: [x]}"),
    in_group("{alert: A, expr: ''}"),
    in_group("{alert: A, expr: 'x =='}"),
    in_group("{alert: A, expr: x, for: 5}"),
    in_group("{alert: A, expr: x, for: ''}"),
    in_group("{alert: A, expr: x, for: 300y}"),
    in_group("{alert: A, expr: x, for: 5m, for: 5m}"),
    in_group("{alert: A, expr: x, labels: [a]}"),
    in_group("{alert: A, expr: x, labels: {a: [b]}}"),
    in_group("{alert: A, expr: x, labels: {__name__: b}}"),
    in_group("{alert: A, expr: x, labels: {'': b}}"),
    in_group("{alert: A, expr: x, labels: {a: '{{'}}"),
    in_group("{alert: A, expr: x, annotations: {a: '{{ nofunc }}'}}"),
    in_group("{alert: A, expr: x, annotations: {a: '{{ /* c */ }}'}}"),
    in_group("{alert: A, expr: x, annotations: {a: '{{ $nope }}'}}"),
    in_group("{record: 'a{b=\"c\"}', expr: x}"),
    in_group("{record: a, expr: x, for: 5m}"),
    in_group("{record: a, expr: x, keep_firing_for: 5m}"),
    in_group("{record: a, expr: x, annotations: {a: b}}"),
    in_group("{record: a, expr: x, labels: {__name__: b}}"),
]
ONLY_IN_3 = [
    in_group(fields="  query_offset: 1m\n"),
    in_group(fields="  labels: {a: b}\n"),
    in_group("{alert: A, expr: x, labels: {'a-b': c}}"),
    in_group("{alert: A, expr: x, annotations: {'a b': c}}"),
    in_group("{record: 'a b', expr: x}"),
    in_group("{alert: A, expr: x, annotations: {a: '{{ urlQueryEscape $labels.a }}'}}"),
]


def is_accepted(text: str, prometheus: Version) -> bool:
    _, problems = read_rules(text.encode(), "r.yml", prometheus)
    return all(problem.severity is Severity.WARNING for problem in problems)


@pytest.mark.parametrize("prometheus", ["2", "3"])
def test_what_is_accepted_and_refused(prometheus: Version) -> None:
    for text in ACCEPTED_BY_BOTH:
        assert is_accepted(text, prometheus), text
    for text in REFUSED_BY_BOTH:
        assert not is_accepted(text, prometheus), text
    for text in ONLY_IN_3:
        assert is_accepted(text, prometheus) == (prometheus == "3"), text


@pytest.mark.parts
def test_promtool_accepts_and_refuses_the_same(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    """Debian's promtool has version 2's rules."""
    promtool = program("promtool")
    path = tmp_path / "r.yml"
    for text in ACCEPTED_BY_BOTH + REFUSED_BY_BOTH + ONLY_IN_3:
        path.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [promtool, "check", "rules", "--lint", "none", str(path)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == is_accepted(text, "2"), text + done.stdout + done.stderr
