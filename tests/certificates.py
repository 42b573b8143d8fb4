"""An authority of the test's own, and certificates of it for 127.0.0.1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: the authority, and a certificate with its key (PKCS #8, as Java wants it)."""

    ca: str
    cert: str
    key: str


def new_certificates(folder: Path, authority: trustme.CA | None = None) -> Certificates:
    """Write the three files into `folder`; without `authority` one is made for this."""
    authority = authority or trustme.CA()
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    folder.mkdir(parents=True, exist_ok=True)
    paths = Certificates(*(str(folder / f"{name}.pem") for name in ("ca", "cert", "key")))
    authority.cert_pem.write_to_path(paths.ca)
    leaf.cert_chain_pems[0].write_to_path(paths.cert)
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    Path(paths.key).write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return paths
