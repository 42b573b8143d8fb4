"""The web-config file, held against what Prometheus' own checker says of the same files."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest

from pipeline.api.web_config import WebConfig, load_web_config, server_context
from pipeline.document import ConfigError
from tests.certificates import new_certificates

HASH = "$2b$04$abcdefghijklmnopqrstuu" + "A" * 31
PAIR = "cert_file: cert.pem, key_file: key.pem"
ASKED = f"{PAIR}, client_auth_type: RequireAndVerifyClientCert, client_ca_file"
IF_GIVEN = f"{PAIR}, client_auth_type: VerifyClientCertIfGiven, client_ca_file"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    new_certificates(folder)
    return folder


def problems(folder: Path, text: str) -> list[str]:
    path = folder / "web.yml"
    path.write_text(text)
    try:
        load_web_config(path)
    except ConfigError as error:
        return [problem.replace(str(folder), "DIR") for problem in error.problems]
    return []


GOOD = [
    "",
    "# nothing\n",
    "tls_server_config: {}",
    f"tls_server_config: {{{PAIR}}}",
    f"tls_server_config: {{{PAIR}, client_auth_type: NoClientCert}}",
    f"tls_server_config: {{{PAIR}, client_auth_type: RequestClientCert}}",
    f"tls_server_config: {{{IF_GIVEN}: ca.pem}}",
    f"tls_server_config: {{{ASKED}: ca.pem}}",
    f"tls_server_config: {{{PAIR}, min_version: TLS12, max_version: TLS13}}",
    f"basic_auth_users: {{alice: '{HASH}', bob: '{HASH.replace('2b', '2y')}'}}",
    f"tls_server_config: {{{PAIR}}}\nhttp_server_config: {{http2: false}}",
    "http_server_config: {headers: {X-Frame-Options: deny, X-Content-Type-Options: nosniff}}",
    "http_server_config: {headers: {Content-Security-Policy: \"default-src 'self'\"}}",
    "http_server_config: {headers: {Strict-Transport-Security: max-age=1, X-XSS-Protection: x}}",
]  # fmt: skip

BAD = [
    ("tls_config: {}", ":1: tls_config: unknown field; expected one of tls_server_config, "),
    ("tls_server_config: {cert_file: cert.pem}", "key_file: expected a file, got none"),
    ("tls_server_config: {key_file: key.pem}", "cert_file: expected a file, got none"),
    ("tls_server_config: {client_auth_type: NoClientCert}", "cert_file: expected a file, got none"),
    ("tls_server_config: {cert_file: no.pem, key_file: key.pem}", "DIR/no.pem: can't be read: No "),
    ("tls_server_config: {cert_file: key.pem, key_file: key.pem}", "expected a certificate and"),
    (f"tls_server_config: {{{PAIR}, client_auth_type: Perhaps}}", "got 'Perhaps'"),
    (f"tls_server_config: {{{PAIR}, client_ca_file: ca.pem}}", "expected one that asks for certif"),
    (f"tls_server_config: {{{ASKED}: n}}", "DIR/n: can't be read"),
    (f"tls_server_config: {{{PAIR}, min_version: TLS14}}", "min_version: expected one of TLS10, "),
    (f"tls_server_config: {{{PAIR}}}\nmore: 1", "DIR/web.yml:2: more: unknown field; expected one"),
    (f"\ntls_server_config:\n  {{{PAIR}, colour: red}}", ":3: tls_server_config.colour: unknown"),
    ("basic_auth_users: {alice: t0ken}", "alice: expected a password's bcrypt hash"),
    (f"basic_auth_users: {{alice: '{HASH.replace('$04', '$02')}'}}", "bcrypt hash"),
    ("basic_auth_users: [alice]", "basic_auth_users: expected a mapping, got a list"),
    ("http_server_config: {headers: {Server: x}}", "headers.Server: expected one of Content-Secur"),
    ("http_server_config: {headers: {X-Frame-Options: allow}}", "expected deny or sameorigin, got"),
    ("http_server_config: {http2: perhaps}", "http2: expected true or false, got 'perhaps'"),
    ("a: [", "expected YAML"),
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_a_file_of_the_format_is_read(folder: Path, text: str):
    assert problems(folder, text) == []


@pytest.mark.parametrize(("text", "expected"), BAD)
def test_a_file_that_is_not_is_refused_with_line_and_path_and_no_secret(
    folder: Path, text: str, expected: str
):
    found = problems(folder, text)
    assert expected in "\n".join(found)
    assert re.match(r"DIR/web\.yml:\d+: ", found[0])
    assert "t0ken" not in "".join(found)


@pytest.mark.parts
@pytest.mark.parametrize(
    ("text", "accepted"), [*((good, True) for good in GOOD), *((bad, False) for bad, _ in BAD)]
)
def test_prometheus_says_the_same_of_it(folder: Path, program, text: str, accepted: bool):
    (folder / "web.yml").write_text(text)
    command = [program("promtool"), "check", "web-config", str(folder / "web.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == accepted, done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{{{PAIR}, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}}", "not supported yet"),
        (f"{{{PAIR}, client_auth_type: RequireAnyClientCert}}", "proves nothing; expected Require"),
    ],
)
def test_what_prometheus_can_and_we_can_not_is_refused_by_name(folder, text, expected):
    (problem,) = problems(folder, f"tls_server_config: {text}")
    assert expected in problem


def test_an_empty_file_asks_nothing(folder: Path):
    (folder / "web.yml").write_text("")
    assert load_web_config(folder / "web.yml") == WebConfig()


def test_strict_transport_is_sent_over_tls_only(folder: Path):
    header = "http_server_config: {headers: {Strict-Transport-Security: max-age=1}}\n"
    (folder / "web.yml").write_text(header)
    assert load_web_config(folder / "web.yml").headers == {}
    (folder / "web.yml").write_text(header + f"tls_server_config: {{{PAIR}}}\n")
    assert load_web_config(folder / "web.yml").headers == {"Strict-Transport-Security": "max-age=1"}


def test_versions_and_client_certificates_are_as_written(folder: Path):
    (folder / "web.yml").write_text(
        f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert, "
        "client_ca_file: ca.pem, min_version: TLS13}"
    )
    config = load_web_config(folder / "web.yml")
    assert config.tls is not None
    context = server_context(config.tls)
    assert (context.verify_mode, context.minimum_version) == (
        ssl.CERT_REQUIRED,
        ssl.TLSVersion.TLSv1_3,
    )
    assert [Path(file).name for file in config.files()] == ["cert.pem", "key.pem", "ca.pem"]


def test_a_file_that_is_too_large_or_no_text_is_said(folder: Path, monkeypatch):
    monkeypatch.setattr("pipeline.api.web_config.MAX_FILE_BYTES", 10)
    assert problems(folder, "#" * 11) == ["DIR/web.yml: expected at most 10 bytes, got more"]
    (folder / "bytes.yml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="expected UTF-8"):
        load_web_config(folder / "bytes.yml")
