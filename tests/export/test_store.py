from __future__ import annotations

import subprocess
import time

import numpy as np
import pytest

from pipeline.codec import dictionary_key
from pipeline.export.store import Store
from pipeline.model import Alert, Scores, Series, SeriesDictionary, Target, labels_from

NOW_MS = 1_700_000_000_000
LIFETIME_MS = 300_000


@pytest.fixture
def store():
    return Store(LIFETIME_MS, max_series=100)


def dictionary(*label_sets, feed="/metrics"):
    series = tuple(Series(labels_from(labels), "gauge") for labels in label_sets)
    return SeriesDictionary(Target("node", "a:9100", feed), series)


def scores(of, columns, values, time_ms=NOW_MS):
    return Scores(
        of.target.id, of.id, time_ms, np.array(columns, np.uint32), np.array(values, np.float32)
    )


def alert(name="HighLatency", state="firing", time_ms=NOW_MS, valid_ms=240_000, **labels):
    return Alert(
        labels=labels_from({"alertname": name, "severity": "medium", **labels}),
        annotations=(),
        state=state,
        time_ms=time_ms,
        active_at_ms=time_ms,
        starts_at_ms=time_ms,
        ends_at_ms=time_ms + valid_ms,
        value=1.0,
        sample_time_ms=time_ms,
        group="critical.yml;platform",
    )


def samples(store, now_ms=NOW_MS):
    return [line for line in store.render(now_ms).text.splitlines() if not line.startswith("#")]


LOAD = {"__name__": "node_load1", "instance": "a:9100", "job": "node"}
UP = {"__name__": "up", "instance": "a:9100", "job": "node"}


def test_a_score_has_the_labels_of_its_series_and_its_name_as_for(store):
    both = dictionary(LOAD, UP)
    store.add_dictionary(both)
    store.add_scores(scores(both, [1], [1.25]))
    assert samples(store) == ['anomaly_score{for="up",instance="a:9100",job="node"} 1.25']


def test_nothing_to_show_is_an_exposition_with_the_heads_alone(store):
    assert samples(store) == []
    assert "# TYPE anomaly_score gauge\n" in store.render(NOW_MS).text


def test_scores_wait_for_their_dictionary_and_are_counted_meanwhile(store):
    load = dictionary(LOAD)
    store.add_scores(scores(load, [0], [2.0]))
    assert samples(store) == []
    assert store.render(NOW_MS).unknown_series == 1
    store.add_dictionary(load)
    assert len(samples(store)) == 1
    assert store.render(NOW_MS).unknown_series == 0


def test_a_column_that_the_dictionary_does_not_have_is_counted(store):
    load = dictionary(LOAD)
    store.add_dictionary(load)
    store.add_scores(scores(load, [0, 7], [2.0, 3.0]))
    assert len(samples(store)) == 1
    assert store.render(NOW_MS).unknown_series == 1


def test_a_newer_frame_replaces_all_scores_of_the_last(store):
    both = dictionary(LOAD, UP)
    store.add_dictionary(both)
    store.add_scores(scores(both, [0, 1], [2.0, 3.0]))
    store.add_scores(scores(both, [0], [0.7], NOW_MS + 1000))
    assert samples(store) == ['anomaly_score{for="node_load1",instance="a:9100",job="node"} 0.7']


def test_an_older_frame_changes_nothing(store):
    load = dictionary(LOAD)
    store.add_dictionary(load)
    store.add_scores(scores(load, [0], [2.0]))
    store.add_scores(scores(load, [0], [3.0], NOW_MS - 1))
    assert samples(store)[0].endswith(" 2")


def test_a_series_in_two_dictionaries_is_shown_once_with_the_newer_score(store):
    old, new = dictionary(LOAD), dictionary(UP, LOAD)
    store.add_dictionary(old)
    store.add_dictionary(new)
    store.add_scores(scores(new, [1], [3.0], NOW_MS + 1000))
    store.add_scores(scores(old, [0], [2.0]))
    assert [line.rpartition(" ")[2] for line in samples(store)] == ["3"]


def test_a_score_lives_as_long_as_the_settings_say(store):
    load = dictionary(LOAD)
    store.add_dictionary(load)
    store.add_scores(scores(load, [0], [2.0]))
    assert samples(store, NOW_MS + LIFETIME_MS)
    assert not samples(store, NOW_MS + LIFETIME_MS + 1)
    assert not samples(store, NOW_MS)


def test_over_the_limit_the_highest_scores_are_shown_and_the_rest_counted():
    store = Store(LIFETIME_MS, max_series=2)
    many = dictionary(*[{"__name__": f"m{i}"} for i in range(5)])
    store.add_dictionary(many)
    store.add_scores(scores(many, range(5), [0.6, 5.0, 0.7, 4.0, 0.5]))
    assert [line.rpartition(" ")[2] for line in samples(store)] == ["5", "4"]
    assert store.render(NOW_MS).over_limit == 3


def test_a_removed_dictionary_is_forgotten(store):
    load, up = dictionary(LOAD), dictionary(UP)
    for known in (load, up):
        store.add_dictionary(known)
        store.add_scores(scores(known, [0], [2.0]))
    store.remove_dictionary(dictionary_key(load.id))
    store.remove_dictionary(b"no key")
    assert [line.partition(",")[0] for line in samples(store)] == ['anomaly_score{for="up"']


def test_a_label_for_of_the_series_itself_is_kept_as_exported_for(store):
    timer = dictionary({"__name__": "wait_seconds", "for": "lock"})
    store.add_dictionary(timer)
    store.add_scores(scores(timer, [0], [1.5]))
    assert samples(store) == ['anomaly_score{for="wait_seconds",exported_for="lock"} 1.5']


def test_alerts_are_counted_by_name_state_and_severity(store):
    for instance in ("a", "b"):
        store.add_alert(alert(instance=instance))
    store.add_alert(alert("ServiceDown", "pending"))
    counts = [line for line in samples(store) if line.startswith("watchkeeper_alerts{")]
    assert counts == [
        'watchkeeper_alerts{alertname="HighLatency",alertstate="firing",severity="medium"} 2',
        'watchkeeper_alerts{alertname="ServiceDown",alertstate="pending",severity="medium"} 1',
    ]


def test_each_active_alert_is_a_series_with_its_labels_and_state(store):
    store.add_alert(alert(instance="a", alertstate="mine"))
    assert samples(store)[0] == (
        'watchkeeper_alert_active{alertname="HighLatency",instance="a",severity="medium",'
        'alertstate="firing"} 1'
    )


def test_the_newest_report_of_an_alert_counts(store):
    store.add_alert(alert(state="firing", time_ms=NOW_MS))
    store.add_alert(alert(state="pending", time_ms=NOW_MS - 1))
    assert 'alertstate="firing"' in samples(store)[0]
    store.add_alert(alert(state="inactive", time_ms=NOW_MS + 1))
    assert samples(store) == []


def test_an_alert_that_is_no_longer_renewed_is_not_believed(store):
    store.add_alert(alert(valid_ms=240_000))
    assert samples(store, NOW_MS + 239_999)
    assert not samples(store, NOW_MS + 240_000)


def test_an_old_report_after_the_end_does_not_revive_an_alert(store):
    store.add_alert(alert(state="inactive", valid_ms=0))
    samples(store, NOW_MS + 1000)
    store.add_alert(alert(state="firing", time_ms=NOW_MS - 5000))
    assert samples(store, NOW_MS + 1000) == []


def test_promtool_finds_nothing_wrong(store, program):
    odd = dictionary({"__name__": "odd.name", "path": 'C:\\a "b"\nc', "k8s.pod": "é"})
    store.add_dictionary(odd)
    store.add_scores(scores(odd, [0], [1234567.0]))
    store.add_alert(alert(instance="a", path='C:\\"'))
    check = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=store.render(NOW_MS).text,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (check.returncode, check.stderr) == (0, "")


def test_fifty_thousand_scores_are_rendered_in_well_under_a_second():
    store = Store(LIFETIME_MS, max_series=50_000)
    for target in range(100):
        many = dictionary(
            *[{"__name__": f"m{i}", "instance": "a:1", "job": "j"} for i in range(500)],
            feed=str(target),
        )
        store.add_dictionary(many)
        store.add_scores(scores(many, range(500), [0.75] * 500))
    store.render(NOW_MS)
    begin = time.process_time()
    store.render(NOW_MS + 1000)
    assert time.process_time() - begin < 0.5
