import json
from collections import Counter

import pytest

from pipeline.local.fleet import rest
from pipeline.local.fleet.faults import Fault
from pipeline.local.fleet.model import GENESIS_S, FleetModel

START_MS = 1_767_604_530_000


@pytest.fixture(scope="module")
def state():
    model = FleetModel(10, 1)
    down = Fault("node-down", 3, START_MS / 1000 - GENESIS_S)
    return model.state(START_MS + 1, model.timeline([down]))


@pytest.mark.parametrize(
    ("sample", "path"),
    [
        ("rest.chain_info.json", "/api/v11/deprecated/blockchain/chain/info"),
        ("rest.mobile_stats.json", "/api/v11/mobile/stats"),
        ("rest.network_monitoring_health.json", "/api/v11/network/monitoring/health"),
        ("rest.nodes_list.json", "/api/v11/nodes"),
    ],
)
def test_answer_has_the_keys_of_the_sample(state, shared, sample, path):
    theirs = json.loads((shared / "platform" / "samples" / sample).read_text())
    ours = rest.ROUTES[path](state, {})
    assert ours.keys() == theirs.keys()
    for key in theirs:
        if isinstance(theirs[key], list) and isinstance(theirs[key][0], dict):
            assert ours[key][0].keys() == theirs[key][0].keys()


def test_nodes_come_in_pages(state):
    first, second = (rest.nodes(state, {"page": str(i), "size": "6"}) for i in (0, 1))
    assert [len(page["nodes"]) for page in (first, second)] == [6, 4]
    assert (first["totalPages"], first["hasNext"], first["hasPrevious"]) == (2, True, False)
    assert (second["hasNext"], second["hasPrevious"]) == (False, True)


def test_nodes_are_found_by_type_and_status(state):
    assert [each["nodeId"] for each in rest.nodes(state, {"type": "MOBILE"})["nodes"]] == [
        "mobile-000",
        "mobile-001",
    ]
    assert [each["nodeId"] for each in rest.nodes(state, {"status": "OFFLINE"})["nodes"]] == [
        "api-000"
    ]


@pytest.mark.parametrize("arguments", [{"page": "x"}, {"size": "-1"}, {"size": "0"}])
def test_page_that_is_no_number_is_refused(state, arguments):
    with pytest.raises(rest.RestError, match=r"(page|size): expected") as caught:
        rest.nodes(state, arguments)
    assert caught.value.status == 400


def test_node_by_name_or_not_found(state):
    assert rest.node(state, {"id": "api-001"})["nodeType"] == "API"
    with pytest.raises(rest.RestError, match="nobody") as caught:
        rest.node(state, {"id": "nobody"})
    assert caught.value.status == 404


def test_summary_adds_up(state):
    summary = rest.nodes_summary(state, {})
    assert summary["totalNodes"] == 10
    assert summary["nodesByStatus"] == Counter(ACTIVE=9, OFFLINE=1)
    assert sum(summary["nodesByType"].values()) == 10


@pytest.mark.parametrize("path", [path for path in rest.ROUTES if "{id}" not in path])
def test_every_answer_is_json_without_nan(state, path):
    json.dumps(rest.ROUTES[path](state, {}), allow_nan=False)


def test_live_answers_are_in_snake_case(state):
    for path in ("validators", "consensus", "network"):
        answer = rest.ROUTES[f"/api/v11/live/{path}"](state, {})
        assert all(key == key.lower() for key in answer)
