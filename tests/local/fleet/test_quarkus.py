import re

import pytest

from pipeline.ingest.prometheus_text import TextParser
from pipeline.local.fleet.faults import Fault
from pipeline.local.fleet.model import GENESIS_S, FleetModel
from pipeline.local.fleet.quarkus import java_double, render

START_MS = 1_767_604_530_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        # Examples of what Double.toString writes, by the rules in its documentation.
        (0.0, "0.0"),
        (1.0, "1.0"),
        (-1.0, "-1.0"),
        (0.001, "0.001"),
        (0.00099, "9.9E-4"),
        (9999999.0, "9999999.0"),
        (1e7, "1.0E7"),
        (4294967296.0, "4.294967296E9"),
        (-2.5e8, "-2.5E8"),
        (12345678.25, "1.234567825E7"),
        (1e21, "1.0E21"),
        (5e-324, "5.0E-324"),
    ],
)
def test_java_double(value, text):
    assert java_double(value) == text
    assert float(text) == value


def _lines(body):
    return [line for line in body.decode().splitlines() if not line.startswith("#")]


def _keys(text):
    """Each series by its name and its labels' names."""
    found = set()
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition("{")
            labels = re.findall(r'(\w+)="', rest) if rest else []
            found.add((name.split(" ")[0], tuple(sorted(labels))))
    return found


@pytest.fixture(scope="module")
def model():
    return FleetModel(5, 1)


def test_every_series_of_the_sample_is_there(model, samples):
    state = model.state(START_MS, model.timeline(()))
    for node in state.nodes:
        assert _keys(samples("q_metrics.txt")) <= _keys(render(node).decode())


def test_a_node_has_60_to_120_series_each_once(model):
    state = model.state(START_MS, model.timeline(()))
    for node in state.nodes:
        series = [line.rpartition(" ")[0] for line in _lines(render(node))]
        assert 60 <= len(series) <= 120
        assert len(set(series)) == len(series)


def test_it_says_that_it_is_simulated(model):
    state = model.state(START_MS, model.timeline(()))
    body = render(state.nodes[0])
    assert b'simulated_build_info{version="12.0.0-simulated",simulated="true"} 1.0' in body


def _counters(body):
    parser = TextParser()
    readings = parser.parse(body)
    return {
        series.labels: value
        for series, value in zip(readings.series, readings.values, strict=True)
        if series.kind in ("counter", "summary")
    }


def test_counters_only_grow_whatever_breaks(model):
    start = START_MS / 1000 - GENESIS_S
    timeline = model.timeline(
        [
            Fault("tps-drop", None, start + 5, start + 9),
            Fault("latency", 0, start + 7, start + 12),
            Fault("error-storm", None, start + 8, start + 15),
            Fault("node-down", 1, start + 10, start + 20),
        ]
    )
    for index in (0, 1):
        before = None
        for step in range(100):
            state = model.state(START_MS + step * 250, timeline)
            now = _counters(render(state.nodes[index]))
            if before is not None:
                assert now.keys() == before.keys()
                assert not [key for key in now if now[key] < before[key]]
            before = now
        assert before is not None
        assert len(before) > 25


def test_error_storm_shows_in_the_counters_of_status_500(model):
    start = START_MS / 1000 - GENESIS_S
    later = START_MS + 300_000

    def failed(timeline):
        node = model.state(later, timeline).nodes[3]
        counters = _counters(render(node))
        return sum(
            value
            for labels, value in counters.items()
            if ("status", "500") in labels and dict(labels)["__name__"].endswith("_count")
        )

    more = failed(model.timeline([Fault("error-storm", 3, start)])) - failed(model.timeline(()))
    # 120 requests/s at load 1, 98 % of them REST, 35 % of those fail for 300 s
    assert more == pytest.approx(120 * 0.95 * 0.35 * 300, rel=0.15)
