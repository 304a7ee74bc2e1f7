"""Where the ``dbpilot`` command begins, whether or not what it needs is installed."""

import sys
from typing import Final

from dbpilot.cli.exit_code import ExitCode
from dbpilot.errors import (
    ConfigError,
    NotThereError,
    PilotError,
    RefusedError,
    RetentionError,
    StoreError,
    WatchedDatabaseError,
)

NEEDED: Final = ("typer", "rich")
ENDINGS: Final = (
    ((StoreError, WatchedDatabaseError, RetentionError), ExitCode.UNREACHABLE),
    ((RefusedError,), ExitCode.REFUSED),
    ((ConfigError, NotThereError), ExitCode.USAGE),
)


def main() -> None:
    """Runs the command that the arguments name, and ends the program with its exit code."""
    try:
        _run()
    except PilotError as error:
        print(f"dbpilot: {error}", file=sys.stderr)  # noqa: T201 - this is a program
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _run() -> None:
    try:
        from dbpilot.cli.program import program
    except ModuleNotFoundError as error:
        needed = (error.name or "").partition(".")[0]
        if needed not in NEEDED:
            raise
        sys.exit(f"dbpilot: the command line needs {needed}: pip install 'dbpilot[cli]'")
    program(prog_name="dbpilot")


def exit_code_of(error: PilotError) -> ExitCode:
    """How a program ends that cannot go on because of this."""
    known = (code for kinds, code in ENDINGS if isinstance(error, kinds))
    return next(known, ExitCode.INTERNAL)


if __name__ == "__main__":
    main()
