"""The ``finstage`` command: data on stdout, everything said about it on stderr, the outcome in the exit code."""

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from app.errors import DatabaseFailed, ExitCode, FinstageError, RefusedForSafety, UnusableInput
from app.progress import Progress
from app.settings import Settings
from app.terminal import progress_shown, say

# Commands import what they need when they run: `finstage --help` does not wait for a database driver.
if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.engine import URL

    from app.market.ingest.rows import BadRow, Counts
    from dbpilot.cli.desk import Host

GRACE_S = 10
"""How long requests that are under way may take to end after Ctrl-C."""
KEEP_ALIVE_S = 75
"""Longer than proxies keep an idle connection: who ends it first meets no request that is on its way."""


def _said_in_a_line(run: "Callable[[], Any]") -> Any:
    """What dbpilot cannot do, or refuses, is said in one line, and is the exit code."""
    from dbpilot import PilotError
    from dbpilot.cli.main import exit_code_of

    try:
        return run()
    except PilotError as error:
        say(f"finstage: {error}")
        raise typer.Exit(exit_code_of(error)) from None


class FromDbpilot(TyperGroup):
    """dbpilot's commands of one kind, with Finstage's database and wishes; made when one of them is asked for."""

    def made(self) -> Any:
        """The commands."""
        raise NotImplementedError

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        names: list[str] = self.made().list_commands(ctx)
        return names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name."""
        return self.made().get_command(ctx, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """The command was run."""
        return _said_in_a_line(partial(super().invoke, ctx))


class Cleanup(FromDbpilot):
    """Those about retention."""

    def made(self) -> Any:
        """The commands."""
        from dbpilot.cli.cleanup import make_cleanup

        return typer.main.get_command(make_cleanup(_host))


class Indexes(FromDbpilot):
    """Those about indexes."""

    def made(self) -> Any:
        """The commands."""
        from dbpilot.cli.indexes import make_indexes

        return typer.main.get_command(make_indexes(_host))


class Queries(FromDbpilot):
    """Those about statements."""

    def made(self) -> Any:
        """The commands."""
        from dbpilot.cli.queries import make_queries

        return typer.main.get_command(make_queries(_host))


def _host() -> "Host":
    from dbpilot.cli.desk import Host

    _settings()
    from app.common.infra.database.config.database_config import engine
    from app.common.infra.database.maintenance.data_cleanup import RULES
    from app.common.infra.database.monitoring.query_monitor import pilot_config
    from app.common.infra.database.optimization.index_optimizer import RECOMMENDED

    return Host("finstage", engine, RULES, pilot_config(), RECOMMENDED)


# Tracebacks without the values of variables, which may be secret.
finstage = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
imports = typer.Typer(no_args_is_help=True, help="Bring in data of your own: prices or news.")
finstage.add_typer(imports, name="import")
finstage.add_typer(
    typer.Typer(no_args_is_help=True, cls=Cleanup, help="Retention: what is old is archived, and only then deleted."),
    name="cleanup",
)
finstage.add_typer(
    typer.Typer(no_args_is_help=True, cls=Indexes, help="Indexes: too few, too many; proven before it is said."),
    name="indexes",
)
finstage.add_typer(
    typer.Typer(no_args_is_help=True, cls=Queries, help="Statements: what runs, how often, how long, from which line."),
    name="queries",
)

File = Annotated[Path, typer.Argument(help="The file; docs/data.md shows its formats.", show_default=False)]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first bad row and change nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]
Document = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def main() -> None:
    """Runs the command that the arguments name, and ends the program with its exit code."""
    try:
        finstage()
    except FinstageError as error:
        say(f"finstage: {error}")
        sys.exit(error.exit_code)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("finstage-market-data"))
        raise typer.Exit


@finstage.callback()
def _finstage(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Finstage Market Data: daily prices, news and technical signals.

    DATABASE_URL names the database; without it everything lives in one SQLite file under var/.
    """


@finstage.command()
def serve() -> None:
    """Serve the application; bring the tables up to date and load the sample prices first.

    Example: FINSTAGE_PORT=8082 finstage serve
    """
    try:
        _serve(_settings())
    except KeyboardInterrupt:
        say("stopped")


@finstage.command()
def migrate(
    revision: Annotated[str, typer.Option(help="Where to go, forward or back: 0001, 0002 or head.")] = "head",
) -> None:
    """Bring the tables to a revision; the data in them is kept.

    Example: finstage migrate
    """
    from app import migrate as migrations

    with _database() as engine:
        before = migrations.current(engine)
        migrations.move(engine, revision)
        typer.echo(_moved(engine.url, before, migrations.current(engine)))


@imports.command("prices")
def import_prices(
    file: File,
    symbol: Annotated[
        str | None, typer.Option(help="Whose prices these are, where the file has no such column (default: its name).")
    ] = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Import daily prices from CSV or Parquet; what is there already stays.

    Example: finstage import prices examples/prices.csv
    """
    from app.market.ingest import prices

    _import(
        file,
        as_json,
        lambda engine, tell, progress: prices.import_prices(
            engine, file, symbol=symbol, strict=strict, tell=tell, progress=progress
        ),
    )


@imports.command("news")
def import_news(file: File, strict: Strict = False, as_json: Json = False) -> None:
    """Import news from JSON Lines; what is there already is skipped.

    Example: finstage import news examples/news.jsonl
    """
    from app.market.ingest import news

    _import(
        file,
        as_json,
        lambda engine, tell, progress: news.import_news(engine, file, strict=strict, tell=tell, progress=progress),
    )


@finstage.command()
def signals() -> None:
    """Compute the signals of all symbols and their outcomes from the prices; run it after an import.

    Example: finstage signals
    """
    from app.market.refresh import compute_signals

    with _current_database() as engine, progress_shown() as progress:
        counts = compute_signals(engine, progress=progress)
    typer.echo(f"signals {counts.signals}, outcomes {counts.outcomes}")


@finstage.command()
def generate(
    news: Annotated[int, typer.Option(min=0, help="How many pieces of news.")] = 2_000_000,
    signals: Annotated[int, typer.Option(min=0, help="How many signals, each with an outcome.")] = 5_000_000,
    symbols: Annotated[int, typer.Option(min=1, help="How many symbols.")] = 1_000,
    years: Annotated[int, typer.Option(min=1, help="How many years of history.")] = 20,
    seed: Annotated[int, typer.Option(help="The same seed makes the same data.")] = 7,
) -> None:
    """Fill the database with made-up market data, for measuring.

    Example: finstage generate --news 2_000_000 --signals 5_000_000 --seed 7
    """
    from app import migrate as migrations
    from app.market.generate import Plan, generate

    plan = Plan(news=news, signals=signals, symbols=symbols, years=years, seed=seed)
    with _database() as engine, progress_shown() as progress:
        migrations.require_tables(engine)  # any revision: how the indexes of the first one do is to be measured too
        counts = generate(engine, plan, progress)
    typer.echo(", ".join(f"{table} {count}" for table, count in counts.items()))


@finstage.command()
def doctor(as_json: Document = False) -> None:
    """Look for what is off on the database, and print what mends it. Nothing is changed.

    Ends with 3 when something is off, with 0 when nothing is; notes are no reason for either.
    """
    from dbpilot.cli.doctor import make_doctor

    _said_in_a_line(partial(make_doctor(_host), as_json=as_json))


@finstage.command()
def health(
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 366, help="How far back to look.")] = 1,
    as_json: Document = False,
) -> None:
    """Say in one line whether the database is well. Ends with 0 when it is, with 3 when it is not, with 4 when the
    history cannot be read.

    Example: finstage health || mail -s "database" you@example.com
    """
    from dbpilot.cli.health import make_health

    _said_in_a_line(partial(make_health(_host), hours=hours, as_json=as_json))


def _import(file: Path, as_json: bool, run: "Callable[[Engine, Callable[[BadRow], None], Progress], Counts]") -> None:
    from app.market.ingest.rows import Counts, ImportStopped, StrictlyRefused

    def tell(bad: "BadRow") -> None:
        say(f"{file}:{bad.line}: {bad.reason}")

    with _current_database() as engine:
        try:
            with progress_shown() as progress:
                counts = run(engine, tell, progress)
        except StrictlyRefused as refused:
            tell(refused.bad)
            say("nothing was changed")
            counts = Counts(refused=1)
        except ImportStopped as stopped:
            say(_what_is_safe(file, stopped.counts))
            raise stopped.cause from None
    typer.echo(_summary(file, counts, as_json))
    if counts.refused:
        raise typer.Exit(ExitCode.FINDINGS)


def _summary(file: Path, counts: "Counts", as_json: bool) -> str:
    if as_json:
        return json.dumps({"file": str(file), **asdict(counts)})
    return f"imported {counts.imported}, already there {counts.already_there}, refused {counts.refused} ({file})"


def _what_is_safe(file: Path, counts: "Counts") -> str:
    saved = counts.imported + counts.already_there
    if not saved:
        return f"stopped: nothing of {file} was imported; run the same command again"
    return f"stopped: {saved:,} rows of {file} are safely in the database; run the same command again for the rest"


def _serve(settings: Settings) -> None:
    import uvicorn

    _load_application()
    with _listening(settings) as listener:
        _prepare(settings)
        typer.echo(f"Finstage Market Data: http://{settings.host}:{listener.getsockname()[1]} (Ctrl-C ends it)")
        server = uvicorn.Server(
            uvicorn.Config(
                "app.main:create_app",
                factory=True,
                timeout_graceful_shutdown=GRACE_S,
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        server.run(sockets=[listener])
    if not server.started:
        raise typer.Exit(ExitCode.INTERNAL)


def _load_application() -> None:
    """The application can be imported, and may listen where it shall: what is wrong with its settings is said before
    any work is done."""
    from dbpilot import PilotConfig, PilotError
    from dbpilot.errors import RefusedError
    from dbpilot.web.keys import refuse_open

    settings = _settings()
    try:
        refuse_open(settings.host, PilotConfig.from_env().web, "FINSTAGE_HOST")
        from app import main  # noqa: F401 - uvicorn makes the application of it later
    except RefusedError as error:
        raise RefusedForSafety(str(error)) from None
    except PilotError as error:
        raise UnusableInput(str(error)) from None


def _prepare(settings: Settings) -> None:
    """The tables are up to date, and there is something in them."""
    from app import migrate as migrations

    with _database() as engine:
        before = migrations.current(engine)
        migrations.upgrade(engine)
        after = migrations.current(engine)
        if before != after:
            say(_moved(engine.url, before, after))
        if settings.sample_data:
            _load_sample(engine)


def _load_sample(engine: "Engine") -> None:
    from app.market.sample import load_sample

    with progress_shown() as progress:
        loaded = load_sample(engine, progress)
    if loaded:
        say("loaded the sample prices of AAPL, FB, GOOG, IBM and MSFT, 2000-2013")


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    """The port is ours before any work is done for it."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family)
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else str(error)
        raise UnusableInput(
            f"cannot listen on {settings.host} port {settings.port}: {reason}; choose another with FINSTAGE_PORT "
            "(or FINSTAGE_HOST)"
        ) from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else the end of an answer waits up to 40 ms
    with listener:
        yield listener


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "_".join(map(str, first["loc"])).upper()
        raise UnusableInput(f"FINSTAGE_{name.removeprefix('FINSTAGE_')}: {first['msg']}") from None


@contextmanager
def _current_database() -> "Iterator[Engine]":
    """The database, with its tables as this program needs them."""
    from app import migrate as migrations

    with _database() as engine:
        migrations.require_head(engine)
        yield engine


@contextmanager
def _database() -> "Iterator[Engine]":
    """The database that DATABASE_URL names; when it fails, one line says so and repeats no password."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    _settings()
    from app.common.infra.database.config.database_config import engine  # reads the environment when imported

    try:
        try:
            engine.connect().close()
        except (DBAPIError, OSError, TypeError) as error:  # drivers refuse an option of the address by a TypeError
            raise DatabaseFailed(_why(engine.url, error)) from None
        yield engine
    except (OperationalError, InterfaceError) as error:
        raise DatabaseFailed(_why(engine.url, error)) from None
    finally:
        engine.dispose()


def _why(url: "URL", error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    said = original if isinstance(original, OSError) or not original.args else original.args[-1]
    reason = (str(said).splitlines() or [""])[0].rstrip(".")
    if url.password:
        reason = reason.replace(url.password, "***")
    reached = getattr(error, "statement", None) is not None
    return f"the database at {_place(url)} cannot be used: {reason}.{'' if reached else _hint(url)}"


def _hint(url: "URL") -> str:
    if url.host is None:
        return " Is the path right, and may this user write there?"
    return " Is it running, and is DATABASE_URL right?"


def _place(url: "URL") -> str:
    """Where the database is, without the secrets that its address may hold."""
    if url.host is None:
        return str(url.database)
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()}://{url.host}{port}/{url.database or ''}"


def _moved(url: "URL", before: str | None, after: str | None) -> str:
    if before == after:
        return f"the tables in {_place(url)} are at revision {after}"
    return f"the tables in {_place(url)} are at revision {after} now (before: {before or 'none'})"


if __name__ == "__main__":
    main()
