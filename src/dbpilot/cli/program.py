"""The ``dbpilot`` command and its nouns."""

from importlib.metadata import version
from typing import Annotated

import typer

from dbpilot.cli.pool import pool

# Tracebacks without the values of variables, which may be secret.
program = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
program.add_typer(pool, name="pool")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("dbpilot"))
        raise typer.Exit


@program.callback()
def _dbpilot(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A database that looks after itself: what its pilots saw, asked from a shell.

    The history that they write is read, and no running service is asked. DBPILOT_HISTORY__URL names it; without that
    it is var/dbpilot.sqlite3.
    """
