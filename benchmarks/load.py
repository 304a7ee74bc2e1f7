"""Who uses Finstage while it is measured: clients over HTTP, and an importer of news; each is a process of its own.

A process of this module reads its task as one line of JSON, and works until its standard input ends; then it writes
what it did. Each client draws from its own seed: the same seed asks for the same, in the same order.
"""

import asyncio
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
from base64 import urlsafe_b64encode
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks.processes import REPOSITORY

WORK: Final = "from benchmarks.load import work; work()"
TIMEOUT_S: Final = 60.0
"""As long as a client waits; it is an error then."""
END_S: Final = 90.0
YEAR: Final = timedelta(days=365)
PAGE: Final = 100
NO_STATUS: Final = 0
SIGNAL_TYPES: Final = ("ma20_cross_up", "ma50_cross_down", "golden_cross", "rsi_oversold", "bollinger_upper_touch")
HTML: Final = (
    "<article>\n<h1>{}</h1>\n<p>" + "What was said about it fills a paragraph or two. " * 30 + "</p>\n</article>\n"
)
FAR: Final = 2**62
"""Beyond every key."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What a request is made of."""

    rng: Random
    symbols: Sequence[str]
    edges: Sequence[int]
    """How many news there are about the symbols up to each."""
    end: date

    def symbol(self) -> str:
        """A symbol is asked about as often as it is written about."""
        return self.symbols[bisect_left(self.edges, self.rng.randint(1, self.edges[-1]))]

    def day(self, years: int) -> date:
        """Some day of the last years."""
        return self.end - timedelta(days=self.rng.randrange(365 * years))


Path_ = Callable[[Draw], str]


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of request."""

    name: str
    weight: int
    path: Path_


def _further_news(draw: Draw) -> str:
    place = json.dumps([f"{draw.day(2)}T00:00:00Z", FAR])
    return f"/api/market/news/{draw.symbol()}?cursor={urlsafe_b64encode(place.encode()).rstrip(b'=').decode()}"


def _prices(draw: Draw) -> str:
    end = draw.day(15)
    return f"/api/market/prices/{draw.symbol()}?start={end - YEAR}&end={end}&limit=300"


ROUTES: Final = (
    Route("news by symbol", 26, lambda draw: f"/api/market/news/{draw.symbol()}"),
    Route("news by symbol, further pages", 8, _further_news),
    Route("technical-analysis data", 14, lambda draw: f"/api/market/analysis/{draw.symbol()}?start={draw.end - YEAR}"),
    Route("trading signals of a symbol", 16, lambda draw: f"/api/market/signals?symbol={draw.symbol()}"),
    Route(
        "trading signals of a symbol and type",
        8,
        lambda draw: (
            f"/api/market/signals?symbol={draw.symbol()}&signal_type={draw.rng.choice(SIGNAL_TYPES)}&timeframe=1d"
        ),
    ),
    Route("latest trading signals", 6, lambda _draw: f"/api/market/signals?limit={PAGE // 2}"),
    Route("prices of a year", 12, _prices),
    Route(
        "report: signals of a symbol",
        2,
        lambda draw: f"/api/market/signals/performance?symbol={draw.symbol()}&timeframe=1d",
    ),
    Route("symbols", 6, lambda _draw: "/api/market/symbols"),
    Route("report: performance summary", 2, lambda _draw: "/api/database/performance-summary"),
)


@dataclass(frozen=True, slots=True)
class Task:
    """What the clients, or the importer, shall do."""

    port: int
    clients: int
    think_s: float
    """Between an answer and the next request, on the average: exponentially distributed."""
    seed: int
    symbols: Mapping[str, int]
    end: str
    batch: int
    """News per import."""
    pause_s: float
    """Between two imports."""


@dataclass(frozen=True, slots=True)
class Done:
    """One request, or one import."""

    at_s: float
    """When it began, as the system's clock has it."""
    name: str
    took_s: float
    ok: bool
    rows: int = 0


@dataclass(slots=True)
class Traffic:
    """Everything that was done; complete once the processes have ended."""

    requests: list[Done] = field(default_factory=list)
    imports: list[Done] = field(default_factory=list)


@contextmanager
def using(task: Task, environment: Mapping[str, str]) -> Iterator[Traffic]:
    """Clients ask and news come in until the block ends; then the traffic is known."""
    traffic = Traffic()
    with tempfile.TemporaryDirectory(prefix="finstage-load-") as folder:
        started = [_start(role, task, environment, Path(folder)) for role in ROLES]
        try:
            for process in started:
                _await_ready(process)
            yield traffic
        finally:
            ended = [_end(process) for process in started]
        if any(ended):
            raise RuntimeError(f"a client or the importer ended with {ended}")
        traffic.requests, traffic.imports = (_read(Path(folder) / role) for role in ROLES)


def quantile_ms(requests: Sequence[Done], share: float) -> float:
    """The nearest rank; NaN of nothing."""
    ordered = sorted(one.took_s for one in requests)
    return 1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def _start(role: str, task: Task, environment: Mapping[str, str], folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, role, str(folder / role)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment},
        cwd=REPOSITORY,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(task)) + "\n")
    process.stdin.flush()
    return process


def _await_ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    process.stdout.readline()  # or its end, which is noticed when it is asked to end


def _end(process: "subprocess.Popen[str]") -> int:
    assert process.stdin is not None
    with process:
        process.stdin.close()
        try:
            return process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _read(file: Path) -> list[Done]:
    return [Done(*one) for one in json.loads(file.read_text())]


async def _ask(task: Task, over: asyncio.Event) -> list[Done]:
    found: list[Done] = []
    await asyncio.gather(*(_client(task, number, over, found) for number in range(task.clients)))
    return found


async def _client(task: Task, number: int, over: asyncio.Event, found: list[Done]) -> None:
    rng = Random(f"{task.seed} {number}")
    edges = list(accumulate(task.symbols.values()))
    draw = Draw(rng, list(task.symbols), edges, date.fromisoformat(task.end))
    connection = _Connection(task.port)
    route = ROUTES[number % len(ROUTES)]  # so that none is missing, however short it takes
    while not await _within(over, rng.expovariate(1 / task.think_s)):
        path, began, at_s = route.path(draw), time.perf_counter(), time.time()
        status = await connection.status_of(path)
        found.append(Done(at_s, route.name, time.perf_counter() - began, status == 200))
        [route] = rng.choices(ROUTES, [one.weight for one in ROUTES])
    connection.close()


async def _within(over: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(over.wait(), seconds)
    except TimeoutError:
        return False
    return True


class _Connection:
    """One client's, kept open; only as much of HTTP as measuring needs, and little of the machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def status_of(self, path: str) -> int:
        """The answer's status, once all of it has come; zero without an answer.

        A server closes what was idle for long: that is no error, every client asks again then.
        """
        was_open = self._streams is not None
        try:
            return await asyncio.wait_for(self._get(path), TIMEOUT_S)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            return await self.status_of(path) if was_open else NO_STATUS
        except (OSError, EOFError, TimeoutError, ValueError):
            self.close()
            return NO_STATUS

    async def _get(self, path: str) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
        return int(head.split(" ", 2)[1])

    def close(self) -> None:
        """The next request connects anew."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _clients(task: Task) -> list[Done]:
    async def work() -> list[Done]:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        threading.Thread(target=_until_the_end, args=(lambda: loop.call_soon_threadsafe(over.set),)).start()
        return await _ask(task, over)

    return asyncio.run(work())


def _importer(task: Task) -> list[Done]:
    """As the command imports, and watched like every process of the application."""
    # Here: the clients' process does without the application.
    from app.common.infra.database.monitoring.query_monitor import query_monitor

    over = threading.Event()
    threading.Thread(target=_until_the_end, args=(over.set,)).start()
    found: list[Done] = []
    with query_monitor:
        while not over.wait(task.pause_s):
            found.append(_imported(task, len(found)))
    return found


def _imported(task: Task, number: int) -> Done:
    from app.common.infra.database.config.database_config import engine
    from app.market.ingest.news import import_news
    from app.market.ingest.rows import ImportStopped

    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(row) + "\n" for row in _news(task, number))
        file.flush()
        began, at_s = time.perf_counter(), time.time()
        try:
            rows, ok = import_news(engine, Path(file.name)).imported, True
        except ImportStopped:
            rows, ok = 0, False
    return Done(at_s, "import of news", time.perf_counter() - began, ok, rows)


def _news(task: Task, number: int) -> Iterator[dict[str, Any]]:
    rng = Random(f"{task.seed} news {number}")
    draw = Draw(rng, list(task.symbols), list(accumulate(task.symbols.values())), date.fromisoformat(task.end))
    now = datetime.now(UTC)
    for place in range(task.batch):
        title = f"News {time.time_ns()} {number}.{place}"
        yield {
            "symbol": draw.symbol(),
            "title": title,
            "source": f"source{rng.randrange(30)}.example",
            "published_at": (now - timedelta(seconds=rng.randrange(600))).isoformat(),
            "summary": "In short. " * 20,
            "html": HTML.format(title),
        }


def _until_the_end(tell: Callable[[], object]) -> None:
    sys.stdin.read()
    tell()


ROLES: Final[Mapping[str, Callable[[Task], list[Done]]]] = {"clients": _clients, "importer": _importer}


def work() -> None:
    """Works as told on the first line of standard input, and writes what it did into the named file."""
    role, file = sys.argv[1:]
    task = Task(**json.loads(sys.stdin.readline()))
    print("ready", flush=True)
    done = ROLES[role](task)
    rows = [[one.at_s, one.name, one.took_s, one.ok, one.rows] for one in done]
    Path(file).write_text(json.dumps(rows))
