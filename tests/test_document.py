from __future__ import annotations

import pytest

from pipeline.alerts.config import load_config
from pipeline.document import MAX_VALUES, ConfigError, read_document

LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("route: &r\n  routes: [*r]", "f.yml:1: expected no alias to what contains it"),
        ("x: 1\nroute: &r [[*r]]", "f.yml:2: expected no alias to what contains it"),
        (LAUGHS, f"f.yml: expected at most {MAX_VALUES} values, got "),
        ("[" * 5000, "f.yml: expected less nesting"),
        ("a: [", "f.yml:1: expected YAML: "),
        ("a: *b", "f.yml:1: expected YAML: found undefined alias 'b'"),
        ("\x00", "f.yml: expected YAML: "),
        ("", "f.yml: expected a configuration, got an empty file"),
    ],
)
def test_document_that_can_not_be_read_is_refused_with_its_place(text: str, problem: str) -> None:
    problems: list[str] = []
    assert read_document(text, "f.yml", problems) is None
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_aliases_that_end_are_followed() -> None:
    config = load_config(
        """
route:
  receiver: a
  routes:
    - &twice {receiver: a, matchers: [x=y], routes: [{matchers: [z=y]}]}
    - *twice
receivers: [{name: a}]
""",
        "f.yml",
    )
    first, second = config.route.routes
    assert first == second


def test_route_that_contains_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected no alias to what contains it"):
        load_config("route: &r {receiver: a, routes: [*r]}\nreceivers: [{name: a}]", "f.yml")
