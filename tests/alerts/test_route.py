from __future__ import annotations

import pytest

from pipeline.alerts.config import load_config
from pipeline.alerts.route import Route, build_routes, go_quote

TREE = """
route:
  receiver: root
  group_by: [alertname]
  routes:
    - matchers: ['team="db"']
      receiver: db
      group_wait: 1s
      routes:
        - matchers: ['severity="critical"']
          group_by: ['...']
          repeat_interval: 1m
        - match: {severity: low}
          receiver: sink
          group_by: [job, team]
    - match_re: {team: 'd.*'}
      receiver: copy
      continue: true
    - matchers: ['team=~"d.*"']
      group_interval: 7s
      group_by: []
receivers: [{name: root}, {name: db}, {name: sink}, {name: copy}]
"""


@pytest.fixture
def root() -> Route:
    return build_routes(load_config(TREE, "tree.yml").route)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, ["0"]),
        ({"team": "web"}, ["0"]),
        ({"team": "db"}, ["0.0"]),
        ({"team": "db", "severity": "critical"}, ["0.0.0"]),
        ({"team": "db", "severity": "low"}, ["0.0.1"]),
        ({"team": "dns"}, ["0.1", "0.2"]),
    ],
)
def test_deepest_match_takes_it_and_siblings_only_after_continue(
    root: Route, labels: dict[str, str], expected: list[str]
) -> None:
    assert [route.id for route in root.match(labels)] == expected


def test_alert_that_the_tree_does_not_take_has_no_route(root: Route) -> None:
    assert root.routes[0].match({"team": "web"}) == []


def test_what_is_not_written_is_inherited(root: Route) -> None:
    by_id = {route.id: route for route in root.walk()}
    assert (root.group_wait_ms, root.group_interval_ms) == (30_000, 300_000)
    assert root.repeat_interval_ms == 4 * 3600 * 1000
    assert by_id["0.0.0"].receiver == "db"
    assert by_id["0.0.0"].group_wait_ms == 1000
    assert by_id["0.0.0"].repeat_interval_ms == 60_000
    assert by_id["0.2"].receiver == "root"
    assert by_id["0.2"].group_interval_ms == 7000
    assert by_id["0.2"].group_by == {"alertname"}


def test_group_labels_are_those_named_or_all(root: Route) -> None:
    by_id = {route.id: route for route in root.walk()}
    labels = (("alertname", "X"), ("job", "j"))
    assert root.group_labels(labels) == (("alertname", "X"),)
    assert by_id["0.0.0"].group_labels(labels) == labels
    assert by_id["0.0.1"].group_labels(labels) == (("job", "j"),)


def test_all_labels_are_inherited_too_until_others_are_named() -> None:
    text = """
    route:
      receiver: r
      group_by: ['...']
      routes: [{matchers: [a=b]}, {matchers: [a=c], group_by: [x]}]
    receivers: [{name: r}]
    """
    root = build_routes(load_config(text, "f").route)
    labels = (("a", "b"), ("x", "1"))
    assert root.routes[0].group_labels(labels) == labels
    assert root.routes[1].group_labels(labels) == (("x", "1"),)


def test_group_key_is_that_of_alertmanager(root: Route) -> None:
    """Seen on Alertmanager 0.25 for the same routes."""
    assert root.group_key(()) == "{}:{}"
    assert root.routes[0].routes[1].group_key((("job", "a"), ("team", 'd"b'))) == (
        '{}/{team="db"}/{severity="low"}:{job="a", team="d\\"b"}'
    )
    assert root.routes[1].group_key(()) == '{}/{team=~"^(?:d.*)$"}:{}'
    assert root.routes[2].group_key(()) == '{}/{team=~"d.*"}:{}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('\t\n\\"', r'"\t\n\\\""'),
        ("\x00\x7f", r'"\x00\x7f"'),
        ("é日", '"é日"'),
        ("\u200b", r'"\u200b"'),
        ("\U000e0001", r'"\U000e0001"'),
    ],
)
def test_text_is_quoted_as_go_does(text: str, expected: str) -> None:
    assert go_quote(text) == expected
