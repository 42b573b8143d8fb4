"""What a worker tells over HTTP: its alerts in the form of Prometheus' `/api/v1/alerts`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import web

from pipeline.api.http import new_app
from pipeline.model import Alert


def alerts_app(
    active: Callable[[], list[Alert]], holds_s: Callable[[Alert], float]
) -> web.Application:
    """`/api/v1/alerts`, beside health and metrics.

    `active` gives the pending and firing alerts, `holds_s` the `for` of an alert's rule in seconds.
    Beyond Prometheus' fields, a pending alert has `firesAt`.
    """

    async def alerts(_request: web.Request) -> web.Response:
        found = [_as_json(alert, holds_s(alert)) for alert in active()]
        return web.json_response({"status": "success", "data": {"alerts": found}})

    app = new_app()
    app.router.add_get("/api/v1/alerts", alerts)
    return app


def _as_json(alert: Alert, holds_s: float) -> dict[str, object]:
    found: dict[str, object] = {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "state": alert.state,
        "activeAt": _rfc3339(alert.active_at_ms),
        "value": repr(alert.value),
    }
    if alert.state == "pending":
        found["firesAt"] = _rfc3339(alert.active_at_ms + int(holds_s * 1000))
    return found


def _rfc3339(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
