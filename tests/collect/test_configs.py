"""Configuration files: what they give, and every problem with its place."""

from pathlib import Path

import pytest

from pipeline.collect.collector import load_config
from pipeline.collect.feeds_config import load_feeds_config
from pipeline.collect.scrape_config import load_scrape_config
from pipeline.collect.static_targets import TargetFiles, TargetGroup, TargetSources
from pipeline.collect.targets import feed_targets, health_targets, scrape_targets
from pipeline.document import ConfigError
from pipeline.http_config import BasicAuth, HttpConfig
from pipeline.model import Target
from pipeline.secret import Secret
from pipeline.settings import CollectSettings, Settings
from pipeline.tls import ClientTls

SCRAPES = """\
global:
  scrape_interval: 15s
  external_labels: {region: eu}
rule_files: [x.yml]
scrape_configs:
  - job_name: node
    scrape_interval: 5s
    scrape_timeout: 2s
    metrics_path: /q/metrics
    scheme: https
    params: {module: [a b, c]}
    honor_labels: true
    honor_timestamps: false
    static_configs:
      - targets: ["a:9100", "b"]
        labels: {node: n1, __meta_x: y}
    relabel_configs:
      - source_labels: [__meta_x]
        target_label: x
      - {source_labels: [__address__], regex: b, action: drop}
    metric_relabel_configs:
      - {source_labels: [__name__], regex: go_.*, action: Drop}
  - job_name: plain
    static_configs: [{targets: [c]}]
"""


def problems_of(path: Path, text: str) -> list[str]:
    path.write_text(text)
    load = load_feeds_config if "feeds" in path.name else load_scrape_config
    with pytest.raises(ConfigError) as error:
        load(path)
    return [problem.removeprefix(f"{path}") for problem in error.value.problems]


def test_a_scrape_job_becomes_targets_as_in_prometheus(tmp_path: Path) -> None:
    path = tmp_path / "prometheus.yml"
    path.write_text(SCRAPES)
    node, plain = load_scrape_config(path)
    problems: list[str] = []

    (target,) = scrape_targets(node, node.sources.groups, problems)
    (other,) = scrape_targets(plain, plain.sources.groups, problems)

    assert target.target == Target("node", "a:9100", "/q/metrics?module=a+b&module=c")
    assert target.url == "https://a:9100/q/metrics?module=a+b&module=c"
    assert dict(target.labels) == {"job": "node", "instance": "a:9100", "node": "n1", "x": "y"}
    assert dict(target.discovered)["__meta_x"] == "y"
    assert (target.interval_ms, target.timeout_ms) == (5000, 2000)
    assert (node.honor_labels, node.honor_timestamps) == (True, False)
    assert len(node.metric_relabel) == 1
    assert other.url == "http://c:80/metrics"
    assert (other.interval_ms, other.timeout_ms) == (15_000, 10_000)
    assert problems == []


def test_every_problem_of_a_scrape_config_is_reported_with_its_place(tmp_path: Path) -> None:
    text = """\
scrape_configs:
  - scrape_interval: 5 s
    oauth2: {}
    scrape_timeout: 2m
  - job_name: b
    scheme: ftp
    static_configs:
      - targets: [x]
        labels: {"a-b": c}
    relabel_configs:
      - {regex: "(", action: keep}
      - {action: explode}
  - job_name: b
scrape_config: []
"""
    problems = problems_of(tmp_path / "p.yml", text)

    for expected in (
        ":2: scrape_configs[0].scrape_interval: expected a duration",
        ":3: scrape_configs[0].oauth2: not supported here",
        ":2: scrape_configs[0]: expected a job_name, got none",
        ":4: scrape_configs[0].scrape_timeout: expected at most the scrape_interval",
        ":6: scrape_configs[1].scheme: expected http or https, got 'ftp'",
        ":9: scrape_configs[1].static_configs[0].labels.a-b: expected a label's name",
        ":11: scrape_configs[1].relabel_configs[0]: regex: expected RE2 syntax, got '('",
        ":12: scrape_configs[1].relabel_configs[1]: Invalid enum value 'explode'",
        ":13: scrape_configs[2]: expected each job_name once, got 'b' again",
        ":14: scrape_config: unknown field",
    ):
        assert any(problem.startswith(expected) for problem in problems), (expected, problems)
    assert len(problems) == 10


def test_feeds_and_probes_become_targets(tmp_path: Path) -> None:
    path = tmp_path / "feeds.yml"
    path.write_text("""\
websocket_configs:
  - job_name: ledger
    feeds: [/ws/metrics, /ws/channels]
    static_configs: [{targets: ["a:1"], labels: {node: n1}}]
health_configs:
  - job_name: ledger
    interval: 5s
    static_configs: [{targets: ["a:1"], labels: {node: n1, instance: one}}]
""")
    config = load_feeds_config(path)

    sockets = feed_targets(config.feeds[0], config.feeds[0].sources.groups)
    (probe,) = health_targets(config.health[0], config.health[0].sources.groups)

    assert [socket.url for socket in sockets] == ["ws://a:1/ws/metrics", "ws://a:1/ws/channels"]
    assert sockets[0].target == Target("ledger", "a:1", "/ws/metrics")
    assert dict(sockets[0].labels) == {"job": "ledger", "instance": "a:1", "node": "n1"}
    assert probe.url == "http://a:1/q/health"
    assert probe.target == Target("ledger", "one", "/q/health")
    assert (probe.interval_ms, probe.timeout_ms) == (5000, 5000)


def test_every_problem_of_a_feed_config_is_reported_with_its_place(tmp_path: Path) -> None:
    text = """\
websocket_configs:
  - feeds: [/ws/nothing]
    scheme: http
health_configs:
  - job_name: a
    interval: 5s
    timeout: 6s
    every: 3s
"""
    problems = problems_of(tmp_path / "feeds.yml", text)

    assert any(
        problem.startswith(":2: websocket_configs[0].feeds[0]: expected one of /ws/metrics")
        for problem in problems
    )
    assert ":2: websocket_configs[0]: expected a job_name, got none" in problems
    assert ":3: websocket_configs[0].scheme: expected one of ws, wss, got 'http'" in problems
    assert any("timeout: expected at most the interval" in problem for problem in problems)
    assert any(problem.startswith(":8: health_configs[0].every") for problem in problems)
    assert len(problems) == 5


def test_problems_of_both_files_are_reported_together(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.yml")
    settings = Settings(collect=CollectSettings(scrape_config=missing, feeds_config=missing))

    with pytest.raises(ConfigError) as error:
        load_config(settings)

    assert error.value.problems == [f"{missing}: can't be read: No such file or directory"] * 2


@pytest.mark.parametrize(
    ("address", "message"),
    [("", "expected host:port"), ("http://a", "expected host:port")],
)
def test_an_address_that_is_none_is_a_problem(tmp_path: Path, address: str, message: str) -> None:
    path = tmp_path / "p.yml"
    path.write_text(
        f'scrape_configs: [{{job_name: a, static_configs: [{{targets: ["{address}"]}}]}}]'
    )
    (job,) = load_scrape_config(path)
    problems: list[str] = []

    assert scrape_targets(job, job.sources.groups, problems) == []
    assert message in problems[0]


def test_files_of_targets_are_read_again_when_they_change(tmp_path: Path) -> None:
    files, problems = TargetFiles(), list[str]()
    sources = TargetSources((TargetGroup(("static:1",)),), (str(tmp_path / "*.json"),))
    path = tmp_path / "a.json"

    def found() -> list[str]:
        return [target for group in files.groups(sources, problems) for target in group.targets]

    assert found() == ["static:1"]
    path.write_text('[{"targets": ["a:1", "b:1"], "labels": {"x": "y"}}]')
    assert found() == ["static:1", "a:1", "b:1"]
    path.write_text('[{"targets": ["a:1"]')
    assert found() == ["static:1", "a:1", "b:1"]
    assert len(problems) == 1
    assert str(path) in problems[0]
    assert found() == ["static:1", "a:1", "b:1"]
    assert len(problems) == 1
    path.write_text('[{"targets": ["c:1"]}]')
    assert found() == ["static:1", "c:1"]
    path.unlink()
    assert found() == ["static:1"]


@pytest.mark.parametrize(
    ("authorization", "problem"),
    [
        ("{}", ":3: websocket_configs[0].authorization: expected credentials or credentials_file"),
        ("{credentials: a, credentials_file: b}", "expected credentials or credentials_file"),
        ("{type: Basic, credentials: a}", "authorization.type: expected Bearer"),
        ("{token: a}", "authorization.token: unknown field"),
    ],
)
def test_an_authorization_that_can_t_be_used_is_a_problem(
    tmp_path: Path, authorization: str, problem: str
) -> None:
    text = f"""\
websocket_configs:
  - job_name: a
    authorization: {authorization}
"""
    assert any(problem in each for each in problems_of(tmp_path / "feeds.yml", text))


def test_a_feed_that_wants_a_token_needs_an_authorization(tmp_path: Path) -> None:
    path = tmp_path / "feeds.yml"
    text = "websocket_configs: [{job_name: a, feeds: [/ws/v11, /ws/metrics]}]"
    assert problems_of(path, text) == [
        ":1: websocket_configs[0]: expected an authorization: /ws/v11 wants a token"
    ]
    text = text.replace("feeds:", "authorization: {credentials: hunter2}, feeds:")
    path.write_text(text)
    (job,) = load_feeds_config(path).feeds
    assert job.token.read() == "hunter2"
    assert "hunter2" not in repr(job)


@pytest.mark.parametrize("section", ["scrape_configs", "health_configs", "websocket_configs"])
def test_a_login_in_an_address_is_refused_and_not_shown(tmp_path: Path, section: str) -> None:
    path = tmp_path / ("p.yml" if section == "scrape_configs" else "feeds.yml")
    targets = "static_configs: [{targets: ['u:t0ken@a:1']}]"
    (problem,) = problems_of(path, f"{section}: [{{job_name: a, {targets}}}]")
    assert "targets[0]: expected an address without a login: basic_auth is for that" in problem
    assert "t0ken" not in problem


def test_who_asks_is_in_every_target(tmp_path: Path) -> None:
    tls = ClientTls(ca_file=f"{tmp_path}/ca.pem")
    basic = BasicAuth("u", Secret(), f"{tmp_path}/p")
    who = "tls_config: {ca_file: ca.pem}, basic_auth: {username: u, password_file: p}"
    where = "static_configs: [{targets: ['a:1']}]"
    (tmp_path / "p.yml").write_text(f"scrape_configs: [{{job_name: a, {who}, {where}}}]")
    (tmp_path / "feeds.yml").write_text(
        f"health_configs: [{{job_name: a, {who}, {where}}}]\n"
        f"websocket_configs: [{{job_name: a, feeds: [/ws/metrics], {who}, {where}}}]\n"
    )
    (job,) = load_scrape_config(tmp_path / "p.yml")
    feeds = load_feeds_config(tmp_path / "feeds.yml")
    found = [
        *scrape_targets(job, job.sources.groups, []),
        *feed_targets(feeds.feeds[0], feeds.feeds[0].sources.groups),
        *health_targets(feeds.health[0], feeds.health[0].sources.groups),
    ]
    assert [watched.http for watched in found] == [HttpConfig(basic, tls=tls)] * 3
