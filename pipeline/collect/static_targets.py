"""Where targets are listed, the same for scrapes, feeds and probes: `static_configs`, `file_sd`."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from pipeline.document import ConfigError, Value, read_document
from pipeline.model import Labels, labels_from

LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


class TargetGroup(msgspec.Struct, frozen=True):
    """Addresses that share labels."""

    targets: tuple[str, ...]
    labels: Labels = ()


class TargetSources(msgspec.Struct, frozen=True):
    """Groups that are given, and globs of files with more of them."""

    groups: tuple[TargetGroup, ...] = ()
    files: tuple[str, ...] = ()


def read_config(path: Path, problems: list[str]) -> Value | None:
    """The root of the YAML (or JSON) file at `path`; None, and a problem, when it is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        problems.append(f"{path}: can't be read: {error.strerror}")
        return None
    except UnicodeDecodeError:
        problems.append(f"{path}: expected UTF-8")
        return None
    return read_document(text, str(path), problems)


def read_sources(fields: dict[str, Value], folder: Path) -> TargetSources:
    """`static_configs` and `file_sd_configs` of a job; files are relative to `folder`."""
    groups: list[TargetGroup] = []
    files: list[str] = []
    if "static_configs" in fields:
        groups = [_read_group(item) for item in fields["static_configs"].items()]
    if "file_sd_configs" in fields:
        for item in fields["file_sd_configs"].items():
            entry = item.fields(("files", "refresh_interval"))
            patterns = entry["files"].items() if "files" in entry else []
            files += [str(folder / pattern.text()) for pattern in patterns]
    return TargetSources(tuple(groups), tuple(files))


def read_target_file(path: Path) -> tuple[TargetGroup, ...]:
    """The groups of one file of `file_sd_configs`.

    Raises
    ------
    ConfigError
        With every problem of the file.
    """
    problems: list[str] = []
    root = read_config(path, problems)
    groups = () if root is None else tuple(_read_group(item) for item in root.items())
    if problems:
        raise ConfigError(problems)
    return groups


def _read_group(value: Value) -> TargetGroup:
    fields = value.fields(("targets", "labels"))
    targets = []
    for item in fields["targets"].items() if "targets" in fields else ():
        item.parsed(_check_login, None)
        targets.append(item.text())
    labels: dict[str, str] = {}
    if "labels" in fields:
        for name, label in fields["labels"].entries():
            if not LABEL_NAME.fullmatch(name):
                label.problem("expected a label's name")
            labels[name] = label.text()
    return TargetGroup(tuple(targets), labels_from(labels))


def _check_login(address: str) -> None:
    """Raises ValueError for a login in `address`, where everybody would see it as a label."""
    if "@" in address:
        raise ValueError("expected an address without a login: basic_auth is for that")


class TargetFiles:
    """The groups of all files of some globs, read again when a file changes.

    A file that can't be read keeps what it last said, as in Prometheus.
    """

    def __init__(self) -> None:
        self._files: dict[Path, tuple[tuple[int, int], tuple[TargetGroup, ...]]] = {}

    def groups(self, sources: TargetSources, problems: list[str]) -> list[TargetGroup]:
        """All groups of `sources` as they are now; what changed and is wrong goes to `problems`."""
        groups = list(sources.groups)
        for pattern in sources.files:
            folder, name = Path(pattern).parent, Path(pattern).name
            for path in sorted(folder.glob(name)):
                groups += self._read(path, problems)
        return groups

    def _read(self, path: Path, problems: list[str]) -> tuple[TargetGroup, ...]:
        known = self._files.get(path)
        try:
            stat = path.stat()
        except OSError:
            self._files.pop(path, None)
            return ()
        version = (stat.st_mtime_ns, stat.st_size)
        if known is not None and known[0] == version:
            return known[1]
        groups = known[1] if known is not None else ()
        try:
            groups = read_target_file(path)
        except ConfigError as error:
            problems += error.problems
        self._files[path] = (version, groups)
        return groups
