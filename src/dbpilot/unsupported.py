"""Unknown is not zero: what a database or a driver cannot tell."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Stands where a value would; says why there is none and what would change that."""

    reason: str
    fix: str
