from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.collect.collector import load_config
from pipeline.local.own_targets import watch_own_processes
from pipeline.local.prometheus import prometheus_config
from pipeline.settings import ClockSettings, CollectSettings, DispatchSettings, Settings

FLEET = """\
global: {scrape_interval: 5s}
scrape_configs:
  - job_name: fleet
    file_sd_configs: [{files: [nodes/*.json]}]
"""


def settings(folder: Path, text: str, speed: float = 1.0) -> Settings:
    source = folder / "scrape.yml"
    source.write_text(text)
    return Settings(
        data=str(folder / "data"),
        collect=CollectSettings(scrape_config=str(source)),
        dispatch=DispatchSettings(listen="127.0.0.1:7003"),
        clock=ClockSettings(speed, 1.0),
    )


def jobs(given: Settings) -> list[dict[str, object]]:
    found: list[dict[str, object]] = yaml.safe_load(Path(given.collect.scrape_config).read_text())[
        "scrape_configs"
    ]
    return found


def test_the_collector_scrapes_our_own_processes_beside_the_users_targets(tmp_path: Path):
    watched = watch_own_processes(settings(tmp_path, FLEET))
    fleet, own = jobs(watched)
    assert fleet["file_sd_configs"] == [{"files": [str(tmp_path / "nodes/*.json")]}]
    assert own["job_name"] == "watchkeeper"
    assert own["static_configs"] == [
        {"targets": ["127.0.0.1:9464", "127.0.0.1:9465", "127.0.0.1:7003", "127.0.0.1:9466"]}
    ]
    assert [job.name for job in load_config(watched).jobs] == ["fleet", "watchkeeper"]
    assert watch_own_processes(watched) == watched


@pytest.mark.parametrize(("speed", "interval"), [(1.0, "5s"), (4.0, "20s"), (60.0, "60s")])
def test_a_simulation_asks_them_less_often_in_its_time(tmp_path: Path, speed: float, interval: str):
    own = jobs(watch_own_processes(settings(tmp_path, FLEET, speed)))[-1]
    assert (own["scrape_interval"], own["scrape_timeout"]) == (interval, "5s")


def test_prometheus_gets_the_job_once(tmp_path: Path):
    watched = watch_own_processes(settings(tmp_path, FLEET))
    scraped = yaml.safe_load(Path(watched.collect.scrape_config).read_text())
    config = prometheus_config(watched, scraped, tmp_path, [])
    assert [job["job_name"] for job in config["scrape_configs"]] == [
        "fleet", "watchkeeper", "watchkeeper-fleet",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["{", "- a", "scrape_configs: 3"])
def test_what_is_no_configuration_is_left_for_the_collector_to_refuse(tmp_path: Path, text: str):
    given = settings(tmp_path, text)
    assert watch_own_processes(given) == given
