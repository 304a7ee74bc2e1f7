"""bench-first: how fast own data comes in, and how long a start takes.

python -m benchmarks.first [--rows 1000000] [--news 200000]
"""

import argparse
import csv
import json
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from benchmarks.processes import REPOSITORY, finstage, run, surroundings
from benchmarks.report import Figure, publish
from dbpilot.testing.servers import start_mariadb, start_postgresql

SEED: Final = 7
STARTS: Final = 5
PANDAS: Final = "pandas to_sql, unchecked"

PANDAS_PRICES: Final = """
import sys, pandas, sqlalchemy
engine = sqlalchemy.create_engine("sqlite:///" + sys.argv[2])
for chunk in pandas.read_csv(sys.argv[1], chunksize=10_000, parse_dates=["date"]):
    chunk.to_sql("daily_prices", engine, if_exists="append", index=False)
"""
PANDAS_NEWS: Final = """
import sys, pandas, sqlalchemy
engine = sqlalchemy.create_engine("sqlite:///" + sys.argv[2])
for chunk in pandas.read_json(sys.argv[1], lines=True, chunksize=10_000):
    chunk.to_sql("contents", engine, if_exists="append", index=False)
"""
BARE_APPLICATION: Final = """
import sys, fastapi, uvicorn
application = fastapi.FastAPI()
application.get("/healthz")(lambda: {})
uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""


def write_prices(path: Path, rows: int) -> None:
    """Plain CSV, symbol by symbol, days without end in sight."""
    rng = random.Random(SEED)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["symbol", "date", "open", "high", "low", "close", "volume"])
        for number in range(rows):
            symbol, day = divmod(number, 5000)
            price = 50 + rng.random() * 100
            prices = [f"{price * factor:.4f}" for factor in (1.0, 1.01, 0.99, 1.005)]
            writer.writerow([f"B{symbol:04}", date(2000, 1, 1) + timedelta(days=day), *prices, rng.randrange(10**8)])


def write_news(path: Path, rows: int) -> None:
    """JSON Lines with bodies of about a kilobyte."""
    rng = random.Random(SEED)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(2000)]
    start = datetime(2020, 1, 1, tzinfo=UTC)
    with path.open("w") as file:
        for number in range(rows):
            piece = {
                "symbol": f"B{rng.randrange(200):04}",
                "title": f"{' '.join(rng.choices(words, k=8))} {number}",
                "summary": " ".join(rng.choices(words, k=30)),
                "html": " ".join(rng.choices(words, k=150)),
                "source": f"source{rng.randrange(30)}",
                "published_at": (start + timedelta(minutes=number)).isoformat(),
            }
            file.write(json.dumps(piece) + "\n")


def imports(folder: Path, databases: Mapping[str, dict[str, str]], rows: int, news: int) -> list[Figure]:
    """Rows per second and peak memory of both imports, beside pandas, which checks nothing, on SQLite."""
    prices_file, news_file = folder / "prices.csv", folder / "news.jsonl"
    write_prices(prices_file, rows)
    write_news(news_file, news)
    return [
        *_imports(databases, "prices", prices_file, rows, PANDAS_PRICES),
        *_imports(databases, "news", news_file, news, PANDAS_NEWS),
    ]


def _imports(databases: Mapping[str, dict[str, str]], what: str, file: Path, count: int, peer: str) -> Iterator[Figure]:
    other_database = str(file.with_suffix(".pandas.sqlite3"))
    other = run([sys.executable, "-c", peer, str(file), other_database], databases["SQLite"])
    for database, env in databases.items():
        done = run(finstage("import", what, str(file)), env)
        beside = database == "SQLite"
        speed = {PANDAS: count / other.wall_s} if beside else {}
        memory = {PANDAS: other.peak_mib} if beside else {}
        yield Figure(f"import {count:,} {what}, {database}", count / done.wall_s, "rows/s", speed)
        yield Figure(f"peak memory of that import, {database}", done.peak_mib, "MiB", memory)


def time_to_answer(command: Callable[[int], list[str]], env: Mapping[str, str]) -> float:
    """Seconds from starting the program until it answers over HTTP; it is ended by Ctrl-C."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    started = time.perf_counter()
    environment = {**env, "FINSTAGE_PORT": str(port)}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command(port), env=environment, cwd=REPOSITORY, stdout=quiet, stderr=quiet)
    try:
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60):
                    return time.perf_counter() - started
            except OSError:
                if process.poll() is not None or time.perf_counter() - started > 120:
                    raise
                time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def starts(folder: Path) -> list[Figure]:
    """The first start with its load of real prices, and later ones beside an application that does nothing."""
    env = surroundings(folder / "starts")
    ours: Callable[[int], list[str]] = lambda _port: finstage("serve")  # noqa: E731 - a command line, not a function
    first_s = time_to_answer(ours, env)
    later_s = statistics.median(time_to_answer(ours, env) for _ in range(STARTS))
    bare = [sys.executable, "-c", BARE_APPLICATION]
    bare_s = statistics.median(time_to_answer(lambda port: [*bare, str(port)], env) for _ in range(STARTS))
    return [
        Figure("first start, with the load of 12,154 prices", first_s, "s"),
        Figure("later starts", later_s, "s", {"bare FastAPI": bare_s}),
    ]


def _databases(folder: Path, servers: ExitStack) -> dict[str, dict[str, str]]:
    """An environment for each database, with Finstage's empty tables in it; the servers are private and durable."""
    urls = {"SQLite": None}
    for name, start in {"MariaDB": start_mariadb, "PostgreSQL": start_postgresql}.items():
        server = servers.enter_context(start(durable=True))
        urls[name] = server.create_database("finstage").render_as_string(hide_password=False)
    environments = {
        name: surroundings(folder / name, **({"DATABASE_URL": url} if url else {})) for name, url in urls.items()
    }
    for env in environments.values():
        run(finstage("migrate"), env)
    return environments


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="price rows to import")
    parser.add_argument("--news", type=int, default=200_000, help="news to import")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, ExitStack() as servers:
        folder = Path(name)
        databases = _databases(folder, servers)
        figures = [*starts(folder), *imports(folder, databases, options.rows, options.news)]
    publish("first", SEED, figures)


if __name__ == "__main__":
    main()
