"""Finstage as its user runs it, and what that user asks of it over HTTP."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from sqlalchemy import URL

from benchmarks.processes import REPOSITORY, surroundings

HOST: Final = "127.0.0.1"
START_S: Final = 120.0
STOP_S: Final = 60.0
ANSWER_S: Final = 180.0
POLL_S: Final = 0.5
ALL_HOURS: Final = 24
OPEN: Final = ("planned", "building", "watching", "finishing", "reverting")
"""Steps of a change that is not over."""
QUIET_S: Final = 180.0
"""When nothing was changed for so long, nothing will be, though steps are missing."""
PLANNED_S: Final = 900.0
"""Counting what is due reads whole tables, beside everything else."""
OURS: Final = "dbpilot_"
"""Tables of this prefix are the pilot's own."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The statements of all processes up to a moment."""

    calls: int
    slow: int
    errors: int
    total_s: float

    def since(self, before: "Counts") -> "Counts":
        """Those that came after another moment."""
        calls, slow, errors = self.calls - before.calls, self.slow - before.slow, self.errors - before.errors
        return Counts(calls, slow, errors, self.total_s - before.total_s)

    @property
    def mean_ms(self) -> float:
        """How long one took."""
        return 1000 * self.total_s / max(1, self.calls)

    @property
    def slow_share(self) -> float:
        """How many of them were slow."""
        return self.slow / max(1, self.calls)


@dataclass(frozen=True, slots=True)
class Indexes:
    """What dbpilot thinks of them."""

    score: float | None
    size_bytes: int
    steps: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Site:
    """A running Finstage."""

    port: int
    environment: Mapping[str, str]
    log: Path

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """What it answers.

        Raises:
            RuntimeError: it refuses; says why.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = Request(f"http://{HOST}:{self.port}{path}", data=data, method=method, headers=headers)
        try:
            with urlopen(request, timeout=ANSWER_S) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from None

    def counts(self) -> Counts:
        """The statements so far, as dbpilot counts them."""
        totals = self.ask(f"/api/database/performance-summary?hours={ALL_HOURS}")["queries"]
        total_s = totals["calls"] * (totals["mean_s"] or 0.0)
        return Counts(totals["calls"], totals["slow"], totals["errors"], total_s)

    def indexes(self, since_s: float, patience_s: float) -> Indexes:
        """An analysis that was made after this moment.

        Raises:
            TimeoutError: there was none in time; tells the last answer's state.
        """
        found: dict[str, Any] = {}

        def is_there() -> bool:
            found.update(self.ask("/api/database/indexes/analysis"))
            return bool(found["as_of"] and _seconds(found["as_of"]) >= since_s and found["status"] != "running")

        if not waited(is_there, patience_s):
            raise TimeoutError(f"no analysis of the indexes: {found.get('status')}, {found.get('error')}")
        return Indexes(found["score"], _index_bytes(found["tables"]), found["steps"])

    def apply(self, ids: Sequence[str], patience_s: float) -> list[dict[str, Any]]:
        """The steps are taken, and judged; returns what became of all that were ever taken."""
        earlier = sum(change["number"] is not None for change in self.ask("/api/database/indexes/changes"))
        self.ask("/api/database/indexes/apply?dry_run=false", "POST", {"ids": list(ids)})
        quiet_since_s = [time.monotonic()]

        def is_over() -> bool:
            changes = self.ask("/api/database/indexes/changes")
            if any(change["step"] in OPEN for change in changes):
                quiet_since_s[0] = time.monotonic()
            quiet_s = time.monotonic() - quiet_since_s[0]
            return quiet_s >= (QUIET_S if len(changes) < earlier + len(ids) else 0) and not any(
                change["step"] in OPEN for change in changes
            )

        waited(is_over, patience_s)
        changes: list[dict[str, Any]] = self.ask("/api/database/indexes/changes")
        return changes

    def clean(self, run_s: float, patience_s: float) -> dict[str, Any]:
        """Retention ran for so long once it was planned, or to its end; returns what it tells of that."""
        self.ask("/api/database/cleanup/run?dry_run=false", "POST")
        waited(lambda: bool((running := self._cleans()) is None or running["progress"]), PLANNED_S)
        waited(lambda: self._cleans() is None, run_s)
        self.ask("/api/database/cleanup/cancel", "POST")
        waited(lambda: self._cleans() is None, patience_s)
        [last, *_] = self.ask("/api/database/cleanup")["last_runs"]
        return dict(last)

    def _cleans(self) -> dict[str, Any] | None:
        running: dict[str, Any] | None = self.ask("/api/database/cleanup")["running"]
        return running

    def pool(self, since_s: float) -> list[dict[str, Any]]:
        """How the serving process's pool was from this moment on, oldest first: that one is asked for most."""
        samples = self.ask(f"/api/database/connection-pool/metrics?hours={ALL_HOURS}")["samples"]
        late = [one for one in samples if _seconds(one["sample"]["at"]) >= since_s]
        asked: dict[str, int] = {}
        for one in late:
            asked[one["process"]] = asked.get(one["process"], 0) + one["sample"]["checkouts"]
        return [one["sample"] for one in late if one["process"] == max(asked, key=lambda name: asked[name])]


def waited(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


@contextmanager
def serving(url: URL, var: Path, settings: Mapping[str, str]) -> Iterator[Site]:
    """The application answers until the block ends.

    By uvicorn itself: ``finstage serve`` would bring the tables up to date first, and with them their indexes.
    """
    address = url.render_as_string(hide_password=False)
    environment = surroundings(var, DATABASE_URL=address, **settings)
    port, log = _free_port(), var / "served.log"
    command = [sys.executable, "-m", "uvicorn", "app.main:create_app", "--factory", "--port", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, "--no-access-log"], env=environment, cwd=REPOSITORY, stdout=output, stderr=output
        )
    site = Site(port, environment, log)
    try:
        if not waited(lambda: _answers(site) or process.poll() is not None, START_S) or process.poll() is not None:
            raise RuntimeError(f"Finstage does not answer: {log.read_text()[-2000:]}")
        yield site
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(site: Site) -> bool:
    try:
        return bool(site.ask("/healthz"))
    except (OSError, RuntimeError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _index_bytes(tables: Sequence[Mapping[str, Any]]) -> int:
    """Of all indexes of the application's tables but their primary keys, in which MariaDB keeps the rows."""
    return sum(
        index["size_bytes"] or 0
        for table in tables
        if not table["name"].startswith(OURS)
        for index in table["indexes"]
        if index["constraint"] != "PRIMARY KEY"
    )


def _seconds(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp()
