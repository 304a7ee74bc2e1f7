"""Whole programs, measured from outside."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[1]
KIB_PER_MIB: Final = 1024
POLL_S: Final = 0.01


@dataclass(frozen=True)
class Run:
    """One run of a program, to its end."""

    wall_s: float
    peak_mib: float


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
    peak_mib = 0.0
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=env, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak_mib = max(peak_mib, _peak_mib(process.pid))
            time.sleep(POLL_S)
        wall_s = time.perf_counter() - started
        output.seek(0)
        printed = output.read().decode(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {printed}")
    return Run(wall_s, peak_mib)


def _peak_mib(pid: int) -> float:
    """The highest memory so far. Not from getrusage: that counts what the parent had when it forked."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return next((int(line.split()[1]) / KIB_PER_MIB for line in lines if line.startswith("VmHWM:")), 0.0)
