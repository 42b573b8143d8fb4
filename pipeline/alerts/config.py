"""An Alertmanager 0.25 configuration file, checked once, every problem reported together.

What this version can't do yet (inhibition, silences by time, templates, receivers other than
webhooks) is refused by name: a file that loads is obeyed in full.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import yaml

from pipeline.alerts.matchers import (
    Matcher,
    compile_pattern,
    new_matcher,
    parse_matchers,
    sort_matchers,
)
from pipeline.document import ConfigError, Value, read_document
from pipeline.http_config import (
    HTTP_FIELDS,
    HTTP_LATER,
    SECRET_FIELDS,
    HttpConfig,
    read_http_config,
)
from pipeline.secret import Secret

RESOLVE_TIMEOUT_MS = 300_000
"""Of a file that names none."""

_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class WebhookConfig(msgspec.Struct, frozen=True):
    """`max_alerts` 0: all of a group's alerts go into one message."""

    url: Secret
    send_resolved: bool
    max_alerts: int
    http: HttpConfig


class ReceiverConfig(msgspec.Struct, frozen=True):
    name: str
    webhooks: tuple[WebhookConfig, ...]


class RouteConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A route as written; None and "" mean inherited."""

    receiver: str = ""
    matchers: tuple[Matcher, ...] = ()
    group_by: tuple[str, ...] = ()
    group_by_all: bool = False
    group_wait_ms: int | None = None
    group_interval_ms: int | None = None
    repeat_interval_ms: int | None = None
    continues: bool = False
    routes: tuple[RouteConfig, ...] = ()


class Config(msgspec.Struct, frozen=True):
    """`original` is the file's text with its secrets left out."""

    resolve_timeout_ms: int
    route: RouteConfig
    receivers: tuple[ReceiverConfig, ...]
    original: str


_SECTIONS_LATER = ("inhibit_rules", "mute_time_intervals", "time_intervals", "templates")
_GLOBAL_LATER = (
    "smtp_from", "smtp_hello", "smtp_smarthost", "smtp_auth_username", "smtp_auth_password",
    "smtp_auth_password_file", "smtp_auth_secret", "smtp_auth_identity", "smtp_require_tls",
    "slack_api_url", "slack_api_url_file", "pagerduty_url", "opsgenie_api_url",
    "opsgenie_api_key", "opsgenie_api_key_file", "wechat_api_url", "wechat_api_secret",
    "wechat_api_corp_id", "victorops_api_url", "victorops_api_key", "victorops_api_key_file",
    "telegram_api_url", "webex_api_url",
)  # fmt: skip
_RECEIVERS_LATER = tuple(
    f"{kind}_configs"
    for kind in (
        "email", "pagerduty", "slack", "opsgenie", "wechat", "pushover", "victorops", "sns",
        "telegram", "discord", "webex", "msteams",
    )
)  # fmt: skip
_ROUTE_FIELDS = (
    "receiver", "group_by", "continue", "matchers", "match", "match_re", "group_wait",
    "group_interval", "repeat_interval", "routes",
)  # fmt: skip
_ROUTE_LATER = ("mute_time_intervals", "active_time_intervals")


def load_config(text: str, file: str) -> Config:
    """The configuration that `text`, the content of `file`, gives.

    Raises
    ------
    ConfigError
        With every problem, each as `file:line: path: what was expected`.
    """
    problems: list[str] = []
    root = read_document(text, file, problems)
    if root is None:
        raise ConfigError(problems)
    fields = root.fields(("global", "route", "receivers"), _SECTIONS_LATER)
    folder = Path(file).parent
    resolve_timeout_ms, http = _read_global(fields.get("global"), folder)
    receivers = _read_receivers(fields.get("receivers"), http, folder)
    if "route" in fields:
        route = _read_root(fields["route"], {receiver.name for receiver in receivers})
    else:
        route = RouteConfig()
        root.problem("route: expected a route, got none")
    if problems:
        raise ConfigError(problems)
    return Config(resolve_timeout_ms, route, receivers, _without_secrets(text))


def _read_global(value: Value | None, folder: Path) -> tuple[int, HttpConfig]:
    if value is None:
        return RESOLVE_TIMEOUT_MS, HttpConfig()
    fields = value.fields(("resolve_timeout", "http_config"), _GLOBAL_LATER)
    timeout_ms = fields["resolve_timeout"].duration_ms() if "resolve_timeout" in fields else None
    if timeout_ms is None:
        timeout_ms = RESOLVE_TIMEOUT_MS
    if "http_config" not in fields:
        return timeout_ms, HttpConfig()
    return timeout_ms, _read_http(fields["http_config"], folder)


def _read_root(value: Value, receivers: set[str]) -> RouteConfig:
    route = _read_route(value, receivers)
    if not route.receiver:
        value.problem("receiver: expected the receiver of all alerts, got none")
    if route.matchers:
        value.problem("expected no matchers at the root: it takes every alert")
    if route.continues:
        value.problem("continue: expected false at the root")
    return route


def _read_route(value: Value, receivers: set[str]) -> RouteConfig:
    fields = value.fields(_ROUTE_FIELDS, _ROUTE_LATER)
    receiver = fields["receiver"].text() if "receiver" in fields else ""
    if receiver and receiver not in receivers:
        fields["receiver"].problem(f"no receiver is called {receiver!r}")
    group_by, group_by_all = _read_group_by(fields.get("group_by"))
    return RouteConfig(
        receiver=receiver,
        matchers=_read_route_matchers(fields),
        group_by=group_by,
        group_by_all=group_by_all,
        group_wait_ms=_read_duration(fields.get("group_wait"), minimum_ms=0),
        group_interval_ms=_read_duration(fields.get("group_interval"), minimum_ms=1),
        repeat_interval_ms=_read_duration(fields.get("repeat_interval"), minimum_ms=1),
        continues="continue" in fields and fields["continue"].boolean(),
        routes=tuple(
            _read_route(item, receivers)
            for item in (fields["routes"].items() if "routes" in fields else [])
        ),
    )


def _read_duration(value: Value | None, minimum_ms: int) -> int | None:
    if value is None:
        return None
    duration_ms = value.duration_ms()
    if duration_ms is not None and duration_ms < minimum_ms:
        value.problem("expected a duration above 0, got 0")
    return duration_ms


def _read_group_by(value: Value | None) -> tuple[tuple[str, ...], bool]:
    """The labels, and whether it is `['...']`."""
    if value is None:
        return (), False
    names: list[str] = []
    for item in value.items():
        name = item.text()
        if name in names:
            item.problem(f"the label {name!r} is given twice")
        if name != "..." and not _LABEL_NAME.fullmatch(name):
            item.problem(f"expected a label name, got {name!r}")
        names.append(name)
    if "..." in names and len(names) > 1:
        value.problem("expected '...' alone: it groups by all labels")
    if "..." in names:
        return (), True
    return tuple(names), False


def _read_route_matchers(fields: dict[str, Value]) -> tuple[Matcher, ...]:
    matchers: list[Matcher] = []
    for name, value in fields["match"].entries() if "match" in fields else ():
        _check_label_name(name, value)
        matchers.append(Matcher(name, "=", value.text()))
    for name, value in fields["match_re"].entries() if "match_re" in fields else ():
        _check_label_name(name, value)
        if value.parsed(compile_pattern, None) is not None:
            # Alertmanager anchors these already when it reads them; its group keys show it.
            matchers.append(new_matcher(name, "=~", f"^(?:{value.text()})$"))
    for value in fields["matchers"].items() if "matchers" in fields else ():
        matchers += value.parsed(parse_matchers, [])
    return sort_matchers(matchers)


def _check_label_name(name: str, value: Value) -> None:
    if not _LABEL_NAME.fullmatch(name):
        value.problem(f"expected a label name, got {name!r}")


def _read_receivers(
    value: Value | None, http: HttpConfig, folder: Path
) -> tuple[ReceiverConfig, ...]:
    receivers: list[ReceiverConfig] = []
    for item in value.items() if value is not None else []:
        fields = item.fields(("name", "webhook_configs"), _RECEIVERS_LATER)
        name = fields["name"].text() if "name" in fields else ""
        if not name:
            item.problem("name: expected the receiver's name, got none")
        elif any(receiver.name == name for receiver in receivers):
            fields["name"].problem(f"the name {name!r} is given twice")
        webhooks = fields["webhook_configs"].items() if "webhook_configs" in fields else []
        read = tuple(_read_webhook(webhook, http, folder) for webhook in webhooks)
        receivers.append(ReceiverConfig(name, read))
    return tuple(receivers)


def _read_webhook(value: Value, http: HttpConfig, folder: Path) -> WebhookConfig:
    fields = value.fields(("url", "send_resolved", "max_alerts", "http_config"))
    if "url" in fields:
        url = fields["url"].parsed(_parse_url, "")
    else:
        url = ""
        value.problem("url: expected the address to post to, got none")
    return WebhookConfig(
        url=Secret(url),
        send_resolved=fields["send_resolved"].boolean() if "send_resolved" in fields else True,
        max_alerts=fields["max_alerts"].count() if "max_alerts" in fields else 0,
        http=_read_http(fields["http_config"], folder) if "http_config" in fields else http,
    )


def _parse_url(text: str) -> str:
    """Raises ValueError without the address, which may hold a password or a token."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"expected an http or https address, got the scheme {parts.scheme!r}")
    if not parts.hostname or parts.port == 0:
        raise ValueError("expected an address with a host")
    return text


def _read_http(value: Value, folder: Path) -> HttpConfig:
    return read_http_config(value, value.fields(HTTP_FIELDS, HTTP_LATER), folder)


def _without_secrets(text: str) -> str:
    """The YAML document `text` with `<secret>` in place of each secret, still a configuration.

    >>> print(_without_secrets("a: {url: 'http://me:password@host:80/hook?token=x'}").strip())
    a: {url: 'http://host:80/<secret>'}
    """
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    assert document is not None
    _mask(document)
    return yaml.serialize(document, Dumper=yaml.SafeDumper, allow_unicode=True)


def _mask(node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in SECRET_FIELDS:
                value.value = "<secret>"
            elif key.value == "url":
                value.value = _shown_url(value.value)
            else:
                _mask(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _mask(item)


def _shown_url(url: str) -> str:
    """The part of an address that never holds a password or a token."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    plain = parts.path in ("", "/") and not parts.query and not parts.fragment
    return f"{parts.scheme}://{host}{parts.path if plain else '/<secret>'}"
