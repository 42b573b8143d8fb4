"""Who may ask: the logins and headers of the web-config file, asked for at every request.

The file is read again when it changes. While it can't be used every request is refused, as in
Prometheus: nobody gets in because of a typing error.
"""

from __future__ import annotations

import asyncio
import binascii
import hmac
import logging
import secrets
import ssl
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import bcrypt
from aiohttp import web

from pipeline.api.web_config import WebConfig, load_web_config, server_context
from pipeline.document import ConfigError
from pipeline.secret import Secret
from pipeline.selfmetrics import fields
from pipeline.tls import MadeFromFiles, TlsError

log = logging.getLogger(__name__)

REMEMBERED_LOGINS = 100
WAITING_LOGINS = 64
_MOST_OF_A_PASSWORD = 72
"""bcrypt takes no more bytes into account."""
READ_TIMEOUT = 30.0
"""Seconds for a request's body."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TooManyLoginsError(Exception):
    """More passwords wait to be compared than is reasonable."""


class Logins:
    """Compares passwords with bcrypt hashes, one at a time, and remembers the last answers.

    A comparison takes some 60 ms of CPU by design; a scraper that comes each second would cost 6 %
    of a core. What is remembered is a keyed hash of name, hash and password.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, bool] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def allows(self, users: Mapping[str, Secret], header: str) -> bool:
        """Whether the `Authorization` header names one of `users` with the right password.

        Raises
        ------
        TooManyLoginsError
        """
        login = _basic_login(header)
        if login is None:
            return False
        name, password = login
        # Nobody's password is compared, too, so that the time doesn't tell who is known.
        known = name in users
        hashed = users[name if known else next(iter(users))].value.encode()
        identity = b"\0".join((name.encode().hex().encode(), hashed, password))
        digest = hmac.digest(self._key, identity, "sha256")
        if digest not in self._known:
            self._remember(digest, await self._compare(password, hashed) and known)
        return self._known[digest]

    async def _compare(self, password: bytes, hashed: bytes) -> bool:
        if self._waiting >= WAITING_LOGINS:
            raise TooManyLoginsError
        self._waiting += 1
        try:
            async with self._turn:
                given = password[:_MOST_OF_A_PASSWORD]
                return await asyncio.to_thread(bcrypt.checkpw, given, hashed)
        finally:
            self._waiting -= 1

    def _remember(self, digest: bytes, allowed: bool) -> None:
        self._known[digest] = allowed
        if len(self._known) > REMEMBERED_LOGINS:
            self._known.popitem(last=False)


def _basic_login(header: str) -> tuple[str, bytes] | None:
    """Name and password of a header for basic authentication; None if it is none."""
    kind, _, encoded = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, colon, password = b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password.replace(b"\0", b"")) if colon else None
    except (binascii.Error, UnicodeDecodeError):
        return None


class Guard:
    """What the web-config file asks for, now; without a file nothing."""

    def __init__(self, file: str) -> None:
        self._config = MadeFromFiles(lambda: [file] if file else [], lambda: _loaded(file))
        self._context = MadeFromFiles(lambda: [file, *self._config.current().files()], self._new)
        self._logins = Logins()
        self._said = ""

    def context(self) -> ssl.SSLContext | None:
        """For a connection that begins now; None for plain HTTP.

        Raises
        ------
        ConfigError, TlsError
            A file has become unusable; it is logged, once.
        """
        try:
            if self._config.current().tls is None:
                return None
            return self._context.current()
        except (ConfigError, TlsError) as error:
            self._say(str(error))
            raise

    def _new(self) -> ssl.SSLContext:
        tls = self._config.current().tls
        assert tls is not None, "asked for with TLS only"
        return server_context(tls)

    def watch(self, app: web.Application) -> None:
        """Put this before every handler of `app`."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                config = self._config.current()
            except ConfigError as error:
                self._say(str(error))
                return web.Response(status=500, text="Internal Server Error\n")
            if config.users and (refusal := await self._refusal(config, request)):
                return refusal
            if request.can_read_body:
                try:
                    async with asyncio.timeout(READ_TIMEOUT):
                        await request.read()
                except TimeoutError:
                    text = f"expected the whole request within {READ_TIMEOUT:g} s\n"
                    return web.Response(status=408, text=text, headers={"Connection": "close"})
            return await handler(request)

        async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
            try:
                response.headers.update(self._config.current().headers)
            except ConfigError:
                return  # said by `guarded`

        app.middlewares.insert(0, guarded)
        app.on_response_prepare.append(add_headers)

    async def _refusal(self, config: WebConfig, request: web.Request) -> web.Response | None:
        header = request.headers.get("Authorization", "")
        try:
            if await self._logins.allows(config.users, header):
                return None
        except TooManyLoginsError:
            return web.Response(status=503, text="too many logins at a time\n")
        return web.Response(
            status=401, text="Unauthorized\n", headers={"WWW-Authenticate": "Basic"}
        )

    def _say(self, problem: str) -> None:
        if problem != self._said:
            self._said = problem
            log.error("nobody is let in: %s", fields(problem=problem))


def _loaded(file: str) -> WebConfig:
    return load_web_config(Path(file)) if file else WebConfig()
