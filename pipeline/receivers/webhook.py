"""Webhooks: Alertmanager's message format, version 4, posted as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit, urlunsplit

import aiohttp
import msgspec

from pipeline import __version__
from pipeline.alerts.config import WebhookConfig
from pipeline.alerts.notification import AlertInMessage, Message
from pipeline.api.client import basic_header, login_of
from pipeline.model import Labels
from pipeline.receivers.errors import PermanentError, RetryableError
from pipeline.secret import SecretError
from pipeline.tls import TlsError

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time: "still firing"."""

_GO_META = re.compile(r"[\\.+*?()|\[\]{}^$]")


def render(message: Message, external_url: str, max_alerts: int) -> bytes:
    """The body of a webhook's request; of more than `max_alerts` (0: any number) the first.

    References
    ----------
    alertmanager 0.25, notify/webhook/webhook.go: Message; template/template.go: Data.
    """
    shown = message.alerts[:max_alerts] if max_alerts else message.alerts
    firing = any(alert.status == "firing" for alert in shown)
    return msgspec.json.encode(
        {
            # Alertmanager quotes the name as for a regular expression.
            "receiver": _GO_META.sub(r"\\\g<0>", message.receiver),
            "status": "firing" if firing else "resolved",
            "alerts": [_render_alert(alert) for alert in shown],
            "groupLabels": dict(message.group_labels),
            "commonLabels": _common([alert.labels for alert in shown]),
            "commonAnnotations": _common([alert.annotations for alert in shown]),
            "externalURL": external_url,
            "version": "4",
            "groupKey": message.group_key,
            "truncatedAlerts": len(message.alerts) - len(shown),
        }
    )


def _render_alert(alert: AlertInMessage) -> dict[str, object]:
    return {
        "status": alert.status,
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": format_time(alert.starts_at_ms),
        "endsAt": format_time(alert.ends_at_ms) if alert.ends_at_ms else NEVER,
        "generatorURL": alert.generator_url,
        "fingerprint": f"{alert.fingerprint:016x}",
    }


def _common(sets: list[Labels]) -> dict[str, str]:
    """The pairs that are in all of `sets`."""
    shared = set(sets[0]).intersection(*sets[1:])
    return {name: value for name, value in sets[0] if (name, value) in shared}


def format_time(time_ms: int) -> str:
    """RFC 3339 with as many digits as are needed, as Go writes it.

    >>> format_time(1_500), format_time(2_000)
    ('1970-01-01T00:00:01.5Z', '1970-01-01T00:00:02Z')
    """
    seconds, millis = divmod(time_ms, 1000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{millis:03d}".rstrip("0") if millis else ""
    return f"{text}{fraction}Z"


class Webhook:
    """One webhook of a receiver."""

    def __init__(
        self,
        config: WebhookConfig,
        session: aiohttp.ClientSession,
        external_url: str,
        now: Callable[[], float],
    ) -> None:
        """`now` gives wall time in Unix seconds, for a `Retry-After` that names a date."""
        self._config = config
        self._url, self._url_login = _without_login(config.url.value)
        self._login = login_of(config.http)
        self._session = session
        self._external_url = external_url
        self._now = now

    async def send(self, message: Message, key: str, within: float) -> None:
        """Post `message`; `key` tells the receiver which posts are the same one.

        Raises
        ------
        RetryableError
            No answer within `within` seconds, no connection, 5xx, or 429 with a `Retry-After`.
        PermanentError
            Any other answer than 2xx, or a secret's file that can't be read.
        """
        body = render(message, self._external_url, self._config.max_alerts)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"Watchkeeper/{__version__}",
            "Idempotency-Key": key,
        }
        try:
            keywords = self._login.keywords(self._url_login | headers)
        except (SecretError, TlsError) as error:
            raise PermanentError(str(error)) from error
        try:
            async with self._session.post(
                self._url,
                data=body,
                **keywords,
                allow_redirects=self._login.follow_redirects,
                timeout=aiohttp.ClientTimeout(total=within),
            ) as response:
                status, retry_after = response.status, response.headers.get("Retry-After", "")
        except TimeoutError as error:
            raise RetryableError(f"expected an answer within {within:g} s, got none") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RetryableError(f"no answer: {type(error).__name__}") from error
        _check(status, retry_after, self._now())


def _check(status: int, retry_after: str, now: float) -> None:
    if 200 <= status < 300:
        return
    text = f"expected an answer 2xx, got {status}"
    wait = parse_retry_after(retry_after, now)
    if status >= 500 or (status == 429 and wait is not None):
        raise RetryableError(text, wait)
    raise PermanentError(text)


def parse_retry_after(text: str, now: float) -> float | None:
    """Seconds that a `Retry-After` header asks to wait; None without a valid one.

    >>> parse_retry_after("120", 0.0), parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 50.0)
    (120.0, 10.0)
    """
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None


def _without_login(url: str) -> tuple[str, dict[str, str]]:
    """The address without the login that may be in it, and the header that carries the login."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, {}
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, basic_header(unquote(parts.username), unquote(parts.password or ""))
