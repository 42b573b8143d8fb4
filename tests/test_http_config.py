"""The part of a scrape job, a health probe and a webhook that says who asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.document import read_document
from pipeline.http_config import (
    HTTP_FIELDS,
    HTTP_LATER,
    Authorization,
    BasicAuth,
    HttpConfig,
    read_http_config,
)
from pipeline.secret import Secret
from pipeline.tls import ClientTls

FOLDER = Path("/etc/wk")


def read(text: str) -> tuple[HttpConfig, list[str]]:
    problems: list[str] = []
    root = read_document(text, "f", problems)
    assert root is not None
    config = read_http_config(root, root.fields(HTTP_FIELDS, HTTP_LATER), FOLDER)
    return config, problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", HttpConfig()),
        (
            "basic_auth: {username: u, password_file: p}",
            HttpConfig(BasicAuth("u", Secret(), "/etc/wk/p")),
        ),
        ("basic_auth: {username: u, password: p}", HttpConfig(BasicAuth("u", Secret("p")))),
        (
            "authorization: {type: Token, credentials_file: /c}",
            HttpConfig(None, Authorization("Token", Secret(), "/c")),
        ),
        ("bearer_token: t", HttpConfig(None, Authorization("Bearer", Secret("t")))),
        (
            "bearer_token_file: t",
            HttpConfig(None, Authorization("Bearer", Secret(), "/etc/wk/t")),
        ),
        (
            """\
tls_config:
  {ca_file: a, cert_file: /c, key_file: k, server_name: n, insecure_skip_verify: true,
   min_version: TLS13}
""",
            HttpConfig(tls=ClientTls("/etc/wk/a", "/c", "/etc/wk/k", "n", True, "TLS13")),
        ),
        ("{follow_redirects: false, enable_http2: false}", HttpConfig(follow_redirects=False)),
    ],
)
def test_what_is_written_is_what_is_shown(text: str, expected: HttpConfig):
    assert read(text) == (expected, [])


BAD = [
    (
        "{basic_auth: {username: t0ken}, authorization: {credentials: t0ken}}",
        "f:1: expected one way to authenticate, got basic_auth, authorization",
    ),
    (
        "basic_auth: {password: t0ken, password_file: f}",
        "f:1: basic_auth: expected password or password_file, got both",
    ),
    (
        "authorization: {credentials: t0ken, credentials_file: f}",
        "f:1: authorization: expected credentials or credentials_file, got both",
    ),
    (
        "authorization: {type: basic}",
        'f:1: authorization: type: expected another type than "basic"; basic_auth is for that',
    ),
    ("tls_config: {cert_file: c}", "f:1: tls_config: expected cert_file and key_file, got one of"),
    ("tls_config: {min_version: TLS9}", "f:1: tls_config.min_version: expected one of TLS10,"),
    ("tls_config: {colour: red}", "f:1: tls_config.colour: unknown field; expected one of ca_file"),
    ("oauth2: {}", "f:1: oauth2: not supported yet"),
]


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_what_can_not_be_done_is_said_with_its_place_and_no_secret(text: str, expected: str):
    (problem,) = read(text)[1]
    assert problem.startswith(expected)
    assert "t0ken" not in problem
