"""The compiled loops, compiled before they are needed: numba takes half a minute, once.

Numba keeps machine code beside the modules. A small file in the cache folder remembers for which
state of the sources that has been done, so that a start need not load numba to ask it.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
GROUPS = ("worker", "collector")
"""Each is compiled by a process of its own."""


def is_compiled(cache: Path) -> bool:
    """Whether `remember` was called for the sources as they are."""
    try:
        return _memory(cache).read_text() == state_of(PACKAGE)
    except FileNotFoundError:
        return False


def remember(cache: Path) -> None:
    """The loops have been compiled, as the sources are now."""
    cache.mkdir(parents=True, exist_ok=True)
    _memory(cache).write_text(state_of(PACKAGE))


def state_of(package: Path) -> str:
    """What the machine code depends on: compiler, Python, and the files with compiled loops."""
    digest = blake2b(digest_size=16)
    digest.update(f"{sys.version} {version('numba')}".encode())
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if b"\n@compiled" in source:
            digest.update(f"{path} {path.stat().st_mtime_ns}".encode() + source)
    return digest.hexdigest()


def _memory(cache: Path) -> Path:
    """One for each place where the package is installed."""
    place = blake2b(str(PACKAGE).encode(), digest_size=4).hexdigest()
    return cache / f"kernels-{place}"


def compile_group(name: str) -> None:
    """Call the loops of `worker` or `collector` as they are called at work."""
    if name == "worker":
        _compile_worker()
    else:
        _compile_collector()


def _compile_worker() -> None:
    from pipeline.rules.files import load_rules
    from pipeline.rules.paths import rule_files
    from pipeline.settings import Settings
    from pipeline.stream.main import compile_worker

    settings = Settings()
    groups, _ = load_rules(
        rule_files(settings.rules.files, PACKAGE.parent), settings.rules.prometheus
    )
    compile_worker(settings, groups)


def _compile_collector() -> None:
    from pipeline.ingest.prometheus_text import compile_parser

    compile_parser()


if __name__ == "__main__":
    compile_group(sys.argv[1])
