"""Every command of `watchkeeper`, thin: parse the arguments, call one function.

Exit codes: 0 done or stopped by a signal; 1 the thing asked for failed or found problems; 2 wrong
usage; 3 settings that can't be used; 4 a port is taken or a part is missing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from pipeline import __version__
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
    """
    default = Path("watchkeeper.toml")
    path = config or (default if default.exists() else None)
    context.obj = path


def settings_of(context: click.Context) -> Settings:
    """The settings, or exit 3 with every problem."""
    try:
        return load_settings(context.obj, os.environ)
    except SettingsError as error:
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(EXIT_SETTINGS)
