"""How a command ended."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a shell is told; what refuses to change a database will be 5."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    UNREACHABLE = 4
    INTERRUPTED = 130
