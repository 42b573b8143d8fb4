"""WebSocket feeds and health endpoints: which targets have which.

The file is YAML, in the style of Prometheus' `scrape_configs`:

    websocket_configs:
      - job_name: aurigraph-production
        feeds: [/ws/metrics, /ws/dashboard]        # of `pipeline.ingest.ledger_feeds.FEEDS`
        scheme: ws                                 # or wss; default ws
        authorization: {credentials_file: token}   # or credentials; for feeds that want a token
        static_configs:
          - targets: ["127.0.0.1:19200"]
            labels: {node: validator-000}
        tls_config: {ca_file: ca.pem}              # and basic_auth, as in Prometheus
    health_configs:
      - job_name: aurigraph-production
        path: /q/health                            # the default
        scheme: http                               # or https; default http
        interval: 15s                              # default 15s
        timeout: 10s                               # default 10s, at most the interval
        basic_auth: {username: me, password_file: f}  # authorization, tls_config, too
        file_sd_configs:
          - files: ["fleet/*.json"]                # relative to this file, as in Prometheus

A target's `instance` is its address unless its labels name one.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.collect.static_targets import TargetSources, read_config, read_sources
from pipeline.document import ConfigError, Value
from pipeline.http_config import HTTP_FIELDS, HttpConfig, read_http_config
from pipeline.ingest.ledger_feeds import FEEDS
from pipeline.secret import Secret, read_secret

_SOURCES = ("static_configs", "file_sd_configs")
_FEED_HTTP = ("tls_config", "basic_auth")
DEFAULT_INTERVAL_MS, DEFAULT_TIMEOUT_MS = 15_000, 10_000


class Token(msgspec.Struct, frozen=True):
    """What opens a feed; a file is read anew for each connection."""

    secret: Secret = Secret()
    file: str = ""

    def read(self) -> str:
        """Raises SecretError."""
        return read_secret(self.secret, self.file)


class FeedJob(msgspec.Struct, frozen=True):
    """One entry of `websocket_configs`."""

    name: str
    feeds: tuple[str, ...]
    scheme: str
    sources: TargetSources
    token: Token = Token()
    http: HttpConfig = HttpConfig()


class HealthJob(msgspec.Struct, frozen=True):
    """One entry of `health_configs`."""

    name: str
    path: str
    scheme: str
    interval_ms: int
    timeout_ms: int
    sources: TargetSources
    http: HttpConfig = HttpConfig()


class FeedsConfig(msgspec.Struct, frozen=True):
    """The whole file."""

    feeds: tuple[FeedJob, ...] = ()
    health: tuple[HealthJob, ...] = ()


def load_feeds_config(path: Path) -> FeedsConfig:
    """The feeds and probes of the file at `path`.

    Raises
    ------
    ConfigError
        With every problem, each as `file:line: path: message`.
    """
    problems: list[str] = []
    config = FeedsConfig()
    root = read_config(path, problems)
    if root is not None:
        sections = root.fields(("websocket_configs", "health_configs"))
        folder = path.parent
        config = FeedsConfig(
            tuple(_read_feed(item, folder) for item in _items(sections, "websocket_configs")),
            tuple(_read_health(item, folder) for item in _items(sections, "health_configs")),
        )
    if problems:
        raise ConfigError(problems)
    return config


def _items(sections: dict[str, Value], key: str) -> list[Value]:
    return sections[key].items() if key in sections else []


def _read_feed(value: Value, folder: Path) -> FeedJob:
    fields = value.fields(("job_name", "feeds", "scheme", "authorization", *_FEED_HTTP, *_SOURCES))
    feeds = []
    for item in _items(fields, "feeds"):
        if item.text() in FEEDS:
            feeds.append(item.text())
        else:
            item.problem(f"expected one of {', '.join(FEEDS)}, got {item.text()!r}")
    token = Token()
    if "authorization" in fields:
        token = _read_token(fields["authorization"], folder)
    for feed in feeds:
        if FEEDS[feed].login != "none" and token == Token():
            value.problem(f"expected an authorization: {feed} wants a token")
    return FeedJob(
        _name(value, fields),
        tuple(feeds),
        _choice(fields, "scheme", ("ws", "wss")),
        read_sources(fields, folder),
        token,
        # The authorization is the feed's token, and goes where the feed wants it.
        read_http_config(value, {k: fields[k] for k in _FEED_HTTP if k in fields}, folder),
    )


def _read_token(value: Value, folder: Path) -> Token:
    """As in Prometheus; the file is relative to the configuration's."""
    fields = value.fields(("type", "credentials", "credentials_file"))
    if "type" in fields and fields["type"].text().lower() != "bearer":
        fields["type"].problem("expected Bearer")
    if len(fields.keys() & {"credentials", "credentials_file"}) != 1:
        value.problem("expected credentials or credentials_file")
        return Token()
    if "credentials" in fields:
        return Token(Secret(fields["credentials"].text()))
    return Token(file=str(folder / fields["credentials_file"].text()))


def _read_health(value: Value, folder: Path) -> HealthJob:
    fields = value.fields(
        ("job_name", "path", "scheme", "interval", "timeout", *HTTP_FIELDS, *_SOURCES)
    )
    interval_ms = DEFAULT_INTERVAL_MS
    if "interval" in fields:
        interval_ms = fields["interval"].duration_ms() or interval_ms
    timeout_ms = min(DEFAULT_TIMEOUT_MS, interval_ms)
    if "timeout" in fields:
        timeout_ms = fields["timeout"].duration_ms() or timeout_ms
        if timeout_ms > interval_ms:
            fields["timeout"].problem(
                f"expected at most the interval ({interval_ms} ms), got {timeout_ms} ms"
            )
    return HealthJob(
        _name(value, fields),
        fields["path"].text() if "path" in fields else "/q/health",
        _choice(fields, "scheme", ("http", "https")),
        interval_ms,
        timeout_ms,
        read_sources(fields, folder),
        read_http_config(value, fields, folder),
    )


def _name(value: Value, fields: dict[str, Value]) -> str:
    if "job_name" not in fields:
        value.problem("expected a job_name, got none")
        return ""
    return fields["job_name"].text()


def _choice(fields: dict[str, Value], key: str, choices: tuple[str, ...]) -> str:
    if key not in fields:
        return choices[0]
    text = fields[key].text()
    if text not in choices:
        fields[key].problem(f"expected one of {', '.join(choices)}, got {text!r}")
    return text
