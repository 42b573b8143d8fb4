from __future__ import annotations

from pathlib import Path

from pipeline.dispatch.intervals import read_intervals_ms


def test_longest_interval_of_groups_with_the_alert_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yml", tmp_path / "b.yml"
    first.write_text("""
groups:
  - name: fast
    interval: 5s
    rules:
      - {alert: Both, expr: up == 0, for: 1m}
      - {record: not:an:alert, expr: up}
  - name: usual
    rules: [{alert: Usual, expr: up == 0}]
""")
    second.write_text("groups: [{name: g, interval: 1m30s, rules: [{alert: Both, expr: up}]}]")
    problems: list[str] = []
    files = [str(first), str(second)]
    assert read_intervals_ms(files, 15_000, problems) == {"Both": 90_000, "Usual": 15_000}
    assert problems == []


def test_files_that_can_not_be_read_are_named_and_the_others_count(tmp_path: Path) -> None:
    texts = {
        "good.yml": "groups: [{name: g, rules: [{alert: A, expr: up}]}]",
        "rubbish.yml": "{",
        "other.yml": "groups: 1",
        "when.yml": "groups: [{name: g, interval: soon, rules: [{alert: B, expr: up}]}]",
        "bytes.yml": "",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bytes.yml").write_bytes(b"\xff\xfe\xff")
    problems: list[str] = []
    files = [str(tmp_path / name) for name in [*texts, "absent.yml"]]
    assert read_intervals_ms(files, 15_000, problems) == {"A": 15_000}
    named = [Path(problem.partition(": ")[0]).name for problem in problems]
    assert named == ["rubbish.yml", "other.yml", "when.yml", "bytes.yml", "absent.yml"]
