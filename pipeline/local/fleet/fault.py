"""`watchkeeper simulate fault`: speaks to the control API of a running fleet."""

from __future__ import annotations

import aiohttp
import msgspec

from pipeline.local.fleet.control import ActiveFault, FaultOrder, Refusal, control_address
from pipeline.settings import SimulateSettings

_TIMEOUT_S = 10.0


class NoSimulationError(RuntimeError):
    """Nothing answers where the control API should be."""


class RefusedError(RuntimeError):
    """The fleet would not do it; the message says why."""


async def start_fault(
    simulate: SimulateSettings, name: str, node: str | None, for_s: float | None
) -> ActiveFault:
    """Break something.

    Raises
    ------
    NoSimulationError, RefusedError
    """
    body = msgspec.json.encode(FaultOrder(name, node, for_s))
    return msgspec.json.decode(await _ask(simulate, "POST", {}, body), type=ActiveFault)


async def end_faults(simulate: SimulateSettings, name: str, node: str | None) -> list[ActiveFault]:
    """End the faults of that name, on that node or wherever they are.

    Raises
    ------
    NoSimulationError, RefusedError
    """
    query = {"name": name} if node is None else {"name": name, "node": node}
    return msgspec.json.decode(await _ask(simulate, "DELETE", query, b""), type=list[ActiveFault])


def describe(fault: ActiveFault) -> str:
    """A fault in a person's words.

    >>> describe(ActiveFault("latency", None, 0.0, 90.0))
    'latency on all nodes, for 90 s of event time'
    """
    where = fault.node or "all nodes"
    if fault.ends_at is None:
        return f"{fault.name} on {where}, until it is ended"
    return f"{fault.name} on {where}, for {fault.ends_at - fault.started_at:g} s of event time"


async def _ask(
    simulate: SimulateSettings, method: str, query: dict[str, str], body: bytes
) -> bytes:
    address = control_address(simulate)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                method, f"http://{address}/faults", params=query, data=body
            ) as response,
        ):
            answer = await response.read()
            if response.status >= 400:
                raise RefusedError(_reason(answer, response.status))
            return answer
    except (aiohttp.ClientConnectionError, TimeoutError) as error:
        raise NoSimulationError(
            f"no simulated fleet answers at {address}; start one with `watchkeeper up` or "
            f"`watchkeeper simulate`, or set simulate.base_port to that of the one that runs"
        ) from error


def _reason(answer: bytes, status: int) -> str:
    try:
        return msgspec.json.decode(answer, type=Refusal).error
    except msgspec.DecodeError:
        return f"status {status}"
