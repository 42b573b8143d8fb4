from __future__ import annotations

import msgspec
import pytest

from pipeline.alerts.incident import Incident, Report, merge, report_of
from pipeline.model import Alert, AlertState, fingerprint
from tests.alerts.conftest import ReportMaker

T = 1_000_000
LATER = T + 10_000


def merged(held: Incident | None, report: Report, now_ms: int | None = None) -> Incident:
    return merge(held, report, report.time_ms if now_ms is None else now_ms)


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


class TestSupport:
    """The word of a source that agrees with the one that decides."""

    def test_it_lengthens_the_validity_and_changes_nothing_else(self, report: ReportMaker) -> None:
        held = merge(None, report(T, source="worker", sample_time_ms=T - 3), T)
        agreeing = msgspec.structs.replace(report(LATER, source="backstop"), supports=True)
        both = merge(held, agreeing, LATER)
        assert both == msgspec.structs.replace(held, ends_at_ms=LATER + 240_000)

    def test_it_never_shortens(self, report: ReportMaker) -> None:
        held = merge(None, report(T, source="worker"), T)
        agreeing = report(LATER, source="backstop", ends_in_ms=1000)
        both = merge(held, msgspec.structs.replace(agreeing, supports=True), LATER)
        assert both == held

    def test_the_end_that_the_decider_says_counts_at_once(self, report: ReportMaker) -> None:
        held = merge(None, report(T, source="worker"), T)
        agreeing = msgspec.structs.replace(report(T + 1, source="backstop"), supports=True)
        both = merge(held, agreeing, T + 1)
        ended = report(LATER, source="worker", ends_in_ms=0, starts_at_ms=T)
        assert merge(both, ended, LATER).resolved(LATER)


def test_end_by_silence_is_told_from_an_end_that_was_said(report: ReportMaker) -> None:
    held = merge(None, report(T, ends_in_ms=1000), T)
    assert held.ended_by_silence
    said = merge(held, report(T + 500, ends_in_ms=0, starts_at_ms=T), T + 500)
    assert not said.ended_by_silence


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
    assert made.says_end
