"""How a client of HTTP shows who it is: the part of Prometheus' and Alertmanager's files for that.

References
----------
prometheus/common 0.39, config/http_config.go: HTTPClientConfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from pipeline.document import Value
from pipeline.secret import Secret
from pipeline.tls import DEFAULT_VERSION, VERSIONS, ClientTls

HTTP_FIELDS = (
    "basic_auth", "authorization", "bearer_token", "bearer_token_file", "tls_config",
    "follow_redirects", "enable_http2",
)  # fmt: skip
HTTP_LATER = (
    "oauth2", "proxy_url", "no_proxy", "proxy_from_environment", "proxy_connect_header",
)  # fmt: skip
SECRET_FIELDS = ("password", "credentials", "bearer_token")
_WAYS = ("basic_auth", "authorization", "bearer_token", "bearer_token_file")
_TLS_FIELDS = (
    "ca_file", "cert_file", "key_file", "server_name", "insecure_skip_verify", "min_version",
)  # fmt: skip


class BasicAuth(msgspec.Struct, frozen=True):
    username: str
    password: Secret
    password_file: str = ""


class Authorization(msgspec.Struct, frozen=True):
    """A header `Authorization: <type> <credentials>`."""

    type: str
    credentials: Secret
    credentials_file: str = ""


class HttpConfig(msgspec.Struct, frozen=True):
    """Files are read at each use."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    follow_redirects: bool = True
    tls: ClientTls = ClientTls()


def read_http_config(value: Value, fields: Mapping[str, Value], folder: Path) -> HttpConfig:
    """What those of `fields`, of the mapping `value`, say that are in `HTTP_FIELDS`.

    Relative files start at `folder`.
    """
    ways = [name for name in _WAYS if name in fields]
    if len(ways) > 1:
        value.problem(f"expected one way to authenticate, got {', '.join(ways)}")
    if "enable_http2" in fields:
        fields["enable_http2"].boolean()  # checked only: requests are HTTP/1.1
    return HttpConfig(
        _read_basic_auth(fields["basic_auth"], folder) if "basic_auth" in fields else None,
        _read_authorization(fields, folder),
        "follow_redirects" not in fields or fields["follow_redirects"].boolean(),
        _read_tls(fields["tls_config"], folder) if "tls_config" in fields else ClientTls(),
    )


def _file(folder: Path, name: str) -> str:
    return str(folder / name) if name else ""


def _read_basic_auth(value: Value, folder: Path) -> BasicAuth:
    fields = value.fields(("username", "password", "password_file"))
    texts = {name: field.text() for name, field in fields.items()}
    if texts.get("password") and texts.get("password_file"):
        value.problem("expected password or password_file, got both")
    return BasicAuth(
        texts.get("username", ""),
        Secret(texts.get("password", "")),
        _file(folder, texts.get("password_file", "")),
    )


def _read_authorization(fields: Mapping[str, Value], folder: Path) -> Authorization | None:
    if "bearer_token" in fields:
        return Authorization("Bearer", Secret(fields["bearer_token"].text()))
    if "bearer_token_file" in fields:
        file = _file(folder, fields["bearer_token_file"].text())
        return Authorization("Bearer", Secret(), file)
    if "authorization" not in fields:
        return None
    value = fields["authorization"]
    own = value.fields(("type", "credentials", "credentials_file"))
    texts = {name: field.text() for name, field in own.items()}
    if texts.get("credentials") and texts.get("credentials_file"):
        value.problem("expected credentials or credentials_file, got both")
    kind = texts.get("type", "").strip() or "Bearer"
    if kind.lower() == "basic":
        value.problem('type: expected another type than "basic"; basic_auth is for that')
    file = _file(folder, texts.get("credentials_file", ""))
    return Authorization(kind, Secret(texts.get("credentials", "")), file)


def _read_tls(value: Value, folder: Path) -> ClientTls:
    fields = value.fields(_TLS_FIELDS)
    texts = {name: field.text() for name, field in fields.items() if name != "insecure_skip_verify"}
    if bool(texts.get("cert_file")) != bool(texts.get("key_file")):
        value.problem("expected cert_file and key_file, got one of them")
    version = texts.get("min_version") or DEFAULT_VERSION
    if version not in VERSIONS:
        fields["min_version"].problem(f"expected one of {', '.join(VERSIONS)}, got {version!r}")
    return ClientTls(
        ca_file=_file(folder, texts.get("ca_file", "")),
        cert_file=_file(folder, texts.get("cert_file", "")),
        key_file=_file(folder, texts.get("key_file", "")),
        server_name=texts.get("server_name", ""),
        insecure_skip_verify=(
            "insecure_skip_verify" in fields and fields["insecure_skip_verify"].boolean()
        ),
        min_version=version,
    )
