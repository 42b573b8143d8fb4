import os
from pathlib import Path

import pytest

_COPIES = Path(__file__).parents[2] / "ingest" / "samples"


@pytest.fixture(scope="session")
def samples():
    """`samples(name)`: a payload of the platform, from the shared material or a copy."""
    named = os.environ.get("WATCHKEEPER_SHARED")
    shared = Path(named) if named else Path(__file__).parents[4] / "shared"
    folder = shared / "platform" / "samples"
    if not folder.is_dir():
        folder = _COPIES

    def read(name):
        return (folder / name).read_text(encoding="utf-8")

    return read
