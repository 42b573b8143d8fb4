"""The subset of a Prometheus configuration that says what to scrape.

Of `global` the scrape interval and timeout count; the other sections of the file are Prometheus'
own and left alone. In `scrape_configs` every key that isn't supported is a problem, so that nothing
is silently not done.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.collect.relabel import Relabel, RelabelConfig
from pipeline.collect.static_targets import (
    TargetSources,
    read_config,
    read_sources,
)
from pipeline.document import ConfigError, Value
from pipeline.http_config import HTTP_FIELDS, HttpConfig, read_http_config

_SECTIONS = (
    "global", "scrape_configs", "rule_files", "alerting", "remote_write", "remote_read",
    "storage", "tracing", "scrape_config_files", "runtime", "otlp",
)  # fmt: skip
_KEYS = (
    "job_name", "scrape_interval", "scrape_timeout", "metrics_path", "scheme", "params",
    "honor_labels", "honor_timestamps", "static_configs", "file_sd_configs", "relabel_configs",
    "metric_relabel_configs", *HTTP_FIELDS,
)  # fmt: skip
_RELABEL_KEYS = tuple(RelabelConfig.__struct_fields__)
DEFAULT_INTERVAL_MS, DEFAULT_TIMEOUT_MS = 60_000, 10_000


class ScrapeJob(msgspec.Struct, frozen=True, eq=False):
    """One entry of `scrape_configs`."""

    name: str
    interval_ms: int
    timeout_ms: int
    sources: TargetSources
    path: str = "/metrics"
    scheme: str = "http"
    params: tuple[tuple[str, tuple[str, ...]], ...] = ()
    honor_labels: bool = False
    honor_timestamps: bool = True
    relabel: tuple[Relabel, ...] = ()
    metric_relabel: tuple[Relabel, ...] = ()
    http: HttpConfig = HttpConfig()


def load_scrape_config(path: Path) -> tuple[ScrapeJob, ...]:
    """The jobs of the file at `path`.

    Raises
    ------
    ConfigError
        With every problem, each as `file:line: path: message`.
    """
    problems: list[str] = []
    root = read_config(path, problems)
    jobs: list[ScrapeJob] = []
    if root is not None:
        sections = root.fields(_SECTIONS)
        interval_ms, timeout_ms = DEFAULT_INTERVAL_MS, DEFAULT_TIMEOUT_MS
        if "global" in sections:
            for name, value in sections["global"].entries():
                if name == "scrape_interval":
                    interval_ms = value.duration_ms() or interval_ms
                elif name == "scrape_timeout":
                    timeout_ms = value.duration_ms() or timeout_ms
        if "scrape_configs" in sections:
            for item in sections["scrape_configs"].items():
                jobs.append(_read_job(item, interval_ms, timeout_ms, path.parent))
                if [job.name for job in jobs].count(jobs[-1].name) > 1:
                    item.problem(f"expected each job_name once, got {jobs[-1].name!r} again")
    if problems:
        raise ConfigError(problems)
    return tuple(jobs)


def _read_job(value: Value, interval_ms: int, timeout_ms: int, folder: Path) -> ScrapeJob:
    fields = value.fields(_KEYS, unknown="not supported here")
    if "job_name" not in fields:
        value.problem("expected a job_name, got none")
    interval_ms = _duration(fields, "scrape_interval", interval_ms)
    given_ms = _duration(fields, "scrape_timeout", 0)
    if given_ms > interval_ms:
        fields["scrape_timeout"].problem(
            f"expected at most the scrape_interval ({interval_ms} ms), got {given_ms} ms"
        )
    path = fields["metrics_path"].text() if "metrics_path" in fields else "/metrics"
    if not path.startswith("/"):
        fields["metrics_path"].problem(f"expected a path, got {path!r}")
    scheme = fields["scheme"].text() if "scheme" in fields else "http"
    if scheme not in ("http", "https"):
        fields["scheme"].problem(f"expected http or https, got {scheme!r}")
    return ScrapeJob(
        name=fields["job_name"].text() if "job_name" in fields else "",
        interval_ms=interval_ms,
        timeout_ms=given_ms or min(timeout_ms, interval_ms),
        sources=read_sources(fields, folder),
        path=path,
        scheme=scheme,
        params=_read_params(fields),
        honor_labels="honor_labels" in fields and fields["honor_labels"].boolean(),
        honor_timestamps="honor_timestamps" not in fields or fields["honor_timestamps"].boolean(),
        relabel=_read_relabel(fields, "relabel_configs"),
        metric_relabel=_read_relabel(fields, "metric_relabel_configs"),
        http=read_http_config(value, fields, folder),
    )


def _duration(fields: dict[str, Value], key: str, default_ms: int) -> int:
    if key not in fields:
        return default_ms
    duration_ms = fields[key].duration_ms()
    if duration_ms == 0:
        fields[key].problem("expected more than 0")
    return duration_ms or default_ms


def _read_params(fields: dict[str, Value]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if "params" not in fields:
        return ()
    return tuple(
        (name, tuple(item.text() for item in values.items()))
        for name, values in fields["params"].entries()
    )


def _read_relabel(fields: dict[str, Value], key: str) -> tuple[Relabel, ...]:
    if key not in fields:
        return ()
    rules = []
    for item in fields[key].items():
        config = item.fields(_RELABEL_KEYS)
        plain: dict[str, object] = {}
        for name, value in config.items():
            if name == "source_labels":
                plain[name] = [label.text() for label in value.items()]
            elif name == "modulus":
                plain[name] = value.count()
            elif name == "action":
                plain[name] = value.text().lower()
            else:
                plain[name] = value.text()
        try:
            rules.append(Relabel(msgspec.convert(plain, RelabelConfig)))
        except (msgspec.ValidationError, ValueError) as error:
            item.problem(str(error))
    return tuple(rules)
