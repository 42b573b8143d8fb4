"""Prometheus' web-config file: TLS, logins and headers of a listener.

What we can't do as Prometheus does is refused by name, and so is what isn't in the format. Relative
files start at the folder of the file, as in Prometheus.

References
----------
prometheus/exporter-toolkit 0.8, web/tls_config.go, docs/web-configuration.md.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pipeline.document import ConfigError, Value, read_document
from pipeline.secret import Secret
from pipeline.tls import DEFAULT_VERSION, VERSIONS, TlsError, load_pair, read_pem

MAX_FILE_BYTES = 1024 * 1024

_TLS_FIELDS = (
    "cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version", "max_version",
)  # fmt: skip
_TLS_LATER = ("cipher_suites", "prefer_server_cipher_suites", "curve_preferences")
_CLIENT_AUTH = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
"""`RequestClientCert` asks for a certificate and lets everybody in: nothing is to be asked for."""
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""Those that may be set, and to what; no values: to anything."""
_BCRYPT = re.compile(r"\$2[abxy]?\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")


class ServerTls(msgspec.Struct, frozen=True):
    """Files are absolute, or relative to the current folder."""

    cert_file: str
    key_file: str
    client_ca_file: str = ""
    client_auth: ssl.VerifyMode = ssl.CERT_NONE
    min_version: str = DEFAULT_VERSION
    max_version: str = "TLS13"


class WebConfig(msgspec.Struct, frozen=True):
    """What a listener asks of its clients."""

    tls: ServerTls | None = None
    users: Mapping[str, Secret] = {}
    """Names, and bcrypt hashes of their passwords; none: no login."""
    headers: Mapping[str, str] = {}
    """Sent with every answer."""

    def files(self) -> tuple[str, ...]:
        """What is named in it and read when a connection begins."""
        tls = self.tls
        if tls is None:
            return ()
        return tuple(file for file in (tls.cert_file, tls.key_file, tls.client_ca_file) if file)


def load_web_config(path: Path) -> WebConfig:
    """The configuration in the file at `path`, its certificates found usable.

    Raises
    ------
    ConfigError
        With every problem, each as `file:line: path: message`.
    """
    problems: list[str] = []
    root = _read(path, problems)
    config = WebConfig()
    if root is not None:
        fields = root.fields(("tls_server_config", "http_server_config", "basic_auth_users"))
        tls = None
        if "tls_server_config" in fields:
            tls = _read_tls(fields["tls_server_config"], path.parent)
        config = WebConfig(
            tls, _read_users(fields.get("basic_auth_users")),
            _read_http(fields.get("http_server_config"), tls is not None),
        )  # fmt: skip
        if tls is not None and not problems:
            try:
                server_context(tls)
            except TlsError as error:
                fields["tls_server_config"].problem(str(error))
    if problems:
        raise ConfigError(problems)
    return config


def _read(path: Path, problems: list[str]) -> Value | None:
    """The document; None for an empty one, which asks nothing of anybody."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        problems.append(f"{path}: can't be read: {error.strerror}")
        return None
    except UnicodeDecodeError:
        problems.append(f"{path}: expected UTF-8")
        return None
    if len(content) > MAX_FILE_BYTES:
        problems.append(f"{path}: expected at most {MAX_FILE_BYTES} bytes, got more")
        return None
    if not any(line.split("#")[0].strip() for line in text.splitlines()):
        return None
    return read_document(text, str(path), problems)


def _read_tls(value: Value, folder: Path) -> ServerTls | None:
    fields = value.fields(_TLS_FIELDS, _TLS_LATER)
    texts = {name: field.text() for name, field in fields.items()}
    files = {
        name: str(folder / texts[name]) if texts.get(name) else ""
        for name in ("cert_file", "key_file", "client_ca_file")
    }
    kind = texts.get("client_auth_type", "")
    if not any(files.values()) and not kind:
        return None  # as in Prometheus: no TLS
    for name in ("cert_file", "key_file"):
        if not files[name]:
            value.problem(f"{name}: expected a file, got none")
    if kind == "RequireAnyClientCert":
        fields["client_auth_type"].problem(
            "not supported: a certificate that nobody verifies proves nothing; "
            "expected RequireAndVerifyClientCert"
        )
    elif kind not in _CLIENT_AUTH:
        expected = ", ".join(filter(None, _CLIENT_AUTH))
        fields["client_auth_type"].problem(f"expected one of {expected}, got {kind!r}")
    client_auth = _CLIENT_AUTH.get(kind, ssl.CERT_NONE)
    if files["client_ca_file"] and kind in ("", "NoClientCert"):
        value.problem("client_auth_type: expected one that asks for certificates, got none")
    versions = {
        name: _read_version(fields[name])
        for name in ("min_version", "max_version")
        if name in fields
    }
    return ServerTls(**files, client_auth=client_auth, **versions)


def _read_version(value: Value) -> str:
    version = value.text()
    if version not in VERSIONS:
        value.problem(f"expected one of {', '.join(VERSIONS)}, got {version!r}")
    return version


def _read_users(value: Value | None) -> dict[str, Secret]:
    users: dict[str, Secret] = {}
    for name, hashed in value.entries() if value is not None else ():
        text = hashed.text()
        if not _BCRYPT.fullmatch(text):
            # Not quoted: it may be the password itself.
            hashed.problem("expected a password's bcrypt hash, as `htpasswd -nBC 10` prints it")
        users[name] = Secret(text)
    return users


def _read_http(value: Value | None, tls: bool) -> dict[str, str]:
    if value is None:
        return {}
    fields = value.fields(("http2", "headers"))
    if "http2" in fields:
        fields["http2"].boolean()  # checked only: answers are HTTP/1.1
    headers: dict[str, str] = {}
    for name, header in fields["headers"].entries() if "headers" in fields else ():
        text = header.text()
        if name not in _HEADERS:
            header.problem(f"expected one of {', '.join(_HEADERS)}")
        elif text and _HEADERS[name] and text not in _HEADERS[name]:
            header.problem(f"expected {' or '.join(_HEADERS[name])}, got {text!r}")
        elif not text.isprintable():
            header.problem("expected one line of text")
        elif text and (tls or name != "Strict-Transport-Security"):
            headers[name] = text
    return headers


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """A context that does as `tls` says; raises TlsError for a file that can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[tls.min_version]
    context.maximum_version = VERSIONS[tls.max_version]
    load_pair(context, tls.cert_file, tls.key_file)
    if tls.client_ca_file:
        authorities = read_pem(tls.client_ca_file).decode("ascii", "replace")
        try:
            context.load_verify_locations(cadata=authorities)
        except (ssl.SSLError, ValueError) as error:
            raise TlsError(f"{tls.client_ca_file}: expected certificates in PEM") from error
    context.verify_mode = tls.client_auth
    return context
