"""``dbpilot doctor``: what is off on a database, and what to paste."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from sqlalchemy import Connection, create_engine, insert, inspect, make_url
from sqlalchemy.exc import SQLAlchemyError

from dbpilot.cli.cleanup_parts import document
from dbpilot.cli.desk import Host, database
from dbpilot.cli.exit_code import ExitCode
from dbpilot.cli.history import History
from dbpilot.cli.hosted import without
from dbpilot.cli.options import AsJson, HistoryUrl, Url
from dbpilot.cli.render import Heading, Part, print_json, say, show
from dbpilot.cli.urls import engine_at, reason
from dbpilot.clock import SYSTEM
from dbpilot.config import PilotConfig
from dbpilot.dialects import dialect_of
from dbpilot.dialects.checkup import Ailment
from dbpilot.dialects.connections import OwnConnections
from dbpilot.errors import StoreError
from dbpilot.health import Checkup, Examined, checkup
from dbpilot.history import schema

BY: Final = "doctor"
NAMED: Final = ("url", "history")
"""Options of which a host knows the answer."""
MARKS: Final = {"red": "!!", "amber": " !", "note": " i", "unknown": " ?", "ok": "ok"}


def make_doctor(host: Callable[[], Host] | None = None) -> Callable[..., None]:
    """The command; that of a host, which is asked for when it is run, need not be told its database and its
    history."""

    def doctor(url: Url = None, history: HistoryUrl = None, as_json: AsJson = False) -> None:
        """Look for what is off on a database, and print what mends it. Nothing is changed.

        Ends with 3 when something is off, with 0 when nothing is; notes are no reason for either.

        Example: dbpilot doctor --url postgresql+psycopg://shop@localhost/shop
        """
        at = None if host is None else host()
        config = PilotConfig.from_env() if at is None else at.config
        at_history = history or config.history.url.get_secret_value()
        with database(at, url) as engine:
            found = checkup(engine, dialect_of(engine), OwnConnections(engine), SYSTEM, lambda: _of_history(at_history))
        if as_json:
            print_json(told(found))
        else:
            show(_parts(found), Console())
            say(_in_short(found))
        raise typer.Exit(ExitCode.FINDINGS if found.findings else ExitCode.OK)

    return doctor if host is None else without(doctor, NAMED)


def told(found: Checkup) -> dict[str, Any]:
    """The document that ``--json`` prints."""
    return {**document(checkup=found), "state": found.state}


def _of_history(url: str) -> Iterator[Ailment]:
    """What is off with the history; it is looked at, and not made."""
    known = History(url)
    try:
        why_not = _of_file(known, url) if make_url(url).get_backend_name() == "sqlite" else _of_server(url, known.place)
    except StoreError as error:
        fix = "start the application with a pilot, or name its history with --history URL or DBPILOT_HISTORY__URL"
        yield Ailment("amber", str(error), "there is nothing to show but what is so at this moment", fix)
        return
    if why_not is not None:
        why = "pilots keep what they see in memory, and lose it"
        fix = "let the application's account write there, or name another with DBPILOT_HISTORY__URL"
        yield Ailment("red", f"the history at {known.place} cannot be written: {why_not}", why, fix)


def _of_file(known: History, url: str) -> str | None:
    """Why a file cannot be written."""
    known.databases()
    path = Path(make_url(url).database or "").resolve()
    refused = [one for one in (path, path.parent) if not os.access(one, os.W_OK)]
    return f"{refused[0]} is read-only for this account" if refused else None


def _of_server(url: str, where: str) -> str | None:
    """Why a row cannot be written, which is tried and taken back.

    Raises:
        StoreError: there is no history, or it cannot be reached.
    """
    engine = engine_at(url, "the history's", lambda parsed: create_engine(parsed, hide_parameters=True))
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(schema.claims.name):
                raise StoreError(f"there is no history in {where}")
            return _refusal(connection)
    except SQLAlchemyError as error:
        raise StoreError(f"the history at {where} cannot be read: {reason(engine.url, error)}") from None
    finally:
        engine.dispose()


def _refusal(connection: Connection) -> str | None:
    try:
        connection.execute(insert(schema.claims), {"database": BY, "key": BY, "holder": BY, "until_s": 0.0})
    except SQLAlchemyError as error:
        return reason(connection.engine.url, error)
    finally:
        connection.rollback()
    return None


def _parts(found: Checkup) -> Iterator[Part]:
    version = f" {found.database.version}" if found.database.version else ""
    yield Heading(f"{found.database.product}{version} at {found.place}")
    for one in found.checks:
        yield from _examined_parts(one)


def _examined_parts(one: Examined) -> Iterator[str]:
    if one.state == "ok":
        yield f"ok  {one.hope}"
    elif one.state == "unknown":
        yield f" ?  {one.hope}: unknown, {one.reason}"
    for ailment in one.found:
        yield f"{MARKS[ailment.severity]}  {ailment.what}"
        yield f"      {ailment.why}"
        yield from (f"      > {line}" for line in ailment.fix.splitlines())


def _in_short(found: Checkup) -> str:
    notes = sum(ailment.severity == "note" for one in found.checks for ailment in one.found)
    unknown = sum(one.state == "unknown" for one in found.checks)
    well = sum(one.state == "ok" for one in found.checks)
    return f"{len(found.findings)} to mend, {notes} to know, {unknown} unknown, {well} well"
