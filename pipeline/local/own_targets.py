"""Watchkeeper's own processes as targets: who watches must be watched."""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from pipeline.local.prometheus import JOB, Yaml, own_job, with_absolute_files
from pipeline.settings import Settings

_SLOWEST_S = 60


def watch_own_processes(settings: Settings) -> Settings:
    """`settings` whose collector scrapes our own processes, too.

    The scrape configuration is written again with one more job, unless it has a job of that name or
    can't be read: then the collector says what is wrong with it. At another speed than 1 the
    interval is longer, as it is one of event time.
    """
    source = Path(settings.collect.scrape_config)
    try:
        scraped = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return settings
    if not isinstance(scraped, dict) or not isinstance(scraped.get("scrape_configs", []), list):
        return settings
    jobs: list[Yaml] = scraped.get("scrape_configs", [])
    if any(isinstance(job, dict) and job.get("job_name") == JOB for job in jobs):
        return settings
    interval_s = max(5, min(_SLOWEST_S, int(5 * settings.clock.speed)))
    own = own_job(settings) | {"scrape_interval": f"{interval_s}s", "scrape_timeout": "5s"}
    merged = {
        **scraped,
        "scrape_configs": [*(with_absolute_files(job, source.parent) for job in jobs), own],
    }
    path = Path(settings.data) / "targets" / "collect.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")
    collect = msgspec.structs.replace(settings.collect, scrape_config=str(path))
    return msgspec.structs.replace(settings, collect=collect)
