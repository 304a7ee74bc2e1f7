"""Whole programs, measured from outside."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[1]
KIB_PER_MIB: Final = 1024


@dataclass(frozen=True)
class Run:
    """One run of a program, to its end."""

    wall_s: float
    peak_mib: float
    output: str


def surroundings(var: Path, **settings: str) -> dict[str, str]:
    """An environment with no database and no folder but those given."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_URL", "FINSTAGE_", "DBPILOT_"))}
    return {**inherited, "FINSTAGE_VAR": str(var), **settings}


def finstage(*arguments: str) -> list[str]:
    """The command line of the application."""
    return [sys.executable, "-m", "app.cli", *arguments]


def run(command: Sequence[str], env: Mapping[str, str]) -> Run:
    """The command ran to its end; time and the process's own peak memory.

    Raises:
        RuntimeError: it did not end well; says what it printed.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, env=env, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {output}")
    return Run(time.perf_counter() - started, usage.ru_maxrss / KIB_PER_MIB, output)
