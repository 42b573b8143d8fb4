"""Go templates of labels and annotations, with the functions that Prometheus gives them.

References
----------
prometheus/template/template.go; prometheus/rules/alerting.go: Eval.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import quote_plus, urlsplit

import gotpl
import re2

from pipeline.durations import parse_duration
from pipeline.model import Labels
from pipeline.promql.plan import Version
from pipeline.rules import humanize
from pipeline.rules.quick import render_quickly

_DEFINITIONS = (
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}"
    "{{$externalURL := .ExternalURL}}{{$value := .Value}}"
)
_QUERIES = ("query", "first", "label", "value", "strvalue", "sortByLabel", "toTime", "tmpl")
_QUERIES_3 = (*_QUERIES, "toDuration", "now")
_BUDGET = gotpl.ExecutionBudget(
    max_output_chars=100_000, max_iterations=10_000, max_template_depth=50,
    max_function_calls=10_000,
)  # fmt: skip
_VALUE_USE = re.compile(r"[vV]alue|query|\bnow\b|(?:^|[\s(|])\.(?:[\s)|}]|$)")
_URL_USE = re.compile(r"externalURL|pathPrefix")
"""A text without these is compiled once: what `check_template` made serves for rendering."""
_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


class TemplateData:
    """What a template sees: `.Labels`, `.ExternalLabels`, `.ExternalURL`, `.Value`."""

    # Go's names, because templates spell them.
    __slots__ = ("ExternalLabels", "ExternalURL", "Labels", "Value")

    def __init__(
        self, labels: Labels, value: float, external_labels: Labels, external_url: str
    ) -> None:
        self.Labels = _LabelMap(labels)
        self.ExternalLabels = _LabelMap(external_labels)
        self.ExternalURL = external_url
        self.Value = value


class _LabelMap(dict[str, str]):
    """Go's map[string]string: a name that isn't there reads as the empty text."""

    def __gotemplate_lookup__(self, name: str) -> str:
        return self.get(name, "")


def uses_value(text: str) -> bool:
    """Whether the rendered text may change while the series' labels stay.

    It may say yes for a text that doesn't; that costs time only.
    """
    return any(_VALUE_USE.search(action) for action in _ACTION.findall(text))


def check_template(text: str, name: str, prometheus: Version) -> str:
    """Why `text` can't be used as a template; empty when it can."""
    if "{{" not in text:
        return ""
    try:
        _compiled(text, name, "", prometheus)
    except gotpl.TemplateSyntaxError as error:
        missing = re.search(r"function '(\w+)' not defined", str(error))
        known = _QUERIES_3 if prometheus == "3" else _QUERIES
        if missing and missing[1] in known:
            return f'the template function "{missing[1]}" is not supported yet'
        return f"expected a template: {_placed(error)}"
    except (gotpl.TemplateError, RecursionError) as error:
        return f"expected a template: {error}"
    return ""


def render(text: str, name: str, data: TemplateData, prometheus: Version) -> tuple[str, bool]:
    """The rendered text, and whether that succeeded.

    A template that fails gives Prometheus' text, `<error expanding template: …>`, so that the
    alert still goes out.
    """
    if "{{" not in text:
        return text, True
    quick = render_quickly(text, data.Value, data.Labels, data.ExternalLabels)
    if quick is not None:
        return quick, True
    return render_fully(text, name, data, prometheus)


def render_fully(text: str, name: str, data: TemplateData, prometheus: Version) -> tuple[str, bool]:
    """`render` for every template there is; a quarter of a millisecond and more."""
    external_url = data.ExternalURL if _URL_USE.search(text) else ""
    try:
        rendered: str = _compiled(text, name, external_url, prometheus).render(data)
    except gotpl.TemplateError as error:
        return f"<error expanding template: error executing template {name}: {error}>", False
    return rendered, True


@lru_cache(maxsize=10_000)
def _compiled(text: str, name: str, external_url: str, prometheus: Version) -> gotpl.Template:
    functions = _functions(external_url, prometheus)
    sandbox = gotpl.SandboxPolicy(
        allow_attributes=TemplateData.__slots__,
        allow_functions=functions,
        allow_custom_lookup=True,
        default_budget=_BUDGET,
    )
    return gotpl.Template(
        _DEFINITIONS + text,
        name=name,
        functions=functions,
        missing_key="zero",
        sandbox=sandbox,
    )


def _placed(error: gotpl.TemplateSyntaxError) -> str:
    """The message, with the column in the text as written, without our definitions before it."""
    message = str(error).split(": ", 1)[-1]
    column = error.column - (len(_DEFINITIONS) if error.line == 1 else 0)
    return f"line {error.line}, character {max(column, 1)}: {message}"


@lru_cache(maxsize=8)
def _functions(external_url: str, prometheus: Version) -> dict[str, Callable[..., object]]:
    functions: dict[str, Callable[..., object]] = {
        "args": _args,
        "externalURL": lambda: external_url,
        "graphLink": lambda expr: _link(expr, 0),
        "humanize": lambda value: humanize.humanize(_number(value)),
        "humanize1024": lambda value: humanize.humanize1024(_number(value)),
        "humanizeDuration": lambda value: humanize.humanize_duration(_number(value)),
        "humanizePercentage": lambda value: humanize.humanize_percentage(_number(value)),
        "humanizeTimestamp": lambda value: humanize.humanize_timestamp(_number(value)),
        "index": _index,
        "match": _match,
        "parseDuration": parse_duration,
        "pathPrefix": lambda: urlsplit(external_url).path,
        "reReplaceAll": _replace_all,
        "safeHtml": lambda text: text,
        "stripDomain": _strip_domain,
        "stripPort": _strip_port,
        "tableLink": lambda expr: _link(expr, 1),
        "title": _title,
        "toLower": lambda text: text.lower(),
        "toUpper": lambda text: text.upper(),
    }
    if prometheus == "3":
        functions["urlQueryEscape"] = quote_plus
    return functions


@lru_cache(maxsize=10_000)
def table_link(expr: str) -> str:
    """The path of Prometheus' page that shows `expr` (util/strutil: TableLinkForExpression)."""
    return _link(expr, 1)


def _link(expr: str, tab: int) -> str:
    return f"/graph?g0.expr={quote_plus(expr)}&g0.tab={tab}"


def _args(*values: object) -> dict[str, object]:
    return {f"arg{i}": value for i, value in enumerate(values)}


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"can't convert {type(value).__name__} to float")
    return float(value)


def _title(text: str) -> str:
    """Go's strings.Title: the first letter of each word; a digit or `_` doesn't end a word."""
    return re.sub(r"(?<!\w)\w", lambda first: first[0].title(), text)


def _index(collection: dict[str, Any] | str, *keys: Any) -> object:
    """Go's builtin; it reads a label that isn't there as the empty text, and bytes of a text."""
    found: Any = collection  # a template's values have any type
    for key in keys:
        found = found.get(key, "") if isinstance(found, dict) else found.encode()[key]
    return found


def _match(pattern: str, text: str) -> bool:
    return _regular_expression(pattern).search(text) is not None


@lru_cache(maxsize=1000)
def _regular_expression(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode()
        raise ValueError(f"error parsing regexp: {reason}: `{pattern}`") from None


def _replace_all(pattern: str, replacement: str, text: str) -> str:
    """regexp.ReplaceAllString: `$1`, `${1}` and `${name}` stand for groups, `$$` for `$`."""
    compiled = _regular_expression(pattern)

    def expanded(match: re2._Match) -> str:
        def group(reference: re.Match[str]) -> str:
            if reference[0] == "$$":
                return "$"
            name = reference[1] or reference[2]
            if name.isdigit():
                return (match[int(name)] or "") if int(name) <= compiled.groups else ""
            return (match[name] or "") if name in compiled.groupindex else ""

        return re.sub(r"\$\$|\$(?:\{(\w+)\}|(\w+))", group, replacement)

    return str(compiled.sub(expanded, text))


def _strip_port(address: str) -> str:
    """The host of host:port (net.SplitHostPort); anything else as it is."""
    host, colon, _ = address.rpartition(":")
    if not colon:
        return address
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1]
    return address if ":" in host else host


def _strip_domain(address: str) -> str:
    """The first name of a host name, with its port; an IP address as it is."""
    host = _strip_port(address)
    port = address.removeprefix(host) if not address.startswith("[") else ""
    if re.fullmatch(r"[\d.]+|.*:.*", host):
        return address
    return host.split(".")[0] + port
