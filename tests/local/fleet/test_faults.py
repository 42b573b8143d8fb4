import re
from math import inf

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.cli import main
from pipeline.local.fleet.faults import FAULTS, Fault, Timeline, condition


def test_fault_of_one_node_weighs_its_share_in_the_network():
    now = condition([Fault("tps-drop", 2, 0.0)], nodes=4)
    np.testing.assert_allclose(now.throughput, [1, 1, 0.41, 1, 1 - 0.59 / 4])


def test_fault_of_the_fleet_strikes_all():
    now = condition([Fault("latency", None, 0.0)], nodes=2)
    np.testing.assert_allclose(now.latency, [4.8, 4.8, 4.8])


def test_factors_multiply_and_shares_add():
    faults = [Fault("latency", 0, 0.0), Fault("latency", 0, 0.0), Fault("error-storm", 0, 0.0)]
    now = condition(faults, nodes=1)
    assert now.latency[0] == pytest.approx(4.8**2)
    assert now.request_errors[0] == pytest.approx(0.35)


def test_node_down_closes_only_its_own_listener():
    now = condition([Fault("node-down", 1, 0.0)], nodes=3)
    assert now.listening.tolist() == [True, False, True, True]


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_changes_something(name):
    struck, healthy = condition([Fault(name, 0, 0.0)], 1), condition([], 1)
    assert any(
        getattr(struck, field)[0] != getattr(healthy, field)[0]
        for field in struck.__struct_fields__
    )


def test_fault_lasts_from_its_start_until_before_its_end():
    fault = Fault("latency", None, 10.0, 20.0)
    assert [fault.active(at) for at in (9.9, 10.0, 19.9, 20.0)] == [False, True, True, False]


def _seconds(at):
    return np.array([[at, at]])


def _throughput(now):
    return now.throughput[np.newaxis, :]


def test_totals_grow_with_the_factor_of_each_stretch():
    faults = [Fault("tps-drop", 0, 10.0, 20.0), Fault("node-down", 0, 30.0, inf)]
    timeline = Timeline(faults, 1, _seconds, _throughput)
    totals = [timeline.totals(at)[0, 0] for at in (0, 10, 15, 20, 30, 99)]
    assert totals == pytest.approx([0, 10, 12.05, 14.1, 24.1, 24.1])


def test_ending_a_fault_early_leaves_the_past_as_it_was():
    before = Timeline([Fault("tps-drop", None, 10.0)], 1, _seconds, _throughput)
    after = Timeline([Fault("tps-drop", None, 10.0, 50.0)], 1, _seconds, _throughput)
    assert after.totals(50.0)[0, 0] == pytest.approx(before.totals(50.0)[0, 0])
    assert after.totals(51.0)[0, 0] == pytest.approx(after.totals(50.0)[0, 0] + 1)


def test_help_names_every_fault():
    shown = CliRunner().invoke(main, ["simulate", "fault", "--help"]).output
    words = set(re.findall(r"[a-z]+-[a-z]+|latency", shown))
    assert set(FAULTS) <= words
