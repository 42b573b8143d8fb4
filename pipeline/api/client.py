"""Asking others over HTTP: the login and TLS that an `HttpConfig` says, at each request anew.

aiohttp leaves the login out when a redirect leads to another origin (scheme, host or port).
"""

from __future__ import annotations

import functools
import ssl
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import aiohttp

from pipeline.api.web_config import load_web_config
from pipeline.document import ConfigError
from pipeline.http_config import BasicAuth, HttpConfig
from pipeline.secret import Secret, SecretError, read_secret
from pipeline.settings import SettingsError, WebSettings
from pipeline.tls import ClientTls, MadeFromFiles, TlsError, client_context

_OWN_TIMEOUT = aiohttp.ClientTimeout(total=3.0)


class RequestKeywords(TypedDict):
    """Keywords of a request of aiohttp."""

    headers: dict[str, str]
    ssl: ssl.SSLContext | bool
    server_hostname: str | None


class Login:
    """What to show to the other side."""

    def __init__(self, config: HttpConfig) -> None:
        self.follow_redirects = config.follow_redirects
        self._config = config
        tls = config.tls
        self._context = MadeFromFiles(tls.files, lambda: client_context(tls))

    def keywords(self, headers: Mapping[str, str] | None = None) -> RequestKeywords:
        """For a request with `headers`, with the files as they are now.

        Raises
        ------
        SecretError, TlsError
            A file can't be used; both are ValueErrors.
        """
        tls = self._config.tls
        return RequestKeywords(
            headers={**(headers or {}), **self._authorization()},
            ssl=True if tls == ClientTls() else self._context.current(),
            server_hostname=tls.server_name or None,
        )

    def _authorization(self) -> dict[str, str]:
        basic, other = self._config.basic_auth, self._config.authorization
        if basic is not None:
            return basic_header(basic.username, read_secret(basic.password, basic.password_file))
        if other is not None:
            credentials = read_secret(other.credentials, other.credentials_file)
            return {"Authorization": f"{other.type} {credentials}"}
        return {}


def basic_header(username: str, password: str) -> dict[str, str]:
    encoded = b64encode(f"{username}:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


@functools.lru_cache(maxsize=1024)
def login_of(config: HttpConfig) -> Login:
    """The one login of `config`: targets that share it share its TLS context."""
    return Login(config)


def own_scheme(settings: WebSettings) -> str:
    """How our own listeners are spoken to; raises ConfigError as `load_web_config`."""
    if not settings.config_file:
        return "http"
    return "https" if load_web_config(Path(settings.config_file)).tls is not None else "http"


def own_http(settings: WebSettings) -> HttpConfig:
    """What our own processes show to our own listeners."""
    basic = None
    if settings.username:
        basic = BasicAuth(settings.username, Secret(), settings.password_file)
    tls = ClientTls(settings.ca_file, settings.certificate_file, settings.key_file)
    return HttpConfig(basic_auth=basic, tls=tls)


class OwnListeners:
    """Asks our own listeners, however the web-config file protects them."""

    def __init__(self, session: aiohttp.ClientSession, settings: WebSettings) -> None:
        """Raises ConfigError if the web-config file can't be used."""
        self._session = session
        self._scheme = own_scheme(settings)
        self._login = login_of(own_http(settings))

    def url(self, address: str, path: str) -> str:
        return f"{self._scheme}://{address}{path}"

    async def get(self, address: str, path: str) -> bytes | None:
        """The body; None when there is none, whatever the reason."""
        try:
            keywords = self._login.keywords()
            url = self.url(address, path)
            async with self._session.get(url, timeout=_OWN_TIMEOUT, **keywords) as response:
                return await response.read() if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, SecretError, TlsError):
            return None


def check_web(settings: WebSettings) -> None:
    """Raise `SettingsError` if what `[web]` names can't be used."""
    problems: list[str] = []
    if bool(settings.username) != bool(settings.password_file):
        problems.append("web.username, web.password_file: expected both, got one")
    if bool(settings.certificate_file) != bool(settings.key_file):
        problems.append("web.certificate_file, web.key_file: expected both, got one")
    if not problems:
        try:
            own_scheme(settings)
            login_of(own_http(settings)).keywords()
        except ConfigError as error:
            problems += error.problems
        except (SecretError, TlsError) as error:
            problems.append(f"web: {error}")
    if problems:
        raise SettingsError(problems)
