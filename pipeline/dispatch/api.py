"""Alertmanager's API v2, as far as there is something behind it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from pipeline import __version__
from pipeline.alerts.config import Config
from pipeline.alerts.group import in_order, labels_order
from pipeline.alerts.incident import Incident, Source
from pipeline.alerts.matchers import Matcher, MatcherError, compile_pattern, parse_matcher
from pipeline.api.http import new_app
from pipeline.clock import Clock
from pipeline.dispatch.dispatcher import Dispatcher
from pipeline.dispatch.metrics import ALERTS_IGNORED
from pipeline.dispatch.store import StoreError
from pipeline.dispatch.wire import BodyError, alert_body, group_body, parse_alerts
from pipeline.receivers.webhook import format_time

BACKSTOP = "/backstop"
"""The path prefix under which Prometheus posts when it is the worker's backstop."""
_TRUE = ("true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled")
_VERSION_INFO = {
    "version": "0.25.0",
    "branch": "watchkeeper",
    "revision": __version__,
    "buildDate": "",
    "buildUser": "",
    "goVersion": "",
}
"""The Alertmanager that clients are to take this for, and what it is; the API requires all."""
_NO_SILENCES = "silences are not supported yet: nothing was changed"


class Api:
    """The handlers; one instance per application."""

    def __init__(self, dispatcher: Dispatcher, config: Config, clock: Clock) -> None:
        self._dispatcher = dispatcher
        self._board = dispatcher.board
        self._config = config
        self._clock = clock
        self._started = format_time(clock.now_ms())

    def application(self) -> web.Application:
        app = new_app()
        app.router.add_get("/-/ready", self._ready)
        app.router.add_post("/api/v2/alerts", self._post_alerts)
        app.router.add_post(f"{BACKSTOP}/api/v2/alerts", self._post_backstop_alerts)
        app.router.add_get("/api/v2/alerts", self._get_alerts)
        app.router.add_get("/api/v2/alerts/groups", self._get_groups)
        app.router.add_get("/api/v2/receivers", self._get_receivers)
        app.router.add_get("/api/v2/status", self._get_status)
        app.router.add_get("/api/v2/silences", self._get_silences)
        app.router.add_post("/api/v2/silences", self._post_silence)
        return app

    async def _ready(self, _request: web.Request) -> web.Response:
        return web.Response(text="OK")

    async def _post_alerts(self, request: web.Request) -> web.Response:
        return await self._take(request, "api")

    async def _post_backstop_alerts(self, request: web.Request) -> web.Response:
        return await self._take(request, "backstop")

    async def _take(self, request: web.Request, source: Source) -> web.Response:
        if request.content_type != "application/json":
            return _refusal(
                415, 415, f'unsupported media type "{request.content_type}", '
                "only [application/json] are allowed"
            )  # fmt: skip
        timeout_ms = self._config.resolve_timeout_ms
        try:
            posted = parse_alerts(await request.read(), source, timeout_ms, self._clock.now_ms())
        except BodyError as error:
            return _refusal(error.status, error.code, str(error))
        ALERTS_IGNORED.labels("invalid").inc(len(posted.problems))
        try:
            await self._dispatcher.accept(posted.reports)
        except StoreError as error:
            return _json(str(error), status=503)
        if posted.problems:
            return _json("; ".join(posted.problems), status=400)
        return web.Response()

    async def _get_alerts(self, request: web.Request) -> web.Response:
        wanted = _Filter(request)
        now_ms = self._clock.now_ms()
        bodies = []
        for number in sorted(self._board.alerts):
            incident = self._board.alerts[number]
            if incident.resolved(now_ms) or not wanted.alert(incident):
                continue
            receivers = self._board.receivers_of(incident.labels)
            if any(wanted.receiver(name) for name in receivers):
                bodies.append(alert_body(incident, receivers))
        return _json(bodies)

    async def _get_groups(self, request: web.Request) -> web.Response:
        wanted = _Filter(request)
        now_ms = self._clock.now_ms()
        receivers_of = self._board.receivers_of
        bodies = []
        groups = [(group, self._board.receiver_of(group)) for group in self._board.groups.values()]
        for group, receiver in sorted(groups, key=lambda g: (labels_order(g[0].labels), g[1])):
            if not wanted.receiver(receiver):
                continue
            incidents = in_order(self._board.alerts[member] for member in group.members)
            alerts = [
                alert_body(incident, receivers_of(incident.labels))
                for incident in incidents
                if not incident.resolved(now_ms) and wanted.alert(incident)
            ]
            if alerts:
                bodies.append(group_body(group.labels, receiver, alerts))
        return _json(bodies)

    async def _get_receivers(self, _request: web.Request) -> web.Response:
        return _json([{"name": receiver.name} for receiver in self._config.receivers])

    async def _get_status(self, _request: web.Request) -> web.Response:
        return _json(
            {
                "cluster": {"peers": [], "status": "disabled"},
                "config": {"original": self._config.original},
                "uptime": self._started,
                "versionInfo": _VERSION_INFO,
            }
        )

    async def _get_silences(self, _request: web.Request) -> web.Response:
        return _json([])

    async def _post_silence(self, _request: web.Request) -> web.Response:
        # 400 and not 501: amtool shows the text only of answers that the API describes.
        return _json(_NO_SILENCES, status=400)


class _Filter:
    """The query parameters that GET requests for alerts have in common.

    `silenced`, `inhibited` and `unprocessed` select among what does not exist yet: every alert is
    active.
    """

    def __init__(self, request: web.Request) -> None:
        """Raises HTTPBadRequest for a filter or a receiver that is no matcher or pattern."""
        self._active = request.query.get("active", "true").lower() in _TRUE
        self._matchers: list[Matcher] = []
        self.receiver: Callable[[str], bool] = lambda _name: True
        try:
            self._matchers = [parse_matcher(text) for text in request.query.getall("filter", [])]
            if "receiver" in request.query:
                pattern = compile_pattern(request.query["receiver"])
                self.receiver = lambda name: pattern.search(name) is not None
        except MatcherError as error:
            raise web.HTTPBadRequest(
                text=msgspec.json.encode(str(error)).decode(), content_type="application/json"
            ) from error

    def alert(self, incident: Incident) -> bool:
        labels = dict(incident.labels)
        return self._active and all(matcher.matches(labels) for matcher in self._matchers)


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body), status=status, content_type="application/json"
    )


def _refusal(status: int, code: int, message: str) -> web.Response:
    return _json({"code": code, "message": message}, status)
