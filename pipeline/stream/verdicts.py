"""Rules over one body of series: evaluation, alert state, reports; on arrival and on the grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from pipeline.detect.protocol import FlagArray, ScoreArray
from pipeline.model import Alert, FrameBatch, SeriesDictionary
from pipeline.promql.cut import EvaluatorCut
from pipeline.promql.evaluate import ERRORS, Evaluator, Outcome
from pipeline.promql.history import histories
from pipeline.promql.plan import Plan
from pipeline.promql.windows import LATE_MS
from pipeline.rules.alert import ActiveAlert, AlertsCut, Transition
from pipeline.rules.alerting import report_active, report_transition
from pipeline.rules.grid import Grid
from pipeline.rules.rendering import Expander
from pipeline.rules.rule import AlertingRule, RuleGroup
from pipeline.rules.table import AlertTable
from pipeline.settings import Settings

TOLD = frozenset({"firing", "resolved"})
"""The transitions that are sent. A condition that noise makes true and false again can be pending
at every other frame; nobody is told of that, and `active` has it."""


LATENESS_MS = 10 * 60_000
"""How far behind the watermark a frame may at least be."""


class VerdictsCut(msgspec.Struct, frozen=True, eq=False):
    """A copy of everything that verdicts rest on."""

    evaluator: EvaluatorCut
    alerts: AlertsCut


class RuleSet(msgspec.Struct, frozen=True):
    """The alerting rules that are evaluated over the same series, and when."""

    rules: tuple[AlertingRule, ...]
    grids: tuple[tuple[Grid, tuple[int, ...]], ...]
    """Each group's instants, and the indexes of its rules."""

    @property
    def look_back_ms(self) -> int:
        """After this time without samples a series makes no difference to any rule any more."""
        return LATE_MS + max(
            (
                self.rules[i].plan.history_ms + self.rules[i].keep_firing_for_ms + grid.interval_ms
                for grid, indexes in self.grids
                for i in indexes
            ),
            default=0,
        )

    @property
    def plans(self) -> tuple[Plan, ...]:
        return tuple(rule.plan for rule in self.rules)


def select_rules(groups: Sequence[RuleGroup], scope: str, settings: Settings) -> RuleSet:
    """The alerting rules of `groups` with the given scope, `local` or `global`."""
    rules: list[AlertingRule] = []
    grids: list[tuple[Grid, tuple[int, ...]]] = []
    interval_ms = int(settings.rules.evaluation_interval * 1000)
    for group in groups:
        chosen = [
            rule for rule in group.rules if isinstance(rule, AlertingRule) and rule.scope == scope
        ]
        if chosen:
            indexes = tuple(range(len(rules), len(rules) + len(chosen)))
            grids.append((Grid(group, interval_ms, settings.rules.prometheus), indexes))
            rules += chosen
    return RuleSet(tuple(rules), tuple(grids))


class Verdicts:
    """Evaluator, alert table and reporter of one rule set over one body of series."""

    def __init__(self, rules: RuleSet, settings: Settings) -> None:
        self._rules = rules
        self._on_arrival = settings.rules.evaluate == "arrival"
        self._valid_for_ms = int(settings.worker.firing_valid_for * 1000)
        self._expander = Expander(
            dict(settings.rules.external_labels),
            settings.rules.external_url,
            settings.rules.prometheus,
        )
        self._table = AlertTable(rules.rules, self._expander)
        self.evaluator = Evaluator(rules.plans, self._table, settings.rules.prometheus)
        self._errors: Counter[str] = Counter()
        look_back_ms = rules.look_back_ms
        self.forget_after_ms = max(
            int(settings.worker.forget_after * 1000), look_back_ms + LATENESS_MS
        )
        """State of a series that is not seen for this long is dropped."""
        self.late_after_ms = self.forget_after_ms - look_back_ms
        """A frame this far behind may meet series that have been dropped."""

    def add_dictionary(self, dictionary: SeriesDictionary, instance: str) -> None:
        self.evaluator.add_dictionary(dictionary, instance)

    def drop_dictionary(self, dictionary_id: int) -> None:
        """Forget a dictionary with the series that only it has."""
        self.evaluator.drop_dictionary(dictionary_id)

    def cut(self) -> VerdictsCut:
        """A copy of everything as it is now; the next one takes its memory."""
        return VerdictsCut(self.evaluator.cut(), self._table.cut())

    def content(self) -> Iterator[bytes]:
        """Everything that later steps depend on, whatever its numbering; for comparing."""
        yield from self.evaluator.content()
        yield from self._table.content()

    def restore(self, cut: VerdictsCut, dictionaries: Sequence[SeriesDictionary]) -> None:
        """Go on where others were at `cut`; `dictionaries` are those known there and here.

        If the rules are not the same, windows go on for the series that both rule sets select, and
        alerts for the rules that both have.
        """
        if cut.alerts.rules == self._table.identities:
            self._table.restore(cut.alerts, *self.evaluator.restore(cut.evaluator))
            return
        self._table.restore(cut.alerts)
        for history in histories(cut.evaluator, dictionaries):
            self.evaluator.load_target(history)

    def take_errors(self) -> list[tuple[str, int]]:
        """Evaluations that failed since the last call: rule and reason, how often."""
        errors: list[tuple[str, int]] = []
        for counted in (self._errors, self._table.failures, self._expander.failures):
            errors += [(what, times) for what, times in counted.items() if times]
            counted.clear()
        return errors

    def frames(self, batch: FrameBatch, keep: FlagArray, scores: ScoreArray | None) -> list[Alert]:
        """Take in frames; evaluate what they touch at each one's time."""
        if not self._on_arrival:
            self.evaluator.ingest(batch, keep, scores)
            return []
        outcome = self.evaluator.ingest_and_evaluate(batch, keep, scores)
        return self._reports(outcome, on_grid=False)

    def ingest(self, batch: FrameBatch, keep: FlagArray) -> None:
        """Take in frames without evaluating anything."""
        self.evaluator.ingest(batch, keep)

    def at(self, time_ms: int) -> list[Alert]:
        """Evaluate every rule at an instant between grid points; nothing in grid-only mode."""
        if not self._on_arrival:
            return []
        return self._reports(self.evaluator.evaluate_at(time_ms), on_grid=False)

    def advance(self, after_ms: int, until_ms: int) -> list[Alert]:
        """Evaluate the grid instants in (after, until], and forget what has ended."""
        alerts: list[Alert] = []
        instants = [
            (int(instant), rules)
            for grid, rules in self._rules.grids
            for instant in grid.instants(after_ms, until_ms)
        ]
        for instant, rules in sorted(instants):
            outcome = self.evaluator.evaluate_at(instant, rules)
            alerts += self._reports(outcome, on_grid=True)
        alerts += self._send(self._table.expire(until_ms))
        return alerts

    def active(self, time_ms: int) -> list[Alert]:
        """Every pending and firing alert as of now, for those who ask."""
        return [self._report(alert, time_ms) for alert in self._table.active()]

    def firing(self, time_ms: int) -> list[Alert]:
        """Every firing alert, as a report of now that is sent."""
        return [self._report(alert, time_ms) for alert in self._table.report(time_ms)]

    def counts(self) -> Counter[str]:
        """How many alerts are pending and firing."""
        return self._table.counts()

    def _report(self, alert: ActiveAlert, time_ms: int) -> Alert:
        return report_active(alert, self._expander, time_ms, self._valid_for_ms)

    def _reports(self, outcome: Outcome, *, on_grid: bool) -> list[Alert]:
        for span in np.flatnonzero(outcome.errors):
            rule = self._rules.rules[outcome.plans[span]]
            self._errors[f"{rule.key}: {ERRORS[outcome.errors[span]]}"] += 1
        return self._send(self._table.advance(outcome, self.evaluator.instances, on_grid))

    def _send(self, transitions: list[Transition]) -> list[Alert]:
        return [
            report_transition(transition, self._expander, self._valid_for_ms)
            for transition in transitions
            if transition.kind in TOLD
        ]
