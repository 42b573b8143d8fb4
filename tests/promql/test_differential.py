"""The same expressions over the same series, in promtool and here: equal but for float rounding.

promtool prints what an expression gave where that isn't what the test file expected. So the file
expects, for every expression, what the evaluator gave, and what promtool prints is compared once
more with a tolerance (its comparison is exact).
"""

from __future__ import annotations

import lzma
import math
import random
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from pipeline.model import Labels
from pipeline.promql.functions import AGGREGATIONS, ARITHMETIC, COMPARISONS
from pipeline.promql.functions import RANGE_FUNCTIONS as RANGE_NUMBERS
from pipeline.promql.plan import Version

pytestmark = pytest.mark.parts

Ask = Callable[..., Mapping[tuple[str, float], Mapping[Labels, float] | str]]
NAN, INF = math.nan, math.inf
SAMPLES = 240
TIMES_S = (0, 61, 600, 6059, 7200, 14_339)

_seeded = random.Random(1)
SERIES: dict[str, list[float | str | None]] = {
    'up{job="a"}': [1.0] * SAMPLES,
    'up{job="b"}': [1.0 if i % 7 else 0.0 for i in range(SAMPLES)],
    'c{d="x",job="a"}': [i * 3.0 % 200 for i in range(SAMPLES)],
    'c{d="y",job="a"}': [i * 7.5 for i in range(SAMPLES)],
    'c{d="x",job="b"}': [None if i % 5 == 3 else i * 1.25 for i in range(SAMPLES)],
    'g{d="x",job="a"}': [_seeded.gauss(1e6, 50) for _ in range(SAMPLES)],
    'g{d="y",job="a"}': [_seeded.choice([1.0, 2.0, NAN, INF]) for _ in range(SAMPLES)],
    'g{d="z",job="b"}': [1.5] * 100 + ["stale"] + [None] * 20 + [2.5] * (SAMPLES - 121),
    'info{d="x",job="a",team="red"}': [1.0] * SAMPLES,
    'info{d="y",job="a",team="blue"}': [1.0] * SAMPLES,
    'many{d="x",job="a",k="1"}': [4.0] * SAMPLES,
    'many{d="x",job="a",k="2"}': [5.0] * SAMPLES,
    'many{d="y",job="a",k="1"}': [6.0] * SAMPLES,
    "neg": [-3.0 + i * 0.5 for i in range(SAMPLES)],
}

RANGE_FUNCTIONS = (*RANGE_NUMBERS, "absent_over_time")
ONE_ARGUMENT = ("abs", "ceil", "floor", "sqrt", "exp", "ln", "log2", "log10", "sgn", "round", "-")

EXPRESSIONS = [
    *(
        f"{f}({m}[{w}])"
        for f in RANGE_FUNCTIONS
        if f != "predict_linear"
        for m in "cg"
        for w in ("90s", "5m", "2h")
    ),
    *(f"{f}(c[5m] offset 7m)" for f in RANGE_FUNCTIONS if f != "predict_linear"),
    *(f"c {o} g" for o in ARITHMETIC | COMPARISONS),
    *(f"c {o} 100" for o in ARITHMETIC | COMPARISONS),
    *(f"100 {o} c" for o in ARITHMETIC | COMPARISONS),
    *(f"c {o} bool g" for o in COMPARISONS),
    *(f"3 {o} bool 2" for o in COMPARISONS),
    *(f"{a} {by} (g)" for a in AGGREGATIONS for by in ("", "by (d)", "without (d)")),
    *(f"{a}(c)" for a in AGGREGATIONS),
    *(f"{f}(neg)" for f in ONE_ARGUMENT),
    "predict_linear(g[1h], 3600)",
    "predict_linear(c[3h], 60)",
    "predict_linear(neg[10m] offset 5m, 100)",
    "round(neg, 0.3)",
    "clamp(g, 0, 5)",
    "clamp(neg, 2, 1)",
    "clamp_min(g, 2)",
    "clamp_max(g, 2)",
    "c and g",
    "c or g",
    "c unless g",
    "c and on (job) up == 1",
    'c unless on (job) up{job="b"}',
    "c or on (d) g",
    "many * on (d, job) group_left (team) info",
    "info * on (d, job) group_right (team) many",
    "many * on (d, job) group_left (k) info",
    "many > on (d, job) group_left (nothing) info",
    "many * ignoring (k) group_left info",
    "info + ignoring (k, team) many",
    "c * on (d) group_left info",
    "c + on (job) up",
    "up + on (job) c",
    "many > on (d, job) info > 100",
    "many == on (d, job) info",
    "many * on (d, job) nothing",
    "nothing * on (d, job) many",
    "absent(nothing)",
    'absent(nothing{a="1",b=~"x",c!="2"})',
    'absent(nothing{a="1",a="2"})',
    "absent(up)",
    "absent(sum(nothing))",
    'absent(g{d="z"})',
    "-1 ^ 2",
    "time() - neg",
    "vector(time())",
    "scalar(neg)",
    "scalar(c)",
    "neg / 0",
    "neg % 0",
    '{__name__=~"c|g",d="x"} > 0',
    'rate({__name__=~"c|g",d="x"}[5m])',
    'c{d!="x"}',
    'c{d=~""}',
    'c{nolabel=""}',
    'c{d!~"x.*"}',
    "sum by (job) (rate(c[5m])) / sum by (job) (increase(c[5m]))",
    "1 - avg without (d) (rate(c[5m])) > 0.5",
    "count(up == 0) or vector(0)",
    "c - c offset 10m",
]


def notation(labels: Labels) -> str:
    """Labels as promtool reads them."""
    pairs = dict(labels)
    name = pairs.pop("__name__", "")
    return name + "{" + ",".join(f'{name}="{text}"' for name, text in pairs.items()) + "}"


def sample_notation(sample: float | str | None) -> str:
    if sample is None or isinstance(sample, str):
        return sample or "_"
    return {NAN: "NaN", INF: "Inf"}.get(sample, repr(sample)) if sample == sample else "NaN"


def parse_seconds(text: str) -> int:
    """promtool's durations: 1h40m59s."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


def parse_samples(text: str) -> dict[str, float]:
    """`{a="b"} 1E+00, {…} NaN` as printed after exp: and got:; `nil` is none."""
    found = re.findall(r"(\w*\{[^}]*\}) (\S+?)(?:,|$)", text.strip())
    return {labels.replace(", ", ","): float(number) for labels, number in found}


def equal(left: float, right: float) -> bool:
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    return math.isclose(left, right, rel_tol=1e-12, abs_tol=0)


def canonical(labels: str) -> tuple[str, ...]:
    name, _, body = labels.rstrip("}").partition("{")
    pairs = sorted(part for part in body.split(",") if part)
    if name:
        pairs.insert(0, f'__name__="{name}"')
    return tuple(sorted(pairs))


def test_promtool_2_agrees(ask_all: Ask, program: Callable[[str], str], tmp_path: Path) -> None:
    compare(ask_all, program("promtool"), "2", tmp_path / "expressions_test.yml")


def test_promtool_3_agrees(ask_all: Ask, shared: Path, tmp_path: Path) -> None:
    promtool = tmp_path / "promtool3"
    promtool.write_bytes(lzma.decompress((shared / "tools/promtool3.xz").read_bytes()))
    promtool.chmod(0o700)
    compare(ask_all, str(promtool), "3", tmp_path / "expressions_test.yml")


def compare(ask_all: Ask, promtool: str, version: Version, path: Path) -> None:
    """Every expression at every time, here and in `promtool`, whose test file goes to `path`."""
    ours = ask_all(SERIES, EXPRESSIONS, TIMES_S, version=version)
    cases = [
        {
            "expr": expr,
            "eval_time": f"{time_s}s",
            "exp_samples": []
            if isinstance(result, str)
            else [{"labels": notation(labels), "value": v} for labels, v in result.items()],
        }
        for (expr, time_s), result in ours.items()
    ]
    series = [
        {"series": name.replace("{", '{instance="i",') if "{" in name else name + '{instance="i"}',
         "values": " ".join(map(sample_notation, values))}
        for name, values in SERIES.items()
    ]  # fmt: skip
    # Every second is an evaluation, so that each instant sees the samples up to it.
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": cases}]
    path.write_text(yaml.safe_dump({"evaluation_interval": "1s", "tests": tests}))
    run = subprocess.run(
        [promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    report = run.stdout + run.stderr
    reported = re.findall(
        r'expr: "(.*?)", time: (\w+),\s*(.*?)(?=\n\s*expr: "|\Z)', report, re.DOTALL
    )
    assert reported, report

    failed = {key for key, result in ours.items() if isinstance(result, str)}
    for expr, time, rest in reported:
        key = (expr.replace('\\"', '"'), parse_seconds(time))
        if rest.startswith("err:"):
            assert key in failed, (key, rest)
            failed.discard(key)
            continue
        expected, got = re.fullmatch(r"exp:(.*?)\s*got:(.*)", rest.strip(), re.DOTALL).groups()
        mine = {canonical(k): v for k, v in parse_samples(expected).items()}
        theirs = {canonical(k): v for k, v in parse_samples(got).items()}
        assert mine.keys() == theirs.keys(), (key, rest)
        assert all(equal(mine[k], theirs[k]) for k in mine), (key, rest)
    assert failed == set(), "promtool found no error where the evaluator did"
