import itertools

import numpy as np
import pytest

from pipeline.local.fleet.faults import Fault
from pipeline.local.fleet.model import GENESIS_S, NODE_TYPES, FleetModel, fleet_nodes

START_MS = 1_767_604_530_000  # 2026-01-05T09:15:30Z
START = START_MS / 1000 - GENESIS_S
DAY_MS = 86_400_000


def test_twenty_five_nodes_are_five_of_each_type():
    types = [node.node_type for node in fleet_nodes(25)]
    assert {kind: types.count(kind) for kind in NODE_TYPES} == dict.fromkeys(NODE_TYPES, 5)
    assert len({node.name for node in fleet_nodes(25)}) == 25


def test_same_seed_gives_the_same_fleet_and_another_seed_another():
    one, same, other = FleetModel(5, 1), FleetModel(5, 1), FleetModel(5, 2)
    states = [model.state(START_MS, model.timeline(())) for model in (one, same, other)]
    assert states[0] == states[1]
    assert states[0].network.tps != states[2].network.tps


def test_state_does_not_depend_on_what_was_asked_before():
    model = FleetModel(5, 1)
    timeline = model.timeline(())
    first = model.state(START_MS, timeline)
    model.state(START_MS + DAY_MS, timeline)
    assert model.state(START_MS, timeline) == first


def test_nothing_is_before_genesis():
    model = FleetModel(1, 1)
    with pytest.raises(ValueError, match=r"expected 1735689600000 ms or later, got 1735689599999"):
        model.state(GENESIS_S * 1000 - 1, model.timeline(()))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_healthy_figures_stay_in_range_for_fourteen_days(seed):
    model = FleetModel(10, seed)
    timeline = model.timeline(())
    states = [model.state(START_MS + i * 613_000, timeline) for i in range(14 * DAY_MS // 613_000)]
    tps = np.array([state.network.tps for state in states])
    assert tps.min() > 2.3e6
    assert tps.max() < 3.1e6
    nodes = [node for state in states for node in state.nodes]
    p99 = [state.network.p99 for state in states] + [node.p99 for node in nodes]
    assert min(p99) > 0.04
    assert max(p99) < 0.07
    assert max(node.cpu for node in nodes) < 0.5
    assert max(node.memory for node in nodes) < 2e9
    assert {node.error_ratio for node in nodes} == {0.001}
    assert all(state.network.peak_tps >= state.network.tps for state in states)
    assert all(node.p50 < node.p95 < node.p99 for node in nodes)


def test_load_drives_throughput_processor_and_latency_together():
    model = FleetModel(5, 1)
    timeline = model.timeline(())
    states = [model.state(START_MS + i * 600_000, timeline) for i in range(144)]
    tps = [state.network.tps for state in states]
    for values in (
        [np.mean([node.cpu for node in state.nodes]) for state in states],
        [state.network.p99 for state in states],
        [sum(node.connections for node in state.nodes) for state in states],
    ):
        assert np.corrcoef(tps, values)[0, 1] > 0.7


def test_days_and_weeks_have_a_rhythm():
    model = FleetModel(1, 1)
    timeline = model.timeline(())
    monday = START_MS - START_MS % DAY_MS

    def mean_tps(day, hour):
        times = [monday + day * DAY_MS + hour * 3_600_000 + i * 300_000 for i in range(12)]
        return np.mean([model.state(each, timeline).network.tps for each in times])

    assert mean_tps(0, 14) > 1.1 * mean_tps(0, 2)
    assert mean_tps(2, 12) > 1.02 * mean_tps(6, 12)


def test_rate_of_the_transaction_counter_is_the_reported_throughput():
    model = FleetModel(5, 1)
    timeline = model.timeline(())
    for i in range(20):
        now = model.state(START_MS + i * 1000, timeline).network
        later = model.state(START_MS + (i + 1) * 1000, timeline).network
        assert later.transactions - now.transactions == pytest.approx(now.tps, rel=1e-4)


def test_average_is_that_of_the_last_minute():
    model = FleetModel(5, 1)
    timeline = model.timeline(())
    states = [model.state(START_MS + i * 1000, timeline) for i in range(61)]
    mean = np.mean([state.network.tps for state in states[:60]])
    assert states[60].network.average_tps == pytest.approx(mean, rel=1e-4)


def _during(name, node=None, end=float("inf")):
    model = FleetModel(5, 1)
    fault = Fault(name, node, START, end)
    return model.state(START_MS + 60_000, model.timeline([fault])), model.state(
        START_MS + 60_000, model.timeline(())
    )


def test_tps_drop_brings_the_network_to_about_a_million():
    broken, _ = _during("tps-drop")
    assert 0.9e6 < broken.network.tps < 1.3e6
    assert broken.network.average_tps == pytest.approx(broken.network.tps, rel=0.02)


def test_tps_drop_of_one_node_leaves_the_network_above_two_million():
    broken, healthy = _during("tps-drop", node=1)
    assert broken.nodes[1].tps < 0.5 * healthy.nodes[1].tps
    assert broken.nodes[2].tps == healthy.nodes[2].tps
    assert broken.network.tps > 2e6


def test_latency_brings_p99_to_a_quarter_of_a_second():
    broken, healthy = _during("latency")
    assert 0.2 < broken.network.p99 < 0.3
    assert all(0.2 < node.p99 < 0.3 for node in broken.nodes)
    assert broken.nodes[0].busy - healthy.nodes[0].busy == pytest.approx(60 * 3.8, rel=0.2)


def test_error_storm_fails_requests_and_transactions():
    broken, healthy = _during("error-storm")
    assert broken.nodes[0].errors - healthy.nodes[0].errors == pytest.approx(0.35 * 60, rel=0.2)
    failed = broken.network.failed - healthy.network.failed
    assert failed == pytest.approx(0.066 * 60 * healthy.network.tps, rel=0.1)
    assert broken.nodes[0].error_ratio > 0.05


def test_node_down_takes_the_node_out_of_the_network():
    broken, healthy = _during("node-down", node=0)
    assert not broken.nodes[0].listening
    assert broken.network.active_nodes == 4
    assert broken.network.active_validators == 0
    assert broken.network.leader == "unknown"
    assert healthy.network.leader == "validator-000"


def test_lost_oracles_are_the_nodes_own():
    broken, healthy = _during("health-degraded", node=3)
    assert [node.oracles for node in broken.nodes] == [5, 5, 5, 2, 5]
    assert healthy.nodes[3].oracles == 5


def _by_second(name, node=None, nodes=10, end=float("inf"), seconds=30):
    """The fleet at 30 whole seconds after the fault began."""
    model = FleetModel(nodes, 1)
    timeline = model.timeline([Fault(name, node, START, end)])
    return [model.state(START_MS + 1000 * i, timeline) for i in range(1, seconds + 1)]


@pytest.mark.parametrize("nodes", [1, 10])
def test_leader_flap_brings_a_new_leader_and_term_each_second(nodes):
    networks = [state.network for state in _by_second("leader-flap", nodes=nodes)]
    assert all(a.leader != b.leader for a, b in itertools.pairwise(networks))
    assert {b.term - a.term for a, b in itertools.pairwise(networks)} == {1}


def test_terms_never_fall_and_the_leader_stays_after_flapping_has_ended():
    networks = [s.network for s in _by_second("leader-flap", nodes=1, end=START + 7.5)]
    assert all(b.term >= a.term for a, b in itertools.pairwise(networks))
    assert {network.leader for network in networks[8:]} == {"validator-000"}
    assert {network.term for network in networks[8:]} == {networks[0].term + 6}


def test_slow_leak_grows_the_memory_of_its_node_by_a_megabyte_a_second():
    model = FleetModel(5, 1)
    healthy = model.timeline(())
    broken = model.timeline([Fault("slow-leak", 2, START)])
    for seconds in (60, 600):
        at_ms = START_MS + seconds * 1000
        now, usual = model.state(at_ms, broken), model.state(at_ms, healthy)
        grown = [a.old_gen - b.old_gen for a, b in zip(now.nodes, usual.nodes, strict=True)]
        assert grown == pytest.approx([0, 0, seconds * 1e6, 0, 0], abs=2)
    assert model.state(START_MS + 86_400_000, broken).nodes[2].old_gen == 4_294_967_296


def test_stuck_value_stays_what_it_was_at_one_node():
    stuck, healthy = _by_second("stuck-value", node=1, nodes=5), _by_second("latency", nodes=5)
    assert len({state.nodes[1].tps for state in stuck}) == 1
    assert stuck[0].nodes[1].tps == pytest.approx(healthy[0].nodes[1].tps, rel=0.1)
    for i in (0, 2, 3, 4):
        assert [s.nodes[i].tps for s in stuck] == [s.nodes[i].tps for s in healthy]


@pytest.mark.parametrize(
    "name",
    [
        "tps-drop", "latency", "error-storm", "node-down", "health-degraded", "slow-leak",
        "stuck-value",
    ],
)  # fmt: skip
def test_what_a_fault_did_to_gauges_ends_with_it(name):
    broken, healthy = _during(name, end=START + 30.0)
    assert broken.network.tps == healthy.network.tps
    assert broken.network.p99 == healthy.network.p99
    assert [node.listening for node in broken.nodes] == [True] * 5
    assert [node.oracles for node in broken.nodes] == [5] * 5
    assert [node.error_ratio for node in broken.nodes] == [0.001] * 5
    assert name != "slow-leak" or broken.nodes[0].memory == healthy.nodes[0].memory
    assert [node.tps for node in broken.nodes] == [node.tps for node in healthy.nodes]
