"""TLS as a client speaks it: towards Kafka, targets, receivers and our own listeners."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

MAX_PEM_BYTES = 4 * 1024 * 1024
VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
"""As Prometheus' files name them."""
DEFAULT_VERSION = "TLS12"

Made = TypeVar("Made")


class TlsError(ValueError):
    """A file of certificates or keys that can't be used; the message names it."""


class ClientTls(msgspec.Struct, frozen=True):
    """What a client trusts and shows; file names, read when a context is made."""

    ca_file: str = ""
    """Empty: the authorities that the system trusts."""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    """The name that the other side's certificate must have; empty: the host of the address."""
    insecure_skip_verify: bool = False
    min_version: str = DEFAULT_VERSION

    def files(self) -> tuple[str, ...]:
        return tuple(name for name in (self.ca_file, self.cert_file, self.key_file) if name)


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """A context that does as `tls` says.

    Raises
    ------
    TlsError
        A file can't be read, or doesn't hold what it should.
    """
    if tls.ca_file:
        authorities = read_pem(tls.ca_file).decode("ascii", "replace")
        try:
            context = ssl.create_default_context(cadata=authorities)
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(
                f"{tls.ca_file}: expected certificates in PEM: {_told(error)}"
            ) from error
    else:
        context = ssl.create_default_context()
    context.minimum_version = VERSIONS[tls.min_version]
    if tls.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file or tls.key_file:
        load_pair(context, tls.cert_file, tls.key_file)
    return context


def load_pair(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    """Give `context` a certificate and its key.

    Raises
    ------
    TlsError
        As `client_context`.
    """
    for file in (cert_file, key_file):
        read_pem(file)
    try:
        # Without a password of our own, OpenSSL would ask for that of an encrypted key.
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise TlsError(
            f"{cert_file}, {key_file}: expected a certificate and its key, unencrypted, in PEM: "
            + _told(error)
        ) from error


def read_pem(file: str) -> bytes:
    """The bytes of a file that should be PEM; raises TlsError as `client_context`."""
    try:
        with Path(file).open("rb") as source:
            content = source.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise TlsError(f"{file}: can't be read: {error.strerror}") from error
    if len(content) > MAX_PEM_BYTES:
        raise TlsError(f"{file}: expected PEM of at most {MAX_PEM_BYTES} bytes, got more")
    return content


def _told(error: ssl.SSLError | ValueError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else None) or str(error)


class MadeFromFiles(Generic[Made]):
    """What `make` gives, made again when one of the files has changed since."""

    def __init__(self, files: Callable[[], Sequence[str]], make: Callable[[], Made]) -> None:
        """`files` is asked before each look; what `make` raises comes out of `current`."""
        self._files = files
        self._make = make
        self._made: tuple[object, Made] | None = None

    def current(self) -> Made:
        version = [_version(file) for file in self._files()]
        if self._made is None or self._made[0] != version:
            made = self._make()
            self._made = ([_version(file) for file in self._files()], made)
        return self._made[1]


def _version(file: str) -> tuple[int, int, int] | None:
    try:
        status = Path(file).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
