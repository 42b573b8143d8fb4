from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from pipeline.tls import ClientTls, MadeFromFiles, TlsError, client_context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    leaf = authority.issue_cert("127.0.0.1", "node.test")
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    leaf.cert_chain_pems[0].write_to_path(paths["cert"])
    leaf.private_key_pem.write_to_path(paths["key"])
    return {name: str(path) for name, path in paths.items()}


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Both sides over memory; raises what the client raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (asking, answering):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def server_context(files: dict[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["cert"], files["key"])
    return context


def test_the_named_authority_is_trusted_for_the_name_it_certified(files: dict[str, str]):
    context = client_context(ClientTls(ca_file=files["ca"]))
    handshake(context, server_context(files), "127.0.0.1")
    handshake(context, server_context(files), "node.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(context, server_context(files), "other.test")


def test_an_unknown_authority_is_refused_unless_verification_is_off(files: dict[str, str]):
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        handshake(client_context(ClientTls()), server_context(files), "127.0.0.1")
    careless = client_context(ClientTls(insecure_skip_verify=True))
    handshake(careless, server_context(files), "other.test")


def test_a_certificate_is_shown_to_who_asks(files: dict[str, str]):
    server = server_context(files)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(files["ca"])
    tls = ClientTls(files["ca"], files["cert"], files["key"])
    handshake(client_context(tls), server, "127.0.0.1")
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(client_context(ClientTls(files["ca"])), server, "127.0.0.1")


def test_the_lowest_version_is_that_of_prometheus_or_as_named():
    assert client_context(ClientTls()).minimum_version is ssl.TLSVersion.TLSv1_2
    newest = client_context(ClientTls(min_version="TLS13"))
    assert newest.minimum_version is ssl.TLSVersion.TLSv1_3


def rubbish(files: dict[str, str]) -> ClientTls:
    Path(files["ca"]).write_text("rubbish")
    return ClientTls(ca_file=files["ca"])


def other_key(files: dict[str, str]) -> ClientTls:
    trustme.CA().issue_cert("x").private_key_pem.write_to_path(files["key"])
    return ClientTls("", files["cert"], files["key"])


def key_only(files: dict[str, str]) -> ClientTls:
    return ClientTls("", files["key"], files["key"])


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda _files: ClientTls(ca_file="/nowhere/ca"), r"^/nowhere/ca: can't be read: No such"),
        (lambda files: ClientTls("", "/nowhere/c", files["key"]), r"^/nowhere/c: can't be read"),
        (rubbish, r"ca\.pem: expected certificates in PEM: "),
        (other_key, r"cert\.pem, .*key\.pem: expected a certificate and its key.*MISMATCH"),
        (key_only, r"key\.pem: expected a certificate and its key"),
    ],
)
def test_a_file_that_can_not_be_used_is_named(
    files: dict[str, str], break_it: Callable[[dict[str, str]], ClientTls], expected: str
):
    with pytest.raises(TlsError, match=expected):
        client_context(break_it(files))


def test_what_is_made_from_files_is_made_again_when_one_changes(tmp_path: Path):
    file = tmp_path / "f"
    file.write_text("one")
    made = MadeFromFiles(lambda: [str(file)], file.read_text)
    assert made.current() == "one"
    file.write_text("other")
    assert made.current() == "other"
    file.unlink()
    with pytest.raises(FileNotFoundError):
        made.current()
    file.write_text("again")
    assert made.current() == "again"


def test_it_is_not_made_again_while_nothing_changes(tmp_path: Path):
    (tmp_path / "f").write_text("one")
    makings: list[None] = []
    made = MadeFromFiles(lambda: [str(tmp_path / "f")], lambda: makings.append(None))
    made.current()
    made.current()
    assert len(makings) == 1
