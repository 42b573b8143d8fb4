from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pipeline.secret import MAX_SECRET_BYTES, Secret, SecretError, read_secret


class Holder(msgspec.Struct):
    password: Secret


def test_it_is_shown_nowhere():
    holder = Holder(Secret("t0ken"))
    shown = [f"{holder.password}", f"{holder.password!r}", repr(holder)]
    assert [text for text in shown if "t0ken" in text] == []
    assert shown[0] == "<secret>"


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode])
def test_encoders_refuse_it(encode):
    with pytest.raises(TypeError, match="Secret is unsupported") as caught:
        encode(Holder(Secret("t0ken")))
    assert "t0ken" not in str(caught.value)


def test_it_compares_by_its_text():
    assert Secret("a") == Secret("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert Secret("a") != "a"
    assert not Secret()


def test_a_file_is_read_at_each_use_and_its_line_end_left_out(tmp_path: Path):
    file = tmp_path / "password"
    file.write_text(" one \n")
    assert read_secret(Secret("inline"), "") == "inline"
    assert read_secret(Secret("inline"), str(file)) == "one"
    file.write_text("two")
    assert read_secret(Secret("inline"), str(file)) == "two"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"t0ken\xff", "it is not UTF-8"),
        (b"t0ken\nsecond line", "one line of text"),
        (b"t0ken\x00", "one line of text"),
        (b"t" * (MAX_SECRET_BYTES + 1), "one line of text"),
    ],
)
def test_a_file_without_a_secret_is_named_and_not_quoted(tmp_path: Path, content, problem):
    file = tmp_path / "password"
    file.write_bytes(content)
    with pytest.raises(SecretError) as caught:
        read_secret(Secret(), str(file))
    assert str(caught.value) == f"{file}: expected a readable secret: {problem}"
    assert caught.value.__cause__ is None


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(SecretError, match=r"^/nowhere/x: expected a readable secret: No such file"):
        read_secret(Secret(), "/nowhere/x")
