"""Prometheus as the backstop: its configuration, made from the same targets and the same rules.

It scrapes what the collector scrapes, and from the collector what that takes from elsewhere
(`/metrics/fleet`); it evaluates the same rule files, and posts its alerts to the dispatcher under
`/backstop`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.api.client import own_http, own_scheme
from pipeline.http_config import SECRET_FIELDS
from pipeline.local.problems import StartError
from pipeline.rules.files import rule_files
from pipeline.settings import Settings, WebSettings

BACKSTOP_PREFIX = "/backstop"
JOB = "watchkeeper"
"""Under which Watchkeeper's own processes are scraped; `alert_rules/watchkeeper.yml` selects it."""
_FLEET_INTERVAL, _OWN_INTERVAL = "5s", "5s"
_RETENTION = "24h"
_VERSION_TIMEOUT = 10.0

WITHOUT = (
    "prometheus is not installed: no backstop evaluates the rules beside the worker "
    "(Debian: apt install prometheus)"
)
AT_ANOTHER_SPEED = (
    "prometheus is left out: it runs on the wall clock, so at --speed other than 1 it would "
    "evaluate other times than the worker"
)

Yaml = dict[str, Any]
"""What a YAML mapping holds is known only to who wrote it."""


def find_prometheus() -> str | None:
    """The path of the `prometheus` program."""
    return shutil.which("prometheus")


def write_config(settings: Settings, root: Path) -> Path:
    """Write the configuration into the data folder; relative globs of rules start at `root`."""
    scraped: Yaml = {}
    source = Path(settings.collect.scrape_config)
    if settings.collect.scrape_config:
        scraped = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    rules = rule_files(settings.rules.files, root.resolve())
    config = prometheus_config(settings, scraped, source.parent, rules)
    path = Path(settings.data) / "prometheus.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def prometheus_config(
    settings: Settings, scraped: Yaml, folder: Path, rules: Sequence[str]
) -> Yaml:
    """The configuration as data.

    `scraped` is the collector's scrape configuration, whose relative files start at `folder`.
    """
    fleet = {
        "job_name": "watchkeeper-fleet",
        "honor_labels": True,
        "scrape_interval": _FLEET_INTERVAL,
        "metrics_path": "/metrics/fleet",
        "static_configs": [{"targets": [settings.collect.listen]}],
        **own_access(settings.web),
    }
    interval_ms = int(settings.rules.evaluation_interval * 1000)
    of_collector: Yaml = scraped.get("global", {})
    jobs: list[Yaml] = scraped.get("scrape_configs", [])
    own = [] if any(job["job_name"] == JOB for job in jobs) else [own_job(settings)]
    return {
        "global": {
            **{key: of_collector[key] for key in _SCRAPE_DEFAULTS if key in of_collector},
            "evaluation_interval": f"{interval_ms}ms",
            "external_labels": dict(settings.rules.external_labels),
        },
        "rule_files": list(rules),
        "alerting": {
            "alertmanagers": [
                {
                    "path_prefix": BACKSTOP_PREFIX,
                    "static_configs": [{"targets": [settings.dispatch.listen]}],
                    **own_access(settings.web),
                }
            ]
        },
        "scrape_configs": [
            *(with_absolute_files(job, folder) for job in jobs),
            fleet,
            *own,
        ],
    }


def own_job(settings: Settings) -> Yaml:
    """The entry of `scrape_configs` for Watchkeeper's own processes."""
    parts = (settings.collect, settings.worker, settings.dispatch, settings.export)
    return {
        "job_name": JOB,
        "scrape_interval": _OWN_INTERVAL,
        "static_configs": [{"targets": [part.listen for part in parts]}],
        **own_access(settings.web),
    }


def own_access(web: WebSettings) -> Yaml:
    """How Prometheus asks our own listeners; the password stays in its file."""
    scheme = own_scheme(web)
    access: Yaml = {} if scheme == "http" else {"scheme": scheme}
    http = own_http(web)
    if http.basic_auth is not None:
        access["basic_auth"] = {
            "username": http.basic_auth.username,
            "password_file": str(Path(http.basic_auth.password_file).resolve()),
        }
    tls = {
        "ca_file": web.ca_file,
        "cert_file": web.certificate_file,
        "key_file": web.key_file,
    }
    files = {name: str(Path(file).resolve()) for name, file in tls.items() if file}
    return {**access, "tls_config": files} if files else access


_SCRAPE_DEFAULTS = ("scrape_interval", "scrape_timeout")


def with_absolute_files(job: Yaml, folder: Path) -> Yaml:
    """The same entry, for a configuration that lies elsewhere than in `folder`.

    Raises
    ------
    StartError
        A secret stands in it, which would be copied into the data folder.
    """
    moved = _with_absolute_secrets(job, folder, str(job.get("job_name", "")))
    for name in ("basic_auth", "authorization", "tls_config"):
        if isinstance(job.get(name), dict):
            place = f"{job.get('job_name', '')}.{name}"
            moved[name] = _with_absolute_secrets(job[name], folder, place)
    if "file_sd_configs" in job:
        moved["file_sd_configs"] = [
            {**entry, "files": [str((folder / name).resolve()) for name in entry["files"]]}
            for entry in job["file_sd_configs"]
        ]
    return moved


def _with_absolute_secrets(fields: Yaml, folder: Path, place: str) -> Yaml:
    for name in SECRET_FIELDS:
        if fields.get(name):
            raise StartError(
                f"scrape_configs: {place}.{name}: expected {name}_file: `up` hands this "
                "configuration on by a file in its data folder, which must hold no secret"
            )
    return {
        name: str((folder / value).resolve()) if name.endswith("_file") and value else value
        for name, value in fields.items()
    }


def prometheus_command(settings: Settings, program: str, config: Path) -> list[str]:
    """What to start."""
    return [
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={Path(settings.data) / 'prometheus'}",
        f"--storage.tsdb.retention.time={_RETENTION}",
        f"--web.listen-address={settings.local.prometheus_listen}",
        f"--web.external-url={settings.rules.external_url}",
        "--log.level=warn",
        *([f"--web.config.file={settings.web.config_file}"] if settings.web.config_file else []),
    ]


def version_of(program: str) -> str:
    """The version that the program says it has.

    Raises
    ------
    StartError
        It can't be run, or says something else.
    """
    try:
        said = subprocess.run(  # noqa: S603  # a program found by its name, no shell
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"{program} --version: {error}") from error
    found = re.match(r"prometheus, version (\S+)", said.stdout + said.stderr)
    if found is None:
        raise StartError(
            f"{program} --version: expected `prometheus, version ...`, "
            f"got {(said.stdout + said.stderr)[:80]!r}"
        )
    return found[1]


def semantics_of(version: str) -> Literal["2", "3"]:
    """The major version, whose semantics the worker takes.

    >>> semantics_of("2.42.0+ds")
    '2'

    Raises
    ------
    StartError
        The worker doesn't have the semantics of that version.
    """
    found = _SEMANTICS.get(version.partition(".")[0])
    if found is None:
        raise StartError(f"Prometheus: expected version 2 or 3, got {version}")
    return found


_SEMANTICS: Mapping[str, Literal["2", "3"]] = {"2": "2", "3": "3"}
