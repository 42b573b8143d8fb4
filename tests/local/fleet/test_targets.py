import json
import stat
import subprocess

import yaml

from pipeline.collect.feeds_config import load_feeds_config
from pipeline.collect.scrape_config import load_scrape_config
from pipeline.collect.targets import scrape_targets
from pipeline.ingest.ledger_feeds import FEEDS
from pipeline.local.fleet.targets import feeds_config, scrape_configs, write_targets
from pipeline.local.fleet.tokens import Tokens
from pipeline.settings import SimulateSettings

SIMULATE = SimulateSettings(base_port=20100, nodes=6)


def test_collector_reads_the_files(tmp_path):
    scrape, feeds = write_targets(SIMULATE, tmp_path / "generated")
    (job,) = load_scrape_config(scrape)
    assert (job.name, job.path, job.interval_ms) == ("aurigraph-production", "/q/metrics", 5000)
    config = load_feeds_config(feeds)
    open_feeds, streams = config.feeds
    assert open_feeds.feeds == (
        "/ws/metrics",
        "/api/v11/live/stream",
        "/ws/dashboard",
        "/ws/channels",
    )
    assert sorted((*open_feeds.feeds, *streams.feeds)) == sorted(FEEDS)
    assert [group.targets for group in streams.sources.groups] == [
        ("127.0.0.1:20100",),
        ("127.0.0.1:20105",),
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


def test_the_collector_s_token_is_its_own_and_in_no_other_file(tmp_path):
    files = write_targets(SIMULATE, tmp_path)
    token = (tmp_path / "collector.token").read_text().strip()
    assert stat.S_IMODE((tmp_path / "collector.token").stat().st_mode) == 0o600
    assert Tokens(SIMULATE.seed).user_of(token, 0.0).groups == ("DEVELOPER",)
    assert all(token not in path.read_text() for path in files)
    write_targets(SIMULATE, tmp_path)
    assert (tmp_path / "collector.token").read_text().strip() == token


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
