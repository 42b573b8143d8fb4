"""One HTTP GET with limits of time and size, and an error a person understands."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus

import aiohttp
from yarl import URL

from pipeline.api.client import login_of
from pipeline.http_config import HttpConfig

PLAIN = HttpConfig()
MAX_REDIRECTS = 10
_SHOWN = 300


class FetchError(Exception):
    """No body; `outcome` is one of a small fixed set, for counting."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


async def fetch(
    session: aiohttp.ClientSession,
    url: str,
    timeout_s: float,
    max_bytes: int,
    *,
    http: HttpConfig = PLAIN,
    headers: Mapping[str, str] | None = None,
    accept: frozenset[int] = frozenset({200}),
) -> bytes:
    """The body at `url`, if the answer has one of the status codes in `accept`.

    Raises
    ------
    FetchError
        `timeout`, `connection`, `redirect`, `status`, `body` (it doesn't come as announced) or
        `too_large`.
    """
    try:
        async with asyncio.timeout(timeout_s):
            target = URL(url, encoded=True)
            login = login_of(http)
            keywords = login.keywords(headers)
            async with session.get(
                target,
                **keywords,
                allow_redirects=login.follow_redirects,
                max_redirects=MAX_REDIRECTS,
            ) as response:
                if response.status not in accept:
                    message = f"server returned HTTP status {_status(response.status)}"
                    raise FetchError("status", message)
                return await _body(response, max_bytes)
    except TimeoutError:
        raise FetchError("timeout", f"no complete answer within {timeout_s:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # ValueError: an address that is no URL, a secret or certificate that can't be read.
        # aiohttp leaves some messages empty, and makes
        # others of what it was sent.
        message = str(error)[:_SHOWN] or type(error).__name__
        raise FetchError(_outcome(error), message) from error


def _status(code: int) -> str:
    """The code with its usual words: those that came may repeat a login that was refused."""
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return str(code)


def _outcome(error: Exception) -> str:
    if isinstance(error, aiohttp.TooManyRedirects):
        return "redirect"
    return "body" if isinstance(error, aiohttp.ClientPayloadError) else "connection"


async def _body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > max_bytes:
            raise FetchError("too_large", f"expected at most {max_bytes} bytes, got more")
        chunks.append(chunk)
    return b"".join(chunks)
