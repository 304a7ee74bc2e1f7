"""``dbpilot key``: keys for the API, the dashboard and the metrics."""

import json
import os
from pathlib import Path
from typing import Annotated, Final

import typer

from dbpilot.cli.options import AsJson
from dbpilot.config import PilotConfig
from dbpilot.errors import ConfigError
from dbpilot.web.keys import NAME, Role, new_key, written

SCHEMA: Final = 1
READABLE_BY_OWNER: Final = 0o600

key = typer.Typer(no_args_is_help=True, help="Keys: who may look, and who may change what.")


@key.callback()
def _key() -> None:
    """Keys: who may look, and who may change what."""


@key.command("new")
def new(
    role: Annotated[str, typer.Option(help="metrics, viewer, operator or admin.")],
    name: Annotated[str | None, typer.Option(help="Whose it is; activity says so (default: your user's name).")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Add the line to this file, which DBPILOT_WEB__KEYS_FILE names.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, print it this once, and print the line to configure, which holds only its hash.

    Example: dbpilot key new --role operator --name alice
    """
    made = new_key(name or _user(), Role.named(role.lower()))
    if file is not None:
        _append(file, made.hash.line)
    setting = _setting(made.hash.line, file)
    if as_json:
        told = {"key": made.secret, "name": made.hash.name, "role": made.hash.role.title, "setting": setting}
        typer.echo(json.dumps({"schema": SCHEMA, **told}))
        return
    typer.echo(f"The key of {made.hash.name}, {made.hash.role.title}; it is not shown again:\n\n    {made.secret}\n")
    typer.echo(f"Configure it, and start again:\n\n    {setting}")


def _setting(line: str, file: Path | None) -> str:
    """What the environment has to say: the keys that it names already, and this one."""
    if file is not None:
        return f"DBPILOT_WEB__KEYS_FILE={file.absolute()}"
    known = [secret.get_secret_value() for secret in PilotConfig.from_env().web.keys]
    return written([*known, line])


def _append(file: Path, line: str) -> None:
    try:
        with open(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, READABLE_BY_OWNER), "a") as opened:  # noqa: PTH123 - it is made with this mode
            opened.write(f"{line}\n")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from None


def _user() -> str:
    """Who is logged in, as far as that can stand in a line."""
    name = os.environ.get("USER", "")
    return name if NAME.fullmatch(name) else "me"
