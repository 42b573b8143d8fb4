"""The labels and annotations of an alert: its series' own under what the rule adds."""

from __future__ import annotations

from collections import Counter

from pipeline.model import Labels, labels_from
from pipeline.promql.plan import Version
from pipeline.rules.rule import AlertingRule
from pipeline.rules.templates import TemplateData, render


class Expander:
    """Renders rules' texts with the settings that all of them share.

    `failures` counts the texts of each rule (by its key) that failed and went out as
    `<error expanding template: …>`.
    """

    def __init__(
        self, external_labels: dict[str, str], external_url: str, prometheus: Version
    ) -> None:
        self.external_labels = labels_from(external_labels)
        self.external_url = external_url
        self._prometheus: Version = prometheus
        self.failures: Counter[str] = Counter()

    def labels(self, rule: AlertingRule, series: Labels, value: float) -> Labels:
        """What identifies the alert: an empty label is removed, `alertname` is the rule's name."""
        merged = dict(series)
        merged.pop("__name__", None)
        merged.update(self._rendered(rule, rule.labels, series, value))
        merged["alertname"] = rule.name
        return labels_from(merged)

    def annotations(self, rule: AlertingRule, series: Labels, value: float) -> Labels:
        return tuple(self._rendered(rule, rule.annotations, series, value).items())

    def _rendered(
        self, rule: AlertingRule, texts: Labels, series: Labels, value: float
    ) -> dict[str, str]:
        if not any("{{" in text for _, text in texts):
            return dict(texts)
        data = TemplateData(series, value, self.external_labels, self.external_url)
        rendered = {}
        for name, text in texts:
            rendered[name], fine = render(text, f"__alert_{rule.name}", data, self._prometheus)
            self.failures[rule.key] += not fine
        return rendered

    def as_sent(self, labels: Labels) -> Labels:
        """With the external labels that the alert doesn't have itself."""
        return labels_from({**dict(self.external_labels), **dict(labels)})
