from __future__ import annotations

import pytest

from pipeline.alerts.config import (
    Config,
    load_config,
)
from pipeline.document import ConfigError
from pipeline.http_config import Authorization, BasicAuth, HttpConfig
from pipeline.secret import Secret

WHOLE = """\
global:
  resolve_timeout: 2m
  http_config:
    bearer_token: t0ken-1
    enable_http2: false
route:
  receiver: ops
  group_by: [alertname, job]
  group_wait: 0s
  group_interval: 1m30s
  repeat_interval: 1d
  routes:
    - match: {b: "1", a: x}
      match_re: {c: 'y|z'}
      matchers: ['d!="e",f=g']
      continue: yes
receivers:
  - name: ops
    webhook_configs:
      - url: https://user:t0ken-2@example.org/t0ken-3?token=t0ken-4
        send_resolved: false
        max_alerts: 7
        http_config:
          follow_redirects: false
          basic_auth: {username: u, password: t0ken-5}
      - url: http://example.org:80/
  - name: nobody
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(text, "am.yml")
    return caught.value.problems


def with_route(route: str, receivers: str = "[{name: r}]") -> str:
    return f"route: {route}\nreceivers: {receivers}\n"


def with_webhook(webhook: str) -> str:
    return with_route("{receiver: r}", f"[{{name: r, webhook_configs: [{webhook}]}}]")


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(WHOLE, "am.yml")


def test_route_is_read(config: Config) -> None:
    assert config.resolve_timeout_ms == 120_000
    route = config.route
    assert (route.receiver, route.group_by, route.continues) == ("ops", ("alertname", "job"), False)
    assert (route.group_wait_ms, route.group_interval_ms) == (0, 90_000)
    assert route.repeat_interval_ms == 86_400_000
    child = route.routes[0]
    assert child.continues
    assert child.group_wait_ms is None
    assert [str(m) for m in child.matchers] == [
        'a="x"', 'b="1"', 'c=~"^(?:y|z)$"', 'd!="e"', 'f="g"',
    ]  # fmt: skip


def test_receivers_are_read(config: Config) -> None:
    ops, nobody = config.receivers
    assert (ops.name, nobody.name, nobody.webhooks) == ("ops", "nobody", ())
    first, second = ops.webhooks
    assert first.url == Secret("https://user:t0ken-2@example.org/t0ken-3?token=t0ken-4")
    assert (first.send_resolved, first.max_alerts) == (False, 7)
    assert first.http == HttpConfig(BasicAuth("u", Secret("t0ken-5")), None, follow_redirects=False)
    assert (second.send_resolved, second.max_alerts) == (True, 0)
    assert second.http == HttpConfig(None, Authorization("Bearer", Secret("t0ken-1")))


def test_defaults_are_those_of_alertmanager() -> None:
    config = load_config(with_route("{receiver: r}"), "am.yml")
    assert config.resolve_timeout_ms == 300_000
    assert config.route.group_interval_ms is None
    assert load_config("global: {}\n" + with_route("{receiver: r}"), "f").resolve_timeout_ms == (
        300_000
    )


def test_secrets_are_not_shown(config: Config) -> None:
    assert "t0ken" not in config.original + repr(config)
    assert "url: http://example.org:80/" in config.original


def test_shown_configuration_loads_again(config: Config) -> None:
    assert load_config(config.original, "am.yml").route == config.route


@pytest.mark.parametrize(
    ("http", "expected"),
    [
        ("{}", HttpConfig()),
        ("{bearer_token_file: /f}", HttpConfig(None, Authorization("Bearer", Secret(""), "/f"))),
        (
            "{authorization: {credentials: c}}",
            HttpConfig(None, Authorization("Bearer", Secret("c"))),
        ),
        (
            "{authorization: {type: Token, credentials_file: /f}}",
            HttpConfig(None, Authorization("Token", Secret(""), "/f")),
        ),
        ("{basic_auth: {password_file: /f}}", HttpConfig(BasicAuth("", Secret(""), "/f"))),
    ],
)
def test_ways_to_authenticate(http: str, expected: HttpConfig) -> None:
    config = load_config(with_webhook(f"{{url: 'http://h', http_config: {http}}}"), "am.yml")
    assert config.receivers[0].webhooks[0].http == expected


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ("{}", "am.yml:1: route: receiver: expected the receiver of all alerts, got none"),
        ("{receiver: x}", "am.yml:1: route.receiver: no receiver is called 'x'"),
        (
            "{receiver: r, matchers: [a=b]}",
            "am.yml:1: route: expected no matchers at the root: it takes every alert",
        ),
        ("{receiver: r, continue: true}", "am.yml:1: route: continue: expected false at the root"),
        (
            "{receiver: r, group_by: [a, a]}",
            "am.yml:1: route.group_by[1]: the label 'a' is given twice",
        ),
        (
            "{receiver: r, group_by: ['...', a]}",
            "am.yml:1: route.group_by: expected '...' alone: it groups by all labels",
        ),
        (
            "{receiver: r, group_by: [a-b]}",
            "am.yml:1: route.group_by[0]: expected a label name, got 'a-b'",
        ),
        (
            "{receiver: r, group_interval: 0s}",
            "am.yml:1: route.group_interval: expected a duration above 0, got 0",
        ),
        (
            "{receiver: r, repeat_interval: 0s}",
            "am.yml:1: route.repeat_interval: expected a duration above 0, got 0",
        ),
        (
            "{receiver: r, group_wait: fast}",
            (
                "am.yml:1: route.group_wait: "
                'expected a duration such as "30s" or "1m30s", got \'fast\''
            ),
        ),
        (
            "{receiver: r, group_wait: [1]}",
            "am.yml:1: route.group_wait: expected a text, got a list",
        ),
        (
            "{receiver: r, routes: [{match: {a-b: c}}]}",
            "am.yml:1: route.routes[0].match.a-b: expected a label name, got 'a-b'",
        ),
        (
            "{receiver: r, routes: [{match_re: {a-b: c}}]}",
            "am.yml:1: route.routes[0].match_re.a-b: expected a label name, got 'a-b'",
        ),
        (
            "{receiver: r, routes: [{match_re: {a: '('}}]}",
            (
                "am.yml:1: route.routes[0].match_re.a: expected an RE2 expression, got '(': "
                "missing ): ^(?:()$"
            ),
        ),
        (
            "{receiver: r, routes: [{matchers: [x]}]}",
            "am.yml:1: route.routes[0].matchers[0]: bad matcher format: x",
        ),
        (
            "{receiver: r, mute_time_intervals: [x]}",
            "am.yml:1: route.mute_time_intervals: not supported yet",
        ),
        (
            "{receiver: r, routes: {a: b}}",
            "am.yml:1: route.routes: expected a list, got a mapping",
        ),
        (
            "{receiver: [r]}",
            "am.yml:1: route.receiver: expected a text, got a list",
        ),
        ("{receiver: r, continue: 1}", "am.yml:1: route.continue: expected true or false, got '1'"),
        ("{receiver: r, receiver: r}", "am.yml:1: route.receiver: given twice"),
        ("[]", "am.yml:1: route: expected a mapping, got a list"),
    ],
)
def test_problem_of_a_route_has_its_place(route: str, problem: str) -> None:
    assert problem in problems_of(with_route(route))


@pytest.mark.parametrize(
    ("webhook", "problem"),
    [
        ("{}", ": url: expected the address to post to, got none"),
        ("{url: 'ftp://t0ken'}", ".url: expected an http or https address, got the scheme 'ftp'"),
        ("{url: 'http:///t0ken'}", ".url: expected an address with a host"),
        ("{url: 'http://h:0/t0ken'}", ".url: expected an address with a host"),
        ("{url: 'http://h:99999/t0ken'}", ".url: Port out of range 0-65535"),
        (
            "{url: 'http://h', max_alerts: -1}",
            ".max_alerts: expected a whole number >= 0, got '-1'",
        ),
        ("{url: 'http://h', max_alerts: x}", ".max_alerts: expected a whole number >= 0, got 'x'"),
        (
            "{url: 'http://h', url_file: x}",
            ".url_file: unknown field; expected one of url, send_resolved, max_alerts, http_config",
        ),
        (
            "{url: 'http://h', http_config: {oauth2: {}}}",
            ".http_config.oauth2: not supported yet",
        ),
        (
            "{url: 'http://h', http_config: {bearer_token: a, basic_auth: {}}}",
            ".http_config: expected one way to authenticate, got basic_auth, bearer_token",
        ),
        (
            "{url: 'http://h', http_config: {basic_auth: {password: a, password_file: b}}}",
            ".http_config.basic_auth: expected password or password_file, got both",
        ),
        (
            "{url: http://h, http_config: {authorization: {credentials: a, credentials_file: b}}}",
            ".http_config.authorization: expected credentials or credentials_file, got both",
        ),
        (
            "{url: 'http://h', http_config: {authorization: {type: Basic}}}",
            (
                '.http_config.authorization: type: expected another type than "basic"; '
                "basic_auth is for that"
            ),
        ),
        (
            "{url: 'http://h', http_config: {enable_http2: 3}}",
            ".http_config.enable_http2: expected true or false, got '3'",
        ),
    ],
)
def test_problem_of_a_webhook_has_its_place_and_no_secret(webhook: str, problem: str) -> None:
    problems = problems_of(with_webhook(webhook))
    assert problems == [f"am.yml:2: receivers[0].webhook_configs[0]{problem}"]
    assert "t0ken" not in "".join(problems)


@pytest.mark.parametrize(
    ("receivers", "problem"),
    [
        ("[{}]", "am.yml:2: receivers[0]: name: expected the receiver's name, got none"),
        ("[{name: r}, {name: r}]", "am.yml:2: receivers[1].name: the name 'r' is given twice"),
        (
            "[{name: r, slack_configs: []}]",
            "am.yml:2: receivers[0].slack_configs: not supported yet",
        ),
        ("[{name: null}]", "am.yml:2: receivers[0]: name: expected the receiver's name, got none"),
    ],
)
def test_problem_of_a_receiver_has_its_place(receivers: str, problem: str) -> None:
    assert problem in problems_of(with_route("{receiver: r}", receivers))


def test_all_problems_are_reported_together() -> None:
    text = "inhibit_rules: []\nglobal: {smtp_from: a, resolve_timeout: x}\ntypo: 1\nreceivers: []\n"
    assert problems_of(text) == [
        "am.yml:1: inhibit_rules: not supported yet",
        "am.yml:3: typo: unknown field; expected one of global, route, receivers",
        "am.yml:2: global.smtp_from: not supported yet",
        'am.yml:2: global.resolve_timeout: expected a duration such as "30s" or "1m30s", got \'x\'',
        "am.yml:1: route: expected a route, got none",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "am.yml: expected a configuration, got an empty file"),
        ("a: [", "am.yml:1: expected YAML: expected the node content, but found '<stream end>'"),
        ("a: \x01", ("am.yml: expected YAML: unacceptable character #x0001: special characters are "
                    'not allowed in "<unicode string>", position 3')),
        ("x", "am.yml:1: expected a mapping, got 'x'"),
    ],
)  # fmt: skip
def test_text_that_is_no_configuration_is_refused(text: str, problem: str) -> None:
    assert problem in problems_of(text)


def test_null_is_as_good_as_absent_and_refused_in_a_list() -> None:
    assert (
        load_config("global:\n" + with_route("{receiver: r, group_by: }"), "f").route.group_by == ()
    )
    assert "am.yml:1: route.group_by[0]: expected a text, got nothing" in problems_of(
        with_route("{receiver: r, group_by: [null]}")
    )
