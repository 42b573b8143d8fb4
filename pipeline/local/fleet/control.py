"""The control API of a running fleet: what is broken, breaking it and mending it.

    POST /faults       {"name": "tps-drop", "node": "api-000", "for_s": 300}: break something;
                       without `node` where the fault strikes, without `for_s` until it is ended
    GET /faults        the active ones
    DELETE /faults     end them; ?name=… and ?node=… end only those
    GET /nodes         name, type, address and whether it listens

It listens on 127.0.0.1 only. Times are those of the simulation.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from aiohttp import web

from pipeline.api.http import new_app
from pipeline.local.fleet.faults import Fault
from pipeline.local.fleet.fleet import Fleet, UnknownFaultError
from pipeline.local.fleet.model import GENESIS_S
from pipeline.local.fleet.server import HOST, FleetServer
from pipeline.settings import SimulateSettings


class FaultOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to break, where, and for how many seconds of event time."""

    name: str
    node: str | None = None
    for_s: Annotated[float, msgspec.Meta(gt=0)] | None = None


class ActiveFault(msgspec.Struct, frozen=True):
    """A fault that lasts; `ends_at` is None if it does until it is mended."""

    name: str
    node: str | None
    started_at: float
    ends_at: float | None


class NodeEntry(msgspec.Struct, frozen=True):
    """A node and where it is."""

    node: str
    node_type: str
    address: str
    listening: bool


class Refusal(msgspec.Struct, frozen=True):
    """Why a request could not be met."""

    error: str


def control_address(simulate: SimulateSettings) -> str:
    """Where the control API listens: the port below the nodes'; 0 (any) if theirs is."""
    return f"{HOST}:{max(0, simulate.base_port - 1)}"


def control_app(fleet: Fleet, server: FleetServer) -> web.Application:
    async def post(request: web.Request) -> web.Response:
        try:
            order = msgspec.json.decode(await request.read(), type=FaultOrder)
            fault = fleet.break_(order.name, order.node, order.for_s)
        except (msgspec.MsgspecError, UnknownFaultError) as error:
            return _json(Refusal(str(error)), status=400)
        await server.settle()
        return _json(_shown(fault, fleet), status=201)

    async def delete(request: web.Request) -> web.Response:
        try:
            ended = fleet.mend(request.query.get("name"), request.query.get("node"))
        except UnknownFaultError as error:
            return _json(Refusal(str(error)), status=400)
        await server.settle()
        return _json([_shown(fault, fleet) for fault in ended])

    async def get(_request: web.Request) -> web.Response:
        return _json([_shown(fault, fleet) for fault in fleet.faults()])

    async def nodes(_request: web.Request) -> web.Response:
        return _json(
            [
                NodeEntry(
                    each.node.name, each.node.node_type, f"{HOST}:{each.port}", each.listening
                )
                for each in server.nodes
            ]
        )

    app = new_app()
    app.router.add_post("/faults", post)
    app.router.add_delete("/faults", delete)
    app.router.add_get("/faults", get)
    app.router.add_get("/nodes", nodes)
    return app


def _shown(fault: Fault, fleet: Fleet) -> ActiveFault:
    return ActiveFault(
        fault.name,
        None if fault.node is None else fleet.model.nodes[fault.node].name,
        fault.start + GENESIS_S,
        None if math.isinf(fault.end) else fault.end + GENESIS_S,
    )


def _json(
    content: msgspec.Struct | list[ActiveFault] | list[NodeEntry], status: int = 200
) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(content), status=status, content_type="application/json"
    )
