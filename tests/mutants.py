"""Changes sampled lines of the cores, one at a time, and sees whether the tests notice.

Each change is made in a copy of the tree in a temporary folder, where the tests of the changed
package run (kernels as plain Python). A change that no test notices is a survivor: a line that
could be wrong without anyone hearing of it, or a change that makes no difference.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("detect", "promql", "rules", "alerts")
AT_ONCE = 2
NOTICED_AT_LEAST = 0.85
LIMIT_S = 60.0
"""A change that makes the tests run on for longer counts as noticed ..."""
SLOWER = 4
"""... unless this many times what they take without a change is more, on a busy machine."""
NOT_COPIED = (".*", "__pycache__", "data", "build", "*.egg-info")
NOTHING_COLLECTED = 5
"""pytest's exit code."""
SWAPS: dict[type[ast.AST], tuple[str, tuple[str, ...]]] = {
    ast.Add: ("+", ("-",)), ast.Sub: ("-", ("+",)), ast.Mult: ("*", ("/",)),
    ast.Div: ("/", ("*",)), ast.FloorDiv: ("//", ("*",)), ast.Mod: ("%", ("*",)),
    ast.LShift: ("<<", (">>",)), ast.RShift: (">>", ("<<",)),
    ast.BitAnd: ("&", ("|",)), ast.BitOr: ("|", ("&",)), ast.BitXor: ("^", ("&",)),
    ast.Lt: ("<", ("<=", ">=")), ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")), ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)), ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)), ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)), ast.NotIn: ("not in", ("in",)),
    ast.And: ("and", ("or",)), ast.Or: ("or", ("and",)),
}  # fmt: skip
LOG_METHODS = ("debug", "info", "warning", "error", "exception", "critical")
SKIPPED_FIELDS = ("annotation", "returns", "decorator_list")


@dataclass(frozen=True)
class Mutation:
    """`source[start:end]` of a file gets another text."""

    file: str
    line: int
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Survivor:
    file: str
    line: int
    before: str
    after: str


class Source:
    """A module's text, with places of its syntax as offsets of characters."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.text = text
        self.tree = ast.parse(text)
        self._lines = io.StringIO(text).readlines()
        self._starts = [0, *accumulate(len(line) for line in self._lines)]
        self._tokens = [
            (self._starts[token.start[0] - 1] + token.start[1], token.string)
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type in (tokenize.OP, tokenize.NAME)
        ]

    def start(self, node: ast.expr) -> int:
        return self._offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr) -> int:
        return self._offset(node.end_lineno or 0, node.end_col_offset or 0)

    def _offset(self, line: int, column: int) -> int:
        """`ast` counts columns in bytes."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def replaced(self, start: int, end: int, text: str) -> Mutation:
        return Mutation(self.file, self.text.count("\n", 0, start) + 1, start, end, text)

    def operator(self, start: int, end: int, spelled: str) -> tuple[int, int]:
        """Where the operator stands between two operands."""
        words = spelled.split()
        tokens = [token for token in self._tokens if start <= token[0] < end]
        for i in range(len(tokens)):
            if [word for _, word in tokens[i : i + len(words)]] == words:
                last, word = tokens[i + len(words) - 1]
                return tokens[i][0], last + len(word)
        raise AssertionError(f"{self.file}: no {spelled!r} in {self.text[start:end]!r}")

    def shown(self, mutation: Mutation) -> Survivor:
        first = self.text.rfind("\n", 0, mutation.start) + 1
        last = self.text.find("\n", mutation.end)
        before = self.text[first:last]
        after = self.text[first : mutation.start] + mutation.text + self.text[mutation.end : last]
        return Survivor(self.file, mutation.line, before.strip(), after.strip())

    def mutated(self, mutation: Mutation) -> str:
        return self.text[: mutation.start] + mutation.text + self.text[mutation.end :]


def mutations(source: Source) -> Iterator[Mutation]:
    """Every change there is, in the order of the syntax tree.

    >>> text = "def f(a: int = 3):\\n    '''1 + 1'''\\n    return not a < -2\\n"
    >>> source = Source("f.py", text)
    >>> for mutation in mutations(source):
    ...     print(source.shown(mutation).after)
    def f(a: int = 4):
    def f(a: int = 2):
    return None
    return  a < -2
    return not a <= -2
    return not a >= -2
    return not a < 2
    return not a < -3
    return not a < -1
    """
    for node, in_function in _walk(source.tree, False):
        is_union = isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
        if in_function or not is_union:  # outside, `|` joins types
            yield from _of_operator(source, node)
        yield from _of_value(source, node)


def _of_operator(source: Source, node: ast.AST) -> Iterator[Mutation]:
    match node:
        case ast.BinOp():
            yield from _swapped(source, node.left, node.right, node.op)
        case ast.AugAssign():
            yield from _swapped(source, node.target, node.value, node.op, "=")
        case ast.Compare():
            for op, pair in zip(node.ops, pairwise([node.left, *node.comparators]), strict=True):
                yield from _swapped(source, *pair, op)
        case ast.BoolOp():
            for pair in pairwise(node.values):
                yield from _swapped(source, *pair, node.op)
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            start = source.start(node)
            length = 1 if isinstance(node.op, ast.USub) else len("not")
            yield source.replaced(start, start + length, "")
        case _:
            pass


def _of_value(source: Source, node: ast.AST) -> Iterator[Mutation]:
    match node:
        case ast.Constant(value=bool(truth)):
            yield source.replaced(source.start(node), source.end(node), str(not truth))
        case ast.Constant(value=int(number) | float(number)):
            others = (number + 1, number - 1) if number + 1 != number else (number * 2, number / 2)
            for other in others:
                yield source.replaced(source.start(node), source.end(node), f"{other!r}")
        case ast.Return(value=ast.expr() as result) if not _is_falsy_word(result):
            yield source.replaced(source.start(result), source.end(result), "None")
        case _:
            pass


def _swapped(
    source: Source, left: ast.expr, right: ast.expr, op: ast.AST, suffix: str = ""
) -> Iterator[Mutation]:
    if type(op) not in SWAPS:
        return
    spelled, others = SWAPS[type(op)]
    place = source.operator(source.end(left), source.start(right), spelled + suffix)
    for other in others:
        yield source.replaced(*place, other + suffix)


def _walk(node: ast.AST, in_function: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node that says what happens; no types, imports, docstrings, asserts and log texts."""
    yield node, in_function
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for name, value in ast.iter_fields(node):
        if name in SKIPPED_FIELDS or (name == "keywords" and isinstance(node, ast.ClassDef)):
            continue  # types, and how a class is made
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_skipped(child):
                yield from _walk(child, inside)


def _is_skipped(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.JoinedStr():
            return True  # places inside an f-string are unknown before Python 3.12
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)):
            return attr in LOG_METHODS and "log" in name.lower()
        case _:
            return False


def _is_falsy_word(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or node.value is False)


def sampled(sources: Sequence[Source], lines: int, seed: int) -> list[Mutation]:
    """One change on each of `lines` lines, the same for the same seed and code."""
    chance = random.Random(seed)
    by_line: dict[tuple[str, int], list[Mutation]] = {}
    for source in sources:
        for mutation in mutations(source):
            by_line.setdefault((mutation.file, mutation.line), []).append(mutation)
    chosen = chance.sample(sorted(by_line), min(lines, len(by_line)))
    return [chance.choice(by_line[line]) for line in chosen]


def package_of(file: str) -> str:
    return Path(file).parts[1]


class Bench:
    """A copy of the tree, in which one change at a time is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.limit_s = 600.0
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
        self._environment = {
            "WATCHKEEPER_SHARED": str(ROOT.parent / "shared"),
            **os.environ,
            "NUMBA_DISABLE_JIT": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # a stale one would hide a change of the same length
            "PYTHONPATH": str(folder),
        }

    async def check_imports(self) -> None:
        """The tests here must see this copy, not an installed package."""
        found = await self._run("-c", "import pipeline; print(pipeline.__file__)")
        if not found[1].startswith(str(self.folder)):
            raise SystemExit(f"expected pipeline from {self.folder}, got {found[1].strip()}")

    async def tests(self, package: str, first: str = "") -> tuple[int | None, str]:
        """pytest's exit code (None: not done in time) and what it said."""
        folders = [f"tests/{package}", f"pipeline/{package}"]
        return await self._run(
            "-m", "pytest", "-x", "-q", "--no-header", "-m", "not parts", "-p", "no:cacheprovider",
            *([first] if first else []), *folders,
        )  # fmt: skip

    async def is_noticed(self, source: Source, mutation: Mutation) -> bool:
        path = self.folder / source.file
        package = package_of(source.file)
        nearest = f"tests/{package}/test_{path.name}"
        path.write_text(source.mutated(mutation), encoding="utf-8")
        try:
            first = nearest if (self.folder / nearest).exists() else ""
            code, said = await self.tests(package, first)
        finally:
            path.write_text(source.text, encoding="utf-8")
        if code == NOTHING_COLLECTED:
            raise SystemExit(f"no test ran for {source.file}:\n{said}")
        return code != 0

    async def _run(self, *arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=self.folder, env=self._environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            output, _ = await asyncio.wait_for(process.communicate(), self.limit_s)
        except TimeoutError:
            return None, f"not done after {self.limit_s:.0f} s"
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return process.returncode, output.decode(errors="replace")


class Progress:
    """A line that says how far it is; on a terminal always the same line."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started = time.monotonic()
        self.noticed: list[bool] = []

    def add(self, noticed: bool) -> None:
        self.noticed.append(noticed)
        done = len(self.noticed)
        left_s = (time.monotonic() - self._started) / done * (self._total - done)
        line = f"{done} of {self._total} lines, {sum(self.noticed)} noticed, {left_s:.0f} s left"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="\n" if done == self._total else "", file=sys.stderr)
        elif done % 10 == 0 or done == self._total:
            print(line, file=sys.stderr)


async def tried(
    benches: Sequence[Bench], sources: dict[str, Source], sample: Sequence[Mutation]
) -> list[bool]:
    """For each change, whether it was noticed."""
    packages = sorted({package_of(mutation.file) for mutation in sample})
    for bench in benches:
        await bench.check_imports()
    longest_s = 0.0
    for package in packages:
        print(f"tests of {package} without a change ...", file=sys.stderr)
        started = time.monotonic()
        code, said = await benches[0].tests(package)
        longest_s = max(longest_s, time.monotonic() - started)
        if code != 0:
            raise SystemExit(f"the tests of {package} fail without a change:\n{said}")
    for bench in benches:
        bench.limit_s = max(LIMIT_S, SLOWER * longest_s)
    progress = Progress(len(sample))
    noticed: dict[Mutation, bool] = {}
    waiting = list(reversed(sample))

    async def work(bench: Bench) -> None:
        while waiting:
            mutation = waiting.pop()
            noticed[mutation] = await bench.is_noticed(sources[mutation.file], mutation)
            progress.add(noticed[mutation])

    async with asyncio.TaskGroup() as group:
        for bench in benches:
            group.create_task(work(bench))
    return [noticed[mutation] for mutation in sample]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200, help="how many lines are changed")
    parser.add_argument("--seed", type=int, default=1, help="which lines: the same for one seed")
    parser.add_argument("--package", action="append", choices=PACKAGES, help="only this one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        benches = [Bench(Path(folder).resolve() / f"copy{i}") for i in range(AT_ONCE)]
        tree = benches[0].folder
        sources = {
            source.file: source
            for package in options.package or PACKAGES
            for path in sorted((tree / "pipeline" / package).rglob("*.py"))
            for source in [Source(str(path.relative_to(tree)), path.read_text(encoding="utf-8"))]
        }
        sample = sampled(list(sources.values()), options.lines, options.seed)
        noticed = asyncio.run(tried(benches, sources, sample))
    survivors = [
        sources[mutation.file].shown(mutation)
        for mutation, seen in zip(sample, noticed, strict=True)
        if not seen
    ]
    return report(sample, sorted(survivors, key=lambda s: (s.file, s.line)), options)


def report(
    sample: Sequence[Mutation], survivors: Sequence[Survivor], options: argparse.Namespace
) -> int:
    lines = Counter(package_of(mutation.file) for mutation in sample)
    survived = Counter(package_of(survivor.file) for survivor in survivors)
    shares = {package: 1 - survived[package] / lines[package] for package in sorted(lines)}
    share = 1 - len(survivors) / len(sample)
    if options.json:
        told = {"lines": len(sample), "seed": options.seed, "noticed_share": share}
        listed = [asdict(survivor) for survivor in survivors]
        print(json.dumps({**told, "packages": shares, "survivors": listed}))
    else:
        for survivor in survivors:
            print(f"{survivor.file}:{survivor.line}")
            print(f"  - {survivor.before}\n  + {survivor.after}")
        for package, part in shares.items():
            print(f"{package}: {part:.1%} of {lines[package]} changed lines noticed")
        needed = f"at least {NOTICED_AT_LEAST:.0%} expected, seed {options.seed}"
        print(f"all: {share:.1%} of {len(sample)} ({needed})")
    return 0 if share >= NOTICED_AT_LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
