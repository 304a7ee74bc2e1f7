"""How a command ended."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a shell is told."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    FINDINGS = 3
    """There is something to do, or to look at."""
    UNREACHABLE = 4
    """A database, or an archive, cannot be reached or failed."""
    REFUSED = 5
    """It could be done, but rows would suffer."""
    INTERRUPTED = 130
