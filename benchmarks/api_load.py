"""bench-api_load: what does it cost an application that somebody asks the API 200 times a second?

python -m benchmarks.api_load [--seconds 60] [--databases sqlite,mariadb] [--rounds 2]

Finstage serves as it always does, in one process. Its market routes are asked at a steady rate, whether it answers or
not (open loop: a request's time begins when it was due); from another process ``/api/database`` and ``/metrics`` are
asked as a dashboard and a Prometheus would. As a peer, the landing page is asked as often: a constant, which costs
what the web framework costs. Minutes with neither and with either take turns, so that a machine that drifts is seen.
Nothing is cached by the callers, and nothing is asked with If-None-Match.
"""

import argparse
import asyncio
import multiprocessing
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from benchmarks.processes import REPOSITORY, finstage, run, surroundings
from benchmarks.report import Figure, publish
from dbpilot.testing.servers import start_mariadb

SEED: Final = 7
APPLICATION_PER_S: Final = 20.0
API_PER_S: Final = 200.0
MARKET: Final = {
    "/api/market/symbols": 2,
    "/api/market/prices/AAPL?limit=100": 4,
    "/api/market/prices/IBM?start=2010-01-01&limit=250": 2,
    "/api/market/signals?symbol=MSFT&limit=50": 3,
    "/api/market/news/GOOG?limit=20": 2,
    "/api/market/analysis/AAPL": 1,
}
DATABASE: Final = {
    "/api/database/performance-summary": 3,
    "/api/database/queries?limit=10": 3,
    "/api/database/timeline?hours=1": 3,
    "/api/database/connection-pool": 3,
    "/api/database/query-stats?limit=50": 2,
    "/api/database/alerts": 2,
    "/api/database/health": 1,
    "/api/database/indexes/analysis": 1,
    "/metrics": 2,
}
"""Paths, and how often each is asked beside the others."""
CONSTANT: Final = {"/": 1}
SETTLE_S: Final = 2.0
"""The beginning of each minute is not counted."""
WARM_UP_S: Final = 15.0
"""The first analysis of the indexes falls into it."""
GIVE_UP_S: Final = 30.0


@dataclass(frozen=True)
class Load:
    """How often which paths are asked."""

    paths: Mapping[str, int]
    per_s: float
    length_s: float
    seed: int

    def requests(self) -> list[tuple[float, str]]:
        """What is asked, and when."""
        chance = random.Random(self.seed)
        at_s, found = chance.expovariate(self.per_s), []
        while at_s < self.length_s:
            found.append((at_s, chance.choices(list(self.paths), list(self.paths.values()))[0]))
            at_s += chance.expovariate(self.per_s)
        return found


@dataclass
class Seen:
    """What became of a load."""

    times_s: dict[str, list[float]] = field(default_factory=dict)
    """How long each answer took, by path."""
    errors: list[str] = field(default_factory=list)

    def add(self, other: "Seen") -> None:
        """What became of another one, too."""
        for path, times_s in other.times_s.items():
            self.times_s.setdefault(path, []).extend(times_s)
        self.errors += other.errors

    def quantile_ms(self, share: float) -> float:
        """Of all answers, whatever was asked."""
        times_s = sorted(time_s for some in self.times_s.values() for time_s in some)
        return times_s[int(share * len(times_s))] * 1000 if times_s else float("inf")


class Client:
    """Asks over connections that it keeps."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def status(self, path: str) -> int:
        """The status of the answer, once all of it is here."""
        reader, writer = await self._connection()
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAccept: */*\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
            await reader.readexactly(length)
        except BaseException:  # given up: what comes of it is nobody's answer
            writer.close()
            raise
        self._idle.append((reader, writer))
        return int(head[9:12])

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():  # the server closes those that nobody used for seconds
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        """Nothing is kept open."""
        for _, writer in self._idle:
            writer.close()


async def _asked(port: int, load: Load) -> Seen:
    client, seen, began = Client(port), Seen(), time.perf_counter()

    async def ask(due_s: float, path: str) -> None:
        try:
            status = await asyncio.wait_for(client.status(path), GIVE_UP_S)
        except (OSError, EOFError, TimeoutError) as error:
            seen.errors.append(f"{path}: {type(error).__name__}")
            return
        if status != 200:
            seen.errors.append(f"{path}: {status}")
        if due_s >= SETTLE_S:
            seen.times_s.setdefault(path, []).append(time.perf_counter() - began - due_s)

    async with asyncio.TaskGroup() as tasks:
        for due_s, path in load.requests():
            await asyncio.sleep(began + due_s - time.perf_counter())
            tasks.create_task(ask(due_s, path))
    client.close()
    return seen


def asked(port: int, load: Load) -> Seen:
    """What became of the load; it took its length."""
    return asyncio.run(_asked(port, load))


@contextmanager
def serving(env: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """A Finstage serves on this port, as this process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        finstage("serve"), env={**env, "FINSTAGE_PORT": str(port)}, cwd=REPOSITORY, stdout=quiet, stderr=quiet
    )
    try:
        _wait_for(port, process)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        finally:
            process.kill()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    give_up = time.monotonic() + 120
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def _cpu_s(pid: int) -> float:
    """Seconds of a core that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@dataclass
class Turns:
    """The minutes in which the application had the same beside it."""

    beside: Mapping[str, int] | None
    ours: Seen = field(default_factory=Seen)
    theirs: Seen = field(default_factory=Seen)
    p95_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    def add(self, ours: Seen, theirs: Seen, cpu_s: float) -> None:
        """One more minute."""
        self.ours.add(ours)
        self.theirs.add(theirs)
        self.p95_ms.append(ours.quantile_ms(0.95))
        self.cpu_s += cpu_s

    def moved(self, alone: "Turns") -> float:
        """The application's p95, in percent of what it was alone."""
        return (self.ours.quantile_ms(0.95) / alone.ours.quantile_ms(0.95) - 1) * 100


def figures(name: str, env: Mapping[str, str], seconds: float, rounds: int) -> Iterator[Figure]:
    """The application alone, beside a constant, and beside the API, in turns."""
    turns: tuple[Turns, Turns, Turns] = Turns(None), Turns(CONSTANT), Turns(DATABASE)
    clients = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
    with serving(env) as (port, pid), clients:
        _both(clients, port, WARM_UP_S, SEED, DATABASE)
        for number in range(rounds):
            for turn in turns:
                before_s = _cpu_s(pid)
                ours, theirs = _both(clients, port, seconds, SEED + number, turn.beside)
                turn.add(ours, theirs, _cpu_s(pid) - before_s)
    yield from _told(name, *turns)
    extra_ms = [(turn.cpu_s - turns[0].cpu_s) / (API_PER_S * seconds * rounds) * 1000 for turn in turns]
    yield Figure(f"{name}: CPU of one answer of the API", extra_ms[2], "ms", {"of the landing page": extra_ms[1]})


def _both(
    clients: ProcessPoolExecutor, port: int, length_s: float, seed: int, beside: Mapping[str, int] | None
) -> tuple[Seen, Seen]:
    ours = clients.submit(asked, port, Load(MARKET, APPLICATION_PER_S, length_s, seed))
    theirs: Future[Seen] | None = None
    if beside:
        theirs = clients.submit(asked, port, Load(beside, API_PER_S, length_s, seed + 1000))
    return ours.result(), theirs.result() if theirs else Seen()


def _told(name: str, alone: Turns, constant: Turns, api: Turns) -> Iterator[Figure]:
    for turns, beside in ((alone, "alone"), (api, f"beside {API_PER_S:.0f} requests/s")):
        each = {f"turn {number + 1}": value for number, value in enumerate(turns.p95_ms)}
        yield Figure(f"{name}: p95 of the application {beside}", turns.ours.quantile_ms(0.95), "ms", each)
    peers = {
        "beside as many for the landing page": constant.moved(alone),
        "of itself alone between the turns": (alone.p95_ms[-1] / alone.p95_ms[0] - 1) * 100,
    }
    moved = api.moved(alone)
    yield Figure(f"{name}: p95 of the application moved", moved, "%", peers, "less than 5 %", moved < 5)
    medians = {"alone": alone.ours.quantile_ms(0.5), "beside the landing page": constant.ours.quantile_ms(0.5)}
    yield Figure(f"{name}: median of the application beside them", api.ours.quantile_ms(0.5), "ms", medians)
    errors = [error for turns in (alone, constant, api) for seen in (turns.ours, turns.theirs) for error in seen.errors]
    for error in sorted(set(errors)):
        print(error)
    answered = sum(len(times) for times in api.theirs.times_s.values())
    yield Figure(f"{name}: answers that failed", len(errors), "", {"of the API's": answered}, "0", not errors)
    slowest = {path: sorted(times)[int(0.95 * len(times))] * 1000 for path, times in sorted(api.theirs.times_s.items())}
    yield Figure(f"{name}: p95 of the API", api.theirs.quantile_ms(0.95), "ms", slowest)


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api_load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long each turn lasts")
    parser.add_argument("--rounds", type=int, default=2, help="turns without and with the API's load")
    parser.add_argument("--databases", default="sqlite,mariadb")
    parser.add_argument("--dry", action="store_true", help="publish nothing")
    options = parser.parse_args(arguments)
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.databases.split(","):
            found += _on(name, Path(folder) / name, options.seconds, options.rounds)
    if options.dry:
        for one in found:
            print(f"{one.name}: {one.value:.4g} {one.unit}", one.peers)
    else:
        publish("api_load", SEED, found)


def _on(name: str, var: Path, seconds: float, rounds: int) -> list[Figure]:
    if name == "sqlite":
        return list(figures("SQLite", surroundings(var), seconds, rounds))
    with start_mariadb() as server:
        url = server.create_database("finstage").render_as_string(hide_password=False)
        env = surroundings(var, DATABASE_URL=url)
        run(finstage("migrate"), env)
        return list(figures("MariaDB", env, seconds, rounds))


if __name__ == "__main__":
    main()
