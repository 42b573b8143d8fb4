"""Every command of `watchkeeper`, thin: parse the arguments, call one function.

Imports of a command stand inside it, so that `--help` and completion answer at once.

Exit codes: 0 done or stopped by a signal; 1 the thing asked for failed or found problems; 2 wrong
usage; 3 settings that can't be used; 4 a port is taken or a part is missing.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pipeline import __version__
from pipeline.durations import parse_duration
from pipeline.settings import Settings, SettingsError, load_settings

EXIT_FAILED, EXIT_SETTINGS, EXIT_MISSING = 1, 3, 4


class _Commands(click.Group):
    """Commands in the order in which a newcomer meets them."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="watchkeeper")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="WATCHKEEPER_CONFIG",
    help="Settings (TOML). Default: watchkeeper.toml in the current folder, if there.",
)
@click.pass_context
def main(context: click.Context, config: Path | None) -> None:
    """Watch a fleet of nodes; page the right engineer within milliseconds, with the reason.

    \b
    Examples:
      watchkeeper up                            everything on this machine
      watchkeeper simulate fault tps-drop       break something on purpose
      watchkeeper check                         settings, rules and receivers; starts nothing

    Shell completion: eval "$(_WATCHKEEPER_COMPLETE=bash_source watchkeeper)"
    """  # noqa: D301 - to click, \b keeps lines apart
    default = Path("watchkeeper.toml")
    path = config or (default if default.exists() else None)
    context.obj = path


def settings_of(context: click.Context) -> Settings:
    """The settings, found usable; or exit 3 with every problem."""
    from pipeline.api.client import check_web
    from pipeline.brokers import connection_of

    settings = loaded_settings(context)
    with _problems_exit():
        connection_of(settings)
        check_web(settings.web)
    return settings


def loaded_settings(context: click.Context) -> Settings:
    """The settings as they are written, or exit 3 with every problem."""
    with _problems_exit():
        return load_settings(context.obj, os.environ)


@contextmanager
def _problems_exit() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(EXIT_SETTINGS)


def _duration(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@main.command()
@click.option(
    "--speed", type=click.FloatRange(min=0.1), default=1.0, help="Event time runs this much faster."
)
@click.option(
    "--history",
    callback=_duration,
    metavar="DURATION",
    help="Write this much past first, as in 14d.",
)
@click.option(
    "--nodes", type=click.IntRange(1, 25), help="Size of the simulated fleet. Default: 25."
)
@click.option("--plain", is_flag=True, help="A line a second instead of the live view.")
@click.pass_context
def up(
    context: click.Context, speed: float, history: float | None, nodes: int | None, plain: bool
) -> None:
    """Start everything on this machine: broker, fleet, collector, worker, dispatcher.

    Ctrl-C stops what it started, and nothing else. Started again, it goes on from its data folder.

    \b
    Examples:
      watchkeeper up
      watchkeeper up --speed 60 --nodes 5       an hour of the fleet in a minute
    """  # noqa: D301 - to click, \b keeps lines apart
    from pipeline.local.up import run

    settings = settings_of(context)
    sys.exit(run(settings, speed=speed, history=history, nodes=nodes, plain=plain))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object with every problem.")
@click.pass_context
def check(context: click.Context, as_json: bool) -> None:
    """Check settings, rule files, targets and receivers: every problem in one report.

    Starts nothing. Exit code 0 if all is well, 1 if there are problems.

    \b
    Examples:
      watchkeeper check
      watchkeeper --config production.toml check --json | jq .problems
    """  # noqa: D301 - to click, \b keeps lines apart
    settings = loaded_settings(context)
    from pipeline.local.check import run

    sys.exit(run(settings, as_json=as_json))


@main.command()
@click.pass_context
def kafka(context: click.Context) -> None:
    """Run a local Kafka broker: format, start, create the topics, wait for Ctrl-C.

    \b
    Examples:
      watchkeeper kafka
      WATCHKEEPER_DATA=/srv/watchkeeper watchkeeper kafka
    """  # noqa: D301 - to click, \b keeps lines apart
    from pipeline.local.kafka import run

    sys.exit(run(settings_of(context)))


@main.group(invoke_without_command=True)
@click.option("--speed", type=click.FloatRange(min=0.1), help="Event time runs this much faster.")
@click.option(
    "--history",
    callback=_duration,
    metavar="DURATION",
    help="Write this much past first, as in 14d.",
)
@click.pass_context
def simulate(context: click.Context, speed: float | None, history: float | None) -> None:
    """Simulate a fleet of the ledger platform, over real sockets.

    \b
    Examples:
      watchkeeper simulate --speed 60
      watchkeeper simulate fault tps-drop --for 10m
      watchkeeper simulate fault node-down --node validator-003
      watchkeeper simulate fault tps-drop --end
    """  # noqa: D301 - to click, \b keeps lines apart
    if context.invoked_subcommand is None:
        from pipeline.local.fleet import main as fleet

        sys.exit(fleet.run(settings_of(context), speed=speed, history_s=history))


def _fault_names(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    from pipeline.local.fleet.faults import FAULTS

    return [name for name in FAULTS if name.startswith(begun)]


@simulate.command()
@click.argument("name", shell_complete=_fault_names)
@click.option("--node", help="Only this node; default: the fleet, or a node of the fault's choice.")
@click.option(
    "--for",
    "duration",
    callback=_duration,
    metavar="DURATION",
    help="End by itself after this long.",
)
@click.option("--end", is_flag=True, help="End the fault instead.")
@click.option("--json", "as_json", is_flag=True, help="The faults begun or ended, as JSON.")
@click.pass_context
def fault(
    context: click.Context,
    name: str,
    node: str | None,
    duration: float | None,
    end: bool,
    as_json: bool,
) -> None:
    """Break something, until it is ended.

    \b
    NAME is one of:
      node-down, tps-drop, latency, error-storm, websocket-drop,
      health-degraded, leader-flap, slow-leak, stuck-value

    \b
    Examples:
      watchkeeper simulate fault tps-drop --for 10m
      watchkeeper simulate fault node-down --node validator-003
      watchkeeper simulate fault tps-drop --end
    """  # noqa: D301 - to click, \b keeps lines apart
    from pipeline.local.fleet import main as fleet

    sys.exit(
        fleet.fault(settings_of(context), name, node=node, for_s=duration, end=end, as_json=as_json)
    )


@main.command()
@click.pass_context
def collect(context: click.Context) -> None:
    """Scrape targets, follow WebSocket feeds, probe health; put frames into Kafka.

    \b
    Examples:
      watchkeeper collect                         this machine alone
      WATCHKEEPER_COLLECT_SCRAPE_CONFIG=prometheus.yml watchkeeper collect
    """  # noqa: D301 - to click, \b keeps lines apart
    from pipeline.collect.main import run

    sys.exit(run(settings_of(context)))


@main.command()
@click.pass_context
def worker(context: click.Context) -> None:
    """Score every sample and evaluate the rules. Start more of them to share the partitions.

    \b
    Examples:
      watchkeeper worker
      WATCHKEEPER_RULES_FILES='rules/*.yml' watchkeeper worker
    """  # noqa: D301 - to click, \b keeps lines apart
    from pipeline.stream.main import run

    sys.exit(run(settings_of(context)))


@main.command()
@click.pass_context
def dispatch(context: click.Context) -> None:
    """Take alerts from Kafka and over Alertmanager's API v2, group them, notify receivers.

    \b
    Examples:
      watchkeeper dispatch
      WATCHKEEPER_DISPATCH_CONFIG_FILE=alertmanager.yml watchkeeper dispatch
    """  # noqa: D301 - to click, \b keeps lines apart
    from pipeline.dispatch.main import run

    sys.exit(run(settings_of(context)))


@main.command()
@click.pass_context
def export(context: click.Context) -> None:
    """Expose anomaly scores and alert states to Prometheus.

    \b
    Examples:
      watchkeeper export
      curl http://127.0.0.1:9466/metrics
    """  # noqa: D301 - to click, \b keeps lines apart
    from pipeline.export.main import run

    sys.exit(run(settings_of(context)))


def _when(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    from pipeline.replay.selection import parse_when

    if text is None:
        return None
    try:
        return parse_when(text, int(time.time() * 1000))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@main.command()
@click.argument("topic", type=click.Choice(["telemetry", "signals", "series", "alerts"]))
@click.option("--rejected", is_flag=True, help="Put back what was rejected from this topic.")
@click.option("--from", "since_ms", callback=_when, metavar="TIME", help="RFC 3339, or 2h (ago).")
@click.option("--to", "until_ms", callback=_when, metavar="TIME", help="The same; left out itself.")
@click.option(
    "--reason", "reasons", multiple=True, help="Only what was rejected for this; repeatable."
)
@click.option("--again", is_flag=True, help="Rejected records that were put back before, too.")
@click.option("--dry-run", is_flag=True, help="Count, and send nothing.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; asks nothing.")
@click.pass_context
def replay(
    context: click.Context,
    topic: str,
    rejected: bool,
    since_ms: int | None,
    until_ms: int | None,
    reasons: tuple[str, ...],
    again: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send records of a topic again: what was rejected, or a time range.

    A record goes back to its partition, in order. Rejected records go back once: a second run sends
    only what was rejected since. Times are those at which Kafka took the records.

    \b
    Examples:
      watchkeeper replay telemetry --rejected --dry-run
      watchkeeper replay telemetry --rejected --reason dictionary
      watchkeeper replay telemetry --from 2h --to 90m --yes
    """  # noqa: D301 - to click, \b keeps lines apart
    from pipeline.replay.main import run
    from pipeline.replay.selection import Request

    if not rejected and (reasons or again):
        raise click.UsageError("--reason and --again go with --rejected")
    if not rejected and since_ms is None:
        raise click.UsageError("expected --from (or --rejected): a whole topic is not sent again")
    if since_ms is not None and until_ms is not None and since_ms >= until_ms:
        raise click.UsageError("expected --from to be before --to")
    settings = settings_of(context)
    request = Request(topic, rejected, since_ms, until_ms, reasons, again)

    def ask(question: str) -> bool:
        return yes or as_json or click.confirm(question, err=True)

    sys.exit(run(settings, request, dry_run=dry_run, as_json=as_json, ask=ask))
