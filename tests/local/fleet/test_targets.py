import json
import subprocess

import yaml

from pipeline.collect.feeds_config import load_feeds_config
from pipeline.collect.scrape_config import load_scrape_config
from pipeline.collect.targets import scrape_targets
from pipeline.local.fleet.targets import feeds_config, scrape_configs, write_targets
from pipeline.settings import SimulateSettings

SIMULATE = SimulateSettings(base_port=20100, nodes=6)


def test_collector_reads_the_files(tmp_path):
    scrape, feeds = write_targets(SIMULATE, tmp_path / "generated")
    (job,) = load_scrape_config(scrape)
    assert (job.name, job.path, job.interval_ms) == ("aurigraph-production", "/q/metrics", 5000)
    config = load_feeds_config(feeds)
    assert [feed.feeds for feed in config.feeds] == [
        ("/ws/metrics", "/api/v11/live/stream", "/ws/dashboard", "/ws/channels")
    ]
    assert [(job.path, job.interval_ms) for job in config.health] == [("/q/health", 5000)]


def test_every_target_is_labelled_as_simulated(tmp_path):
    scrape, _ = write_targets(SIMULATE, tmp_path)
    (job,) = load_scrape_config(scrape)
    problems = []
    found = scrape_targets(job, job.sources.groups, problems)
    assert problems == []
    assert len(found) == 6
    assert dict(found[5].labels) == {
        "job": "aurigraph-production",
        "instance": "127.0.0.1:20105",
        "node": "validator-001",
        "node_type": "validator",
        "simulated": "true",
    }


def test_files_say_that_nothing_in_them_is_real(tmp_path):
    for path in write_targets(SIMULATE, tmp_path):
        assert path.read_text().startswith("# Generated: the targets of the simulated fleet.")


def test_prometheus_takes_the_file(tmp_path, program):
    scrape, _ = write_targets(SIMULATE, tmp_path)
    checked = subprocess.run(
        [program("promtool"), "check", "config", str(scrape)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_data_and_file_are_the_same(tmp_path):
    scrape, feeds = write_targets(SIMULATE, tmp_path)
    assert yaml.safe_load(scrape.read_text()) == {"scrape_configs": scrape_configs(SIMULATE)}
    assert yaml.safe_load(feeds.read_text()) == json.loads(json.dumps(feeds_config(SIMULATE)))
