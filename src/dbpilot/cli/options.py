"""Options that several commands have, and settings that a command line changes."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError

from dbpilot.errors import ConfigError

Section = TypeVar("Section", bound=BaseModel)

Url = Annotated[
    str | None, typer.Option(metavar="URL", help="The database, as SQLAlchemy writes it (default: DATABASE_URL).")
]
HistoryUrl = Annotated[
    str | None,
    typer.Option(
        "--history", metavar="URL", help="Where the history is, as SQLAlchemy writes it (default: what DBPILOT_* says)."
    ),
]
Database = Annotated[
    str | None, typer.Option(help="Of which watched database: its place in the history, or a part of it.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this it is a dry run.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def changed(section: Section, given: Mapping[str, Any]) -> Section:
    """The settings, with what was given on the command line.

    Raises:
        ConfigError: together they make no sense.
    """
    try:
        return type(section).model_validate({**section.model_dump(), **given})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise ConfigError(f"{where}{first['msg'].removeprefix('Value error, ')}") from None
