import time

import aiohttp
import msgspec
import pytest

from pipeline.api.http import serve
from pipeline.clock import Clock
from pipeline.local.fleet import fault as client
from pipeline.local.fleet import main
from pipeline.local.fleet.control import control_address, control_app
from pipeline.local.fleet.fleet import Fleet
from pipeline.local.fleet.model import FleetModel
from pipeline.local.fleet.server import FleetServer
from pipeline.local.fleet.tokens import Tokens
from pipeline.settings import ClockSettings, Settings, SimulateSettings


@pytest.fixture
async def simulate():
    """A running fleet of three; the settings say where its control API is."""
    fleet = Fleet(FleetModel(3, 1), Clock(ClockSettings(speed=10.0, origin=time.time())))
    server = FleetServer(fleet, 0, Tokens(1))
    await server.open()
    control = await serve(control_app(fleet, server), control_address(SimulateSettings(0)))
    yield SimulateSettings(base_port=control.port + 1, nodes=3)
    await control.close()
    await server.close()


async def _get(simulate, path):
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{control_address(simulate)}{path}") as response,
    ):
        return await response.json()


async def test_fault_is_started_listed_and_ended(simulate):
    started = await client.start_fault(simulate, "latency", "channel-000", 600.0)
    assert (started.name, started.node) == ("latency", "channel-000")
    assert started.ends_at == pytest.approx(started.started_at + 600.0)
    (listed,) = await _get(simulate, "/faults")
    assert listed["name"] == "latency"
    assert await client.end_faults(simulate, "tps-drop", None) == []
    assert [each.name for each in await client.end_faults(simulate, "latency", None)] == ["latency"]
    assert await _get(simulate, "/faults") == []


async def test_node_down_is_closed_when_the_answer_comes(simulate):
    await client.start_fault(simulate, "node-down", "business-000", None)
    nodes = await _get(simulate, "/nodes")
    assert [node["listening"] for node in nodes] == [True, False, True]
    assert [node["node_type"] for node in nodes] == ["validator", "business", "channel"]
    await client.end_faults(simulate, "node-down", "business-000")
    assert [node["listening"] for node in await _get(simulate, "/nodes")] == [True] * 3


@pytest.mark.parametrize(
    ("name", "node", "for_s", "message"),
    [
        ("meteor", None, None, "fault: expected one of .*, got 'meteor'"),
        ("latency", "nobody", None, "node: expected one of .*, got 'nobody'"),
        ("latency", None, -1.0, "Expected `float` > 0.0 - at `\\$.for_s`"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_reason(simulate, name, node, for_s, message):
    with pytest.raises(client.RefusedError, match=message):
        await client.start_fault(simulate, name, node, for_s)
    assert await _get(simulate, "/faults") == []


async def test_ending_an_unknown_fault_is_refused(simulate):
    with pytest.raises(client.RefusedError, match="got 'meteor'"):
        await client.end_faults(simulate, "meteor", None)


def _settings(unused_tcp_port):
    return msgspec.structs.replace(Settings(), simulate=SimulateSettings(unused_tcp_port + 1))


@pytest.mark.parametrize("end", [False, True])
def test_without_a_simulation_the_command_says_what_to_do(unused_tcp_port, capsys, end):
    settings = _settings(unused_tcp_port)
    assert main.fault(settings, "latency", node=None, for_s=None, end=end) == 4
    error = capsys.readouterr().err
    assert f"no simulated fleet answers at 127.0.0.1:{unused_tcp_port}" in error
    assert "watchkeeper simulate" in error


@pytest.mark.parametrize(
    ("node", "ends_at", "text"),
    [
        (None, None, "latency on all nodes, until it is ended"),
        ("api-000", 160.0, "latency on api-000, for 60 s of event time"),
    ],
)
def test_fault_is_described_in_words(node, ends_at, text):
    assert client.describe(client.ActiveFault("latency", node, 100.0, ends_at)) == text
