"""Rulings on single reports; how they go together over time is in test_backstop.py."""

from __future__ import annotations

import msgspec
import pytest

from pipeline.alerts.incident import Report
from pipeline.alerts.marks import Marks
from pipeline.alerts.referee import SOURCE_ANNOTATION, Case, Jurisdiction, Referee, Ruling
from pipeline.model import fingerprint, labels_from, partition_of
from tests.alerts.conftest import ReportMaker

T = 10_000_000
PATIENCE_MS = 30_000
VALID_MS = 240_000


class Court:
    """A referee with the state of the alert that it rules on; two partitions."""

    def __init__(self) -> None:
        self.marks = Marks(2, 60_000, 0)
        self.referee = Referee(self.marks, Jurisdiction({"Slow": 60_000}, PATIENCE_MS // 2))
        self.firing = False

    def worker_is_there(self, now_ms: int) -> None:
        for partition in (0, 1):
            self.marks.hear(partition, now_ms, now_ms)

    def hear(self, report: Report, now_ms: int | None = None) -> Ruling:
        now_ms = report.time_ms if now_ms is None else now_ms
        ruling = self.referee.hear(report, now_ms, firing=self.firing)
        if ruling.report is not None:
            self.firing = ruling.report.ends_at_ms > now_ms
        return ruling


@pytest.fixture
def court() -> Court:
    """With a worker that is there at T."""
    it = Court()
    it.worker_is_there(T)
    return it


@pytest.fixture
def alone() -> Court:
    """Where no worker was ever heard."""
    return Court()


def test_reports_of_others_pass_as_they_are(court: Court, report: ReportMaker) -> None:
    sent = report(T)
    assert court.hear(sent) == Ruling("api", sent)
    assert court.referee.cases == {}


class TestWorker:
    def test_new_word_passes_as_it_is(self, court: Court, report: ReportMaker) -> None:
        sent = report(T, source="worker")
        assert court.hear(sent) == Ruling("worker", sent)
        ended = report(T + 1, source="worker", ends_in_ms=0)
        assert court.hear(ended) == Ruling("worker", ended)

    @pytest.mark.parametrize("earlier_ms", [0, 1, 86_400_000])
    def test_word_that_is_not_newer_is_old(
        self, court: Court, report: ReportMaker, earlier_ms: int
    ) -> None:
        court.hear(report(T, source="worker"))
        old = report(T - earlier_ms, source="worker", ends_in_ms=0)
        assert court.hear(old, T + 5) == Ruling("old")
        assert court.hear(report(T + 1, source="worker")).reason == "worker"

    def test_end_of_what_does_not_fire_is_unknown(self, court: Court, report: ReportMaker) -> None:
        assert court.hear(report(T, source="worker", ends_in_ms=0)) == Ruling("unknown")

    def test_start_that_is_no_longer_valid_raises_nothing(
        self, court: Court, report: ReportMaker
    ) -> None:
        hour_ago = report(T - 3_600_000, source="worker")
        assert court.hear(hour_ago, T) == Ruling("late")
        just_valid = report(T - VALID_MS + 1, source="worker")
        assert court.hear(just_valid, T).reason == "worker"

    def test_lagging_word_on_what_fires_keeps_it_firing(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T, source="worker"))
        now_ms = T + 3_600_000
        lagging = report(T + 30_000, source="worker")
        expected = msgspec.structs.replace(lagging, ends_at_ms=now_ms + VALID_MS)
        assert court.hear(lagging, now_ms) == Ruling("worker", expected)

    def test_lagging_end_counts_if_nobody_knows_better(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T, source="worker"))
        ended = report(T + 1, source="worker", ends_in_ms=0)
        assert court.hear(ended, T + 600_000).reason == "worker"

    def test_end_of_before_does_not_end_what_the_backstop_sees_now(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T, source="worker"))
        now_ms = T + 100_000
        court.hear(report(now_ms, source="backstop"))
        ended = report(T + 50_000, source="worker", ends_in_ms=0)
        assert court.hear(ended, now_ms + 1) == Ruling("overruled")

    def test_end_of_now_ends_what_the_backstop_still_sees(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T, source="backstop"))
        court.hear(report(T + 10, source="worker"))
        court.hear(report(T + 20, source="backstop"))
        ended = report(T + 30, source="worker", ends_in_ms=0)
        assert court.hear(ended).reason == "worker"

    def test_start_before_an_end_that_the_backstop_saw_is_overruled(
        self, alone: Court, report: ReportMaker
    ) -> None:
        alone.hear(report(T, source="backstop"))
        alone.hear(report(T + 50_000, source="backstop", ends_in_ms=0))
        before = report(T + 50_000, source="worker")
        assert alone.hear(before, T + 51_000) == Ruling("overruled")
        after = report(T + 50_001, source="worker")
        assert alone.hear(after, T + 51_000).reason == "worker"

    def test_start_counts_while_the_backstop_sees_it_too(
        self, alone: Court, report: ReportMaker
    ) -> None:
        alone.hear(report(T, source="backstop"))
        earlier = report(T - 50_000, source="worker")
        assert alone.hear(earlier, T + 5).reason == "worker"

    def test_end_of_before_is_overruled_though_the_worker_is_there_again(
        self, court: Court, report: ReportMaker
    ) -> None:
        """It catches up: its newest mark is fresh, its word is of before."""
        court.hear(report(T - 50_000, source="worker"))
        court.hear(report(T - 10_000, source="backstop"))
        before = report(T - 10_001, source="worker", ends_in_ms=0)
        assert court.hear(before, T) == Ruling("overruled")

    def test_lagging_start_near_the_backstops_end_is_overruled(
        self, alone: Court, report: ReportMaker
    ) -> None:
        """The two see an end at instants of their own."""
        alone.hear(report(T, source="backstop"))
        alone.hear(report(T + 1000, source="backstop", ends_in_ms=0))
        near = report(T + 1000 + PATIENCE_MS, source="worker")
        assert alone.hear(near, near.time_ms + PATIENCE_MS + 1) == Ruling("overruled")
        beyond = report(near.time_ms + 1, source="worker")
        assert alone.hear(beyond, beyond.time_ms + PATIENCE_MS + 1).reason == "worker"


class TestBackstopBesideTheWorker:
    def test_same_word_is_an_agreement(self, court: Court, report: ReportMaker) -> None:
        court.hear(report(T, source="worker"))
        same = report(T + 5, source="backstop")
        expected = msgspec.structs.replace(same, supports=True)
        assert court.hear(same) == Ruling("agreement", expected)

    def test_its_end_is_overruled(self, court: Court, report: ReportMaker) -> None:
        court.hear(report(T, source="worker"))
        assert court.hear(report(T + 5, source="backstop", ends_in_ms=0)) == Ruling("overruled")

    def test_its_end_of_what_does_not_fire_is_unknown(
        self, court: Court, report: ReportMaker
    ) -> None:
        assert court.hear(report(T, source="backstop", ends_in_ms=0)) == Ruling("unknown")

    def test_it_echoes_for_two_intervals_and_disagrees_then(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T - 60_000, source="worker"))
        court.hear(report(T - 59_000, source="backstop"))
        court.hear(report(T, source="worker", ends_in_ms=0))
        last = report(T + PATIENCE_MS - 1, source="backstop")
        assert court.hear(last) == Ruling("echo")
        beyond = court.hear(report(T + PATIENCE_MS, source="backstop"))
        assert beyond.reason == "disagreement"

    def test_unknown_alert_is_doubted_for_two_intervals(
        self, court: Court, report: ReportMaker
    ) -> None:
        referee = court.referee
        assert referee.next_due_ms() is None
        assert court.hear(report(T, source="backstop")) == Ruling("doubted")
        assert referee.next_due_ms() == T + PATIENCE_MS
        court.worker_is_there(T + PATIENCE_MS - 1)
        assert referee.settle(T + PATIENCE_MS - 1) == []
        (ruling,) = referee.settle(T + PATIENCE_MS)
        assert ruling.reason == "disagreement"
        assert ruling.report is not None
        assert ruling.report.annotations == (("summary", "Down"), (SOURCE_ANNOTATION, "backstop"))
        assert ruling.report.labels == report(T).labels
        assert referee.next_due_ms() is None
        assert referee.settle(T + 10 * PATIENCE_MS) == []

    def test_repetition_goes_on_with_the_same_doubt(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T, source="backstop"))
        assert court.hear(report(T + PATIENCE_MS - 1, source="backstop")) == Ruling("doubted")
        assert court.referee.next_due_ms() == T + PATIENCE_MS
        late = court.hear(report(T + PATIENCE_MS, source="backstop"))
        assert late.reason == "disagreement"

    def test_intervals_are_those_of_the_alerts_group(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T, name="Slow", source="backstop"))
        court.worker_is_there(T + 50_000)
        court.worker_is_there(T + 100_000)
        assert court.referee.next_due_ms() == T + 120_000

    @pytest.mark.parametrize("ends_in_ms", [0, VALID_MS])
    def test_doubt_ends_with_the_workers_word(
        self, court: Court, report: ReportMaker, ends_in_ms: int
    ) -> None:
        court.hear(report(T, source="backstop"))
        court.hear(report(T + 1, source="worker", ends_in_ms=ends_in_ms))
        assert court.referee.next_due_ms() is None
        assert court.referee.settle(T + PATIENCE_MS) == []

    def test_doubt_ends_with_the_backstops_end(self, court: Court, report: ReportMaker) -> None:
        court.hear(report(T, source="backstop"))
        assert court.hear(report(T + 1, source="backstop", ends_in_ms=0)) == Ruling("unknown")
        assert court.referee.settle(T + PATIENCE_MS) == []

    def test_doubted_word_that_runs_out_raises_nothing(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T, source="backstop", ends_in_ms=10_000))
        assert court.referee.settle(T + 9999) == []
        assert court.referee.settle(T + 10_000) == []
        assert court.referee.next_due_ms() is None

    def test_doubt_begins_anew_after_a_sleep(self, court: Court, report: ReportMaker) -> None:
        """The worker's word may lie unread."""
        court.hear(report(T, source="backstop"))
        court.marks.wake(T + 20_000)
        assert court.referee.next_due_ms() == T + 20_000 + PATIENCE_MS

    def test_disagreement_is_one_until_it_ends(self, court: Court, report: ReportMaker) -> None:
        court.hear(report(T, source="backstop"))
        court.worker_is_there(T + PATIENCE_MS)
        reasons = [ruling.reason for ruling in court.referee.settle(T + PATIENCE_MS)]
        court.firing = True
        reasons.append(court.hear(report(T + 60_000, source="backstop")).reason)
        reasons.append(court.hear(report(T + 80_000, source="backstop", ends_in_ms=0)).reason)
        assert reasons == ["disagreement", "backstop", "backstop"]
        assert not court.firing

    def test_new_episode_of_the_backstop_is_doubted_though_the_worker_closed_one_before(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T - 50_000, source="worker"))
        court.hear(report(T - 49_000, source="backstop"))
        court.hear(report(T - 40_000, source="worker", ends_in_ms=0))
        court.hear(report(T - 39_000, source="backstop", ends_in_ms=0))
        assert court.hear(report(T, source="backstop")) == Ruling("doubted")


class TestBackstopAlone:
    def test_it_decides(self, alone: Court, report: ReportMaker) -> None:
        fires = alone.hear(report(T, source="backstop"))
        assert fires.reason == "backstop"
        assert fires.report is not None
        assert (SOURCE_ANNOTATION, "backstop") in fires.report.annotations
        ended = report(T + 5, source="backstop", ends_in_ms=0)
        assert alone.hear(ended) == Ruling("backstop", ended)

    def test_doubt_ends_when_the_worker_is_gone(self, court: Court, report: ReportMaker) -> None:
        court.hear(report(T + 50_000, source="backstop"))
        assert court.referee.next_due_ms() == T + 60_000
        (ruling,) = court.referee.settle(T + 60_000)
        assert ruling.reason == "backstop"

    def test_it_ends_what_the_worker_opened(self, court: Court, report: ReportMaker) -> None:
        court.hear(report(T, source="worker"))
        ended = report(T + 60_000, source="backstop", ends_in_ms=0)
        assert court.hear(ended) == Ruling("backstop", ended)

    def test_its_end_from_before_the_workers_last_word_is_overruled(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T, source="worker"))
        repeated = report(T + 60_000, source="backstop", ends_in_ms=-60_000)
        assert court.hear(repeated) == Ruling("overruled")
        newer = report(T + 60_001, source="backstop", ends_in_ms=-60_000)
        assert court.hear(newer).reason == "backstop"

    def test_workers_end_does_not_count_against_it(self, alone: Court, report: ReportMaker) -> None:
        alone.hear(report(T, source="worker"))
        alone.hear(report(T, source="backstop"))
        ended = report(T + 1, source="worker", ends_in_ms=0)
        assert alone.hear(ended) == Ruling("overruled")

    def test_disagreement_is_counted_only_some_time_after_the_worker_is_back(
        self, alone: Court, report: ReportMaker
    ) -> None:
        alone.hear(report(T, source="backstop"))
        alone.worker_is_there(T + 60_000)
        before = report(T + 60_000 + PATIENCE_MS - 1, source="backstop")
        assert alone.hear(before).reason == "backstop"
        after = report(T + 60_000 + PATIENCE_MS, source="backstop")
        assert alone.hear(after).reason == "disagreement"


def test_alert_of_an_instance_needs_its_partition_and_others_need_all(
    alone: Court, report: ReportMaker
) -> None:
    name = next(name for name in "abcdef" if partition_of(name, 2) == 1)
    alone.marks.hear(1, T, T)
    assert alone.hear(report(T, source="backstop", instance=name)).reason == "doubted"
    assert alone.hear(report(T, source="backstop")).reason == "backstop"


def test_alert_without_a_name_has_the_default_interval() -> None:
    assert Jurisdiction({}, 7).patience_ms(()) == 14


class TestKeeping:
    def test_changes_and_restore(self, court: Court, report: ReportMaker) -> None:
        court.hear(report(T, source="backstop"))
        number = fingerprint(labels_from({"alertname": "Down"}))
        changes = court.referee.take_changes()
        assert changes == court.referee.cases
        assert court.referee.take_changes() == {}
        other = Court()
        other.worker_is_there(T)
        other.referee.restore(court.referee.cases)
        assert other.referee.next_due_ms() == T + PATIENCE_MS
        (ruling,) = other.referee.settle(T + PATIENCE_MS)
        assert ruling.reason in ("disagreement", "backstop")
        after = other.referee.take_changes()[number]
        assert after is not None
        assert after.doubted is None

    def test_report_that_changes_nothing_is_not_stored(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T, source="worker"))
        court.referee.take_changes()
        court.hear(report(T, source="worker"))
        assert court.referee.take_changes() == {}

    def test_cases_are_forgotten_when_nobody_claims_anything(
        self, court: Court, report: ReportMaker
    ) -> None:
        court.hear(report(T, source="worker"))
        court.hear(report(T, source="backstop", ends_in_ms=1000))
        court.referee.take_changes()
        court.referee.forget(T + VALID_MS)
        assert len(court.referee.cases) == 1
        court.referee.forget(T + VALID_MS + 1)
        assert court.referee.cases == {}
        assert list(court.referee.take_changes().values()) == [None]

    def test_forgotten_doubt_is_settled_nevermore(self, court: Court, report: ReportMaker) -> None:
        court.hear(report(T, source="backstop"))
        court.referee.forget(T + VALID_MS + 1)
        assert court.referee.next_due_ms() is None

    def test_cases_survive_the_store(self, court: Court, report: ReportMaker) -> None:
        court.hear(report(T, source="backstop"))
        court.hear(report(T, name="Other", source="worker"))
        for case in court.referee.cases.values():
            assert msgspec.json.decode(msgspec.json.encode(case), type=Case) == case
