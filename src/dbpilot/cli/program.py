"""The ``dbpilot`` command and its nouns."""

from importlib.metadata import version
from typing import Annotated

import typer

from dbpilot.cli.cleanup import make_cleanup
from dbpilot.cli.demo import demo
from dbpilot.cli.doctor import make_doctor
from dbpilot.cli.health import make_health
from dbpilot.cli.indexes import make_indexes
from dbpilot.cli.key import key
from dbpilot.cli.pool import pool
from dbpilot.cli.queries import make_queries
from dbpilot.cli.serve import serve

# Tracebacks without the values of variables, which may be secret.
program = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
program.add_typer(pool, name="pool")
program.add_typer(make_cleanup(), name="cleanup")
program.add_typer(make_indexes(), name="indexes")
program.add_typer(make_queries(), name="queries")
program.command()(make_doctor())
program.command()(make_health())
program.command()(demo)
program.command()(serve)
program.add_typer(key, name="key")


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
    """A database that looks after itself: what its pilots saw, and what they do, from a shell.

    No running service is asked. DBPILOT_HISTORY__URL names the history that pilots write; without that it is
    var/dbpilot.sqlite3. Whatever changes a database is a dry run until --yes.
    """
