from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
import yaml

from pipeline.local.stack import Stack, settings_of_stack, taken_ports
from pipeline.local.up import hints_of
from pipeline.settings import (
    ClockSettings,
    CollectSettings,
    LocalSettings,
    RulesSettings,
    Settings,
    SimulateSettings,
    environment_of,
    load_settings,
)


def test_all_parts_share_one_clock_one_folder_and_the_fleet(tmp_path: Path):
    settings = Settings(data=str(tmp_path), local=LocalSettings(listen="127.0.0.1:7777"))
    stack = settings_of_stack(settings, nodes=3, clock=ClockSettings(60.0, 5.0))
    assert stack.clock == ClockSettings(60.0, 5.0)
    assert stack.simulate.nodes == 3
    assert stack.dispatch.local_receiver == "http://127.0.0.1:7777/notify"
    scrape = yaml.safe_load(Path(stack.collect.scrape_config).read_text())
    assert len(scrape["scrape_configs"][0]["static_configs"]) == 3
    assert Path(stack.collect.feeds_config).exists()


def test_targets_of_the_user_are_watched_instead_of_the_fleet(tmp_path: Path):
    own = Settings(data=str(tmp_path), collect=CollectSettings(scrape_config="mine.yml"))
    stack = settings_of_stack(own, nodes=None, clock=ClockSettings())
    assert stack.collect.scrape_config == "mine.yml"
    assert stack.simulate.nodes == 25


def test_settings_reach_a_child_through_the_environment():
    settings = Settings(
        brokers=("a:1", "b:2"),
        clock=ClockSettings(60.0, 1763928000.123456),
        rules=RulesSettings(external_labels={"a": "b", "c": "d"}, prometheus="2"),
        local=LocalSettings(prometheus=False),
        simulate=SimulateSettings(nodes=3),
    )
    assert load_settings(None, environment_of(settings)) == settings


def test_every_taken_port_is_named_with_its_setting(ports: Callable[[int], list[int]]):
    free = ports(8)
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        first, second = one.getsockname()[1], two.getsockname()[1]
        default = Settings()
        settings = Settings(
            brokers=(f"127.0.0.1:{first}",),
            kafka=msgspec.structs.replace(default.kafka, controller_port=free[0]),
            collect=CollectSettings(listen=f"127.0.0.1:{free[1]}"),
            worker=msgspec.structs.replace(default.worker, listen=f"127.0.0.1:{free[2]}"),
            dispatch=msgspec.structs.replace(default.dispatch, listen=f"127.0.0.1:{free[3]}"),
            export=msgspec.structs.replace(default.export, listen=f"127.0.0.1:{free[4]}"),
            simulate=SimulateSettings(base_port=free[5], nodes=1),
            local=LocalSettings(
                listen=f"127.0.0.1:{free[6]}", prometheus_listen=f"127.0.0.1:{second}"
            ),
        )
        assert taken_ports(settings, prometheus=False) == [
            f"127.0.0.1:{first} (setting brokers): the port is taken"
        ]
        assert taken_ports(settings, prometheus=True)[1:] == [
            f"127.0.0.1:{second} (setting local.prometheus_listen): the port is taken"
        ]


async def test_parts_wait_for_what_they_need(tmp_path: Path):
    settings = settings_of_stack(Settings(data=str(tmp_path)), 1, ClockSettings())
    async with aiohttp.ClientSession() as session:
        plain = Stack(settings, session, prometheus=None, history=None).parts()
        past = Stack(settings, session, prometheus="/bin/prometheus", history=7200.0).parts()
    waits = {part.name: (part.after, part.uses) for part in plain}
    assert waits == {
        "kafka": ((), ()),
        "simulate": ((), ()),
        "worker": ((), ("kafka",)),
        "collect": (("simulate",), ("kafka",)),
        "dispatch": ((), ("kafka",)),
        "export": ((), ("kafka",)),
    }
    named = {part.name: part for part in past}
    assert named["simulate"].after == ("kafka",)
    assert named["simulate"].command[-2:] == ("--history", "7200s")
    assert named["prometheus"].command[0] == "/bin/prometheus"


def test_hints_name_the_addresses_of_the_settings():
    settings = Settings(local=LocalSettings(prometheus_listen="127.0.0.1:7"))
    assert ("prometheus", "http://127.0.0.1:7/alerts") in hints_of(settings, prometheus=True)
    assert hints_of(settings, prometheus=False)[0][1].startswith("watchkeeper simulate fault")
