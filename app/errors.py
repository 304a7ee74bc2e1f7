"""What Finstage refuses, or cannot do, and says in one line; every other exception is a defect."""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """How a command ended; docs/data.md explains each."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    FINDINGS = 3
    UNREACHABLE = 4
    REFUSED = 5
    INTERRUPTED = 130


class FinstageError(Exception):
    """The message says what happened and what to do."""

    exit_code: ClassVar[ExitCode] = ExitCode.INTERNAL


class UnusableInput(FinstageError):
    """What the user gave cannot be used."""

    exit_code = ExitCode.USAGE


class UnusableDatabaseURL(UnusableInput):
    """DATABASE_URL names no database that Finstage can use."""


class DatabaseFailed(FinstageError):
    """The database cannot be reached, or stopped working."""

    exit_code = ExitCode.UNREACHABLE


class RefusedForSafety(FinstageError):
    """It could be done, but data would suffer."""

    exit_code = ExitCode.REFUSED
