"""Which files hold rules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def rule_files(globs: Iterable[str], root: Path) -> list[str]:
    """The files that match, sorted, without unit tests (`*_test.yml`, `*_test.yaml`)."""
    found = {str(path) for pattern in globs for path in _matches(pattern, root)}
    return sorted(path for path in found if not Path(path).stem.endswith("_test"))


def _matches(pattern: str, root: Path) -> Iterable[Path]:
    path = Path(pattern)
    if path.is_absolute():
        return Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    return root.glob(pattern)
