from __future__ import annotations

import msgspec
import pytest

from pipeline.alerts.incident import ECHO_MS, Ignored, Incident, Report, merge, report_of
from pipeline.model import Alert, AlertState, fingerprint
from tests.alerts.conftest import ReportMaker

T = 1_000_000
LATER = T + 10_000


def merged(held: Incident | None, report: Report, now_ms: int | None = None) -> Incident:
    result = merge(held, report, report.time_ms if now_ms is None else now_ms)
    assert isinstance(result, Incident)
    return result


def test_first_report_opens_an_episode_at_its_start(report: ReportMaker) -> None:
    incident = merged(None, report(T, starts_at_ms=T - 500))
    assert (incident.starts_at_ms, incident.episode_ms) == (T - 500, T - 500)
    assert not incident.resolved(T)
    assert incident.resolved(incident.ends_at_ms)
    assert not incident.resolved(incident.ends_at_ms - 1)


def test_repeated_reports_keep_the_episode_and_extend_the_end(report: ReportMaker) -> None:
    first = merged(None, report(T))
    second = merged(first, report(LATER, starts_at_ms=T))
    assert (second.starts_at_ms, second.episode_ms) == (T, T)
    assert second.ends_at_ms == LATER + 240_000
    assert second.updated_at_ms == LATER


def test_end_closes_the_episode(report: ReportMaker) -> None:
    ended = merged(merged(None, report(T)), report(LATER, ends_in_ms=0, starts_at_ms=T))
    assert ended.resolved(LATER)
    assert (ended.starts_at_ms, ended.ends_at_ms, ended.episode_ms) == (T, LATER, T)


def test_firing_after_the_end_opens_another_episode(report: ReportMaker) -> None:
    ended = merged(merged(None, report(T)), report(LATER, ends_in_ms=0, starts_at_ms=T))
    again = merged(ended, report(LATER + 5000))
    assert (again.starts_at_ms, again.episode_ms) == (LATER + 5000, LATER + 5000)


def test_same_start_after_a_time_out_is_another_episode(report: ReportMaker) -> None:
    held = merged(None, report(T, ends_in_ms=1000))
    again = merged(held, report(LATER, starts_at_ms=T))
    assert (again.starts_at_ms, again.episode_ms) == (T, LATER)


def test_episode_of_a_clock_set_back_is_still_new(report: ReportMaker) -> None:
    held = merged(None, report(T, ends_in_ms=0))
    again = merged(held, report(T - 5000, ends_in_ms=60_000), now_ms=T)
    assert again.episode_ms == T + 1


class TestAlertmanagersRules:
    """alertmanager 0.25, types/types_test.go: TestAlertMerge has cases of these kinds."""

    def test_overlap_takes_the_earliest_start(self, report: ReportMaker) -> None:
        held = merged(None, report(T, starts_at_ms=T - 5000))
        assert merged(held, report(LATER, starts_at_ms=T)).starts_at_ms == T - 5000

    def test_explicit_end_that_is_later_stays(self, report: ReportMaker) -> None:
        held = merged(None, report(T, ends_in_ms=600_000))
        newer = report(LATER, ends_in_ms=60_000, starts_at_ms=T)
        assert merged(held, newer).ends_at_ms == T + 600_000

    def test_guessed_end_gives_way(self, report: ReportMaker) -> None:
        held = merged(None, report(T, ends_in_ms=600_000, timed_out=True))
        newer = report(LATER, ends_in_ms=60_000, starts_at_ms=T)
        assert merged(held, newer).ends_at_ms == LATER + 60_000

    def test_of_two_ends_the_later_counts(self, report: ReportMaker) -> None:
        held = merged(None, report(T, ends_in_ms=0, starts_at_ms=T - 9000))
        newer = report(LATER, ends_in_ms=T - 2000 - LATER, starts_at_ms=T - 8000)
        assert merged(held, newer).ends_at_ms == T

    def test_without_overlap_the_newer_replaces(self, report: ReportMaker) -> None:
        held = merged(None, report(T, ends_in_ms=0, starts_at_ms=T - 9000))
        newer = merged(held, report(LATER, ends_in_ms=0, starts_at_ms=T))
        assert (newer.starts_at_ms, newer.ends_at_ms) == (T, LATER)

    def test_end_of_something_unknown_is_kept(self, report: ReportMaker) -> None:
        assert merged(None, report(T, ends_in_ms=0)).resolved(T)


class TestWorker:
    @pytest.mark.parametrize(("delta_ms", "expected"), [(0, "old"), (-1, "old")])
    def test_report_that_is_not_newer_is_ignored(
        self, report: ReportMaker, delta_ms: int, expected: Ignored
    ) -> None:
        held = merged(None, report(T, source="worker"))
        assert merge(held, report(T + delta_ms, source="worker"), LATER) == expected

    def test_one_millisecond_newer_counts(self, report: ReportMaker) -> None:
        held = merged(None, report(T, source="worker"))
        assert merged(held, report(T + 1, source="worker"), LATER).updated_at_ms == T + 1

    def test_posts_of_the_same_moment_both_count(self, report: ReportMaker) -> None:
        held = merged(None, report(T, starts_at_ms=T - 1))
        assert merged(held, report(T, ends_in_ms=0, starts_at_ms=T - 1)).resolved(T)

    def test_end_of_something_unknown_is_ignored(self, report: ReportMaker) -> None:
        assert merge(None, report(T, ends_in_ms=0, source="worker"), T) == "unknown"


class TestBackstop:
    def test_backstop_alone_opens_an_episode(self, report: ReportMaker) -> None:
        assert not merged(None, report(T, source="backstop")).resolved(T)

    def test_both_sources_make_one_episode(self, report: ReportMaker) -> None:
        held = merged(None, report(T, source="worker", sample_time_ms=T - 3))
        both = merged(held, report(LATER, source="backstop", starts_at_ms=LATER))
        assert (both.starts_at_ms, both.episode_ms, both.sample_time_ms) == (T, T, T - 3)
        assert both.ends_at_ms == LATER + 240_000
        assert set(both.claims) == {"worker", "backstop"}

    def test_worker_joins_the_episode_that_the_backstop_opened(self, report: ReportMaker) -> None:
        held = merged(None, report(T, source="backstop"))
        both = merged(held, report(LATER, source="worker", starts_at_ms=T - 7))
        assert both.episode_ms == T

    def test_backstops_end_changes_nothing_while_the_worker_reports(
        self, report: ReportMaker
    ) -> None:
        held = merged(None, report(T, source="worker"))
        both = merged(held, report(LATER, source="backstop", ends_in_ms=0))
        assert both.ends_at_ms == held.ends_at_ms

    def test_workers_end_counts_at_once(self, report: ReportMaker) -> None:
        held = merged(None, report(T, source="worker"))
        both = merged(held, report(T + 1, source="backstop"))
        ended = report(LATER, source="worker", ends_in_ms=0, starts_at_ms=T)
        assert merged(both, ended).resolved(LATER)

    @pytest.mark.parametrize(("after_ms", "echo"), [(ECHO_MS - 1, True), (ECHO_MS, False)])
    def test_backstop_that_lags_is_an_echo(
        self, report: ReportMaker, after_ms: int, echo: bool
    ) -> None:
        held = merged(None, report(T, source="worker"))
        ended = report(LATER, source="worker", ends_in_ms=0, starts_at_ms=T)
        held = merged(held, ended)
        lagging = report(LATER + after_ms, source="backstop", starts_at_ms=T)
        assert (merge(held, lagging, LATER + after_ms) == "echo") is echo

    def test_backstops_end_is_no_echo(self, report: ReportMaker) -> None:
        held = merged(None, report(T, source="worker"))
        held = merged(held, report(LATER, source="worker", ends_in_ms=0, starts_at_ms=T))
        late_end = report(LATER + 5, source="backstop", ends_in_ms=0, starts_at_ms=T)
        assert merged(held, late_end).resolved(LATER + 5)

    def test_backstop_counts_when_the_worker_fell_silent(self, report: ReportMaker) -> None:
        held = merged(None, report(T, source="worker", ends_in_ms=1000))
        assert not merged(held, report(T + 2000, source="backstop", starts_at_ms=T)).resolved(
            T + 2000
        )


ALERT = Alert(
    labels=(("alertname", "Down"),),
    annotations=(("summary", "s"),),
    state="firing",
    time_ms=T,
    active_at_ms=T - 60_000,
    starts_at_ms=T - 10,
    ends_at_ms=T + 240_000,
    value=0.0,
    sample_time_ms=T - 1,
    group="f;g",
    generator_url="http://p/g",
)


def test_record_of_the_alerts_topic_becomes_a_report() -> None:
    number = fingerprint(ALERT.labels)
    made = report_of(ALERT, number)
    assert made == Report(
        fingerprint=number,
        labels=ALERT.labels,
        annotations=ALERT.annotations,
        starts_at_ms=T - 10,
        ends_at_ms=T + 240_000,
        time_ms=T,
        source="worker",
        generator_url="http://p/g",
        sample_time_ms=T - 1,
    )


@pytest.mark.parametrize(("state", "ends"), [("inactive", T - 5), ("pending", T)])
def test_pending_and_inactive_end_what_fired(state: AlertState, ends: int) -> None:
    alert = msgspec.structs.replace(
        ALERT, state=state, ends_at_ms=T - 5 if state == "inactive" else T + 240_000
    )
    made = report_of(alert, 1)
    assert made.ends_at_ms == ends
    assert merge(None, made, T) == "unknown"
