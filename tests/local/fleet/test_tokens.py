import base64
import hashlib
import hmac
import json

import pytest

from pipeline.local.fleet.tokens import TokenError, Tokens, User


def part(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_a_token_is_a_json_web_token_with_hs256():
    header, claims, signature = Tokens(1).issue(User("me", ("ADMIN",), 99)).split(".")
    assert json.loads(part(header)) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(part(claims)) == {"sub": "me", "groups": ["ADMIN"], "exp": 99}
    key = hashlib.sha256(b"simulated fleet 1").digest()
    assert part(signature) == hmac.digest(key, f"{header}.{claims}".encode(), "sha256")


def test_a_token_says_whose_it_is_until_it_expires():
    tokens = Tokens(1)
    user = User("me", ("ADMIN",), 99)
    assert tokens.user_of(tokens.issue(user), 98.9) == user
    with pytest.raises(TokenError, match="expired"):
        tokens.user_of(tokens.issue(user), 99.0)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "a.b.c",
        "é.b.c",
        "x" * 5000,
        Tokens(2).issue(User("me")),
        Tokens(1).issue(User("me"))[:-1],
    ],
)
def test_a_token_of_someone_else_is_refused_without_showing_it(token):
    with pytest.raises(TokenError) as error:
        Tokens(1).user_of(token, 0.0)
    assert len(token) < 3 or token not in str(error.value)
