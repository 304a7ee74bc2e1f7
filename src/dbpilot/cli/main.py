"""Where the ``dbpilot`` command begins, whether or not what it needs is installed."""

import sys
from typing import Final

from dbpilot.cli.exit_code import ExitCode
from dbpilot.errors import ConfigError, PilotError, StoreError

NEEDED: Final = ("typer", "rich")


def main() -> None:
    """Runs the command that the arguments name, and ends the program with its exit code."""
    try:
        _run()
    except PilotError as error:
        print(f"dbpilot: {error}", file=sys.stderr)  # noqa: T201 - this is a program
        sys.exit(_exit_code(error))
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


def _exit_code(error: PilotError) -> ExitCode:
    if isinstance(error, StoreError):
        return ExitCode.UNREACHABLE
    return ExitCode.USAGE if isinstance(error, ConfigError) else ExitCode.INTERNAL


if __name__ == "__main__":
    main()
