"""bench-redundancy: which of two indexes is one too many, by us and by others.

python -m benchmarks.redundancy [--databases mariadb,postgresql,sqlite]

The labelled pairs are those of tests/contract/redundancy_pairs.py, whose labels the databases themselves confirm there.
Each tool sees them one by one, in a database of their own. It finds what may go when it drops exactly one index of each
group of which one may; a drop is unsafe when the tests prove that something is lost by it. Pairs about which only a
workload tells are left out for all. On MariaDB the peers are the server's own ``sys.schema_redundant_indexes`` and
Percona's ``pt-duplicate-key-checker``; for PostgreSQL and SQLite there is no program to compare with that runs here.
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from benchmarks.report import Figure, publish
from dbpilot.dialects import dialect_of
from dbpilot.indexes.audit import audit
from dbpilot.testing.servers import SqlServer, start_mariadb, start_postgresql
from tests.contract.redundancy_pairs import PAIRS, Pair, filled

OURS: Final = "dbpilot"
DROPPED: Final = re.compile(r"^ALTER TABLE .* DROP INDEX `(\w+)`;", re.MULTILINE)
"""One that is dropped and made anew, shorter, is not gone."""
SYS: Final = sa.text(
    "SELECT redundant_index_name FROM sys.schema_redundant_indexes"
    " WHERE table_schema = DATABASE() AND table_name = :name"
)
Tool = Callable[[sa.Connection, Pair], set[str]]
"""The indexes that it would drop."""


@dataclass
class Tally:
    """What one tool made of the pairs."""

    found: int = 0
    unsafe: list[str] = field(default_factory=list)
    """The pairs of which it would drop what must stay."""
    unlabelled: list[str] = field(default_factory=list)
    """Those of which it would drop what no label tells of."""

    def count(self, pair: Pair, dropped: set[str]) -> None:
        groups = [len(group & dropped) for group in pair.go]
        self.found += sum(number == 1 for number in groups)
        if dropped & pair.must_stay or max(groups, default=0) > 1:
            self.unsafe.append(pair.name)
        elif dropped - frozenset().union(*pair.go):
            self.unlabelled.append(pair.name)


def by_audit(connection: sa.Connection, pair: Pair) -> set[str]:
    """Ours; nothing is observed besides the catalogue."""
    catalog = dialect_of(connection.engine).catalog(connection)
    found = audit(catalog, datetime.now(UTC), timedelta(days=30))
    return {one.drop for one in found if one.drop and one.kind in ("duplicate", "prefix") and one.table == pair.table}


def by_sys(connection: sa.Connection, pair: Pair) -> set[str]:
    """The server's own view."""
    return set(connection.execute(SYS, {"name": pair.table}).scalars())


def by_percona(connection: sa.Connection, pair: Pair) -> set[str]:
    """``pt-duplicate-key-checker``, as it is by default."""
    url = connection.engine.url
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder, "client.cnf")
        secret.touch(mode=0o600)
        secret.write_text(f"[client]\nhost={url.host}\nport={url.port}\nuser={url.username}\npassword={url.password}\n")
        command = ["pt-duplicate-key-checker", f"--defaults-file={secret}", "--databases", str(url.database)]
        done = subprocess.run([*command, "--tables", pair.table], capture_output=True, text=True, check=True)
    return set(DROPPED.findall(done.stdout))


def tallies(database: str, tools: Mapping[str, Tool], url_of: Callable[[str], sa.URL]) -> dict[str, Tally]:
    """What each tool makes of the database's pairs."""
    found = {name: Tally() for name in tools}
    for number, pair in enumerate(pairs_of(database)):
        with made(pair, url_of(f"pair_{number}")) as connection:
            for name, tool in tools.items():
                found[name].count(pair, tool(connection, pair))
    return found


def pairs_of(database: str) -> list[Pair]:
    """Those about which the catalogue tells enough."""
    return [pair for pair in PAIRS if pair.database == database and not pair.needs_workload]


@contextmanager
def made(pair: Pair, url: sa.URL) -> Iterator[sa.Connection]:
    """The pair exists, in a database of its own."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in (*filled(pair.database), *pair.statements):
            try:
                connection.exec_driver_sql(statement)
            except DBAPIError:
                if "CONCURRENTLY" not in statement:  # such a one is meant to fail, and to leave an index behind
                    raise
        yield connection
    engine.dispose()


def figures(database: str, found: Mapping[str, Tally]) -> Iterator[Figure]:
    """Found and unsafe, beside others."""
    pairs, ours = pairs_of(database), found[OURS]
    redundant = sum(len(pair.go) for pair in pairs)
    peers = {name: tally for name, tally in found.items() if name != OURS}
    yield Figure(
        f"{database}, {len(pairs)} labelled pairs: found of {redundant} that may go",
        ours.found,
        "",
        {name: float(tally.found) for name, tally in peers.items()},
        f"{redundant}",
        ours.found == redundant,
    )
    yield Figure(
        f"{database}, {len(pairs)} labelled pairs: unsafe drops",
        len(ours.unsafe),
        "",
        {name: float(len(tally.unsafe)) for name, tally in peers.items()},
        "0",
        not ours.unsafe,
    )


def url_on(server: SqlServer) -> Callable[[str], sa.URL]:
    """Makes databases there."""
    return server.create_database


def measured(database: str) -> dict[str, Tally]:
    """All tools on one kind of database."""
    if database == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            return tallies(
                database, {OURS: by_audit}, lambda name: sa.URL.create("sqlite", database=f"{folder}/{name}.sqlite3")
            )
    if database == "postgresql":
        with start_postgresql() as server:
            return tallies(database, {OURS: by_audit}, url_on(server))
    tools: dict[str, Tool] = {OURS: by_audit, "sys.schema_redundant_indexes": by_sys}
    if shutil.which("pt-duplicate-key-checker"):
        tools["pt-duplicate-key-checker"] = by_percona
    else:
        print("pt-duplicate-key-checker is not here: apt-get install percona-toolkit")
    with start_mariadb() as server:
        return tallies(database, tools, url_on(server))


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redundancy", description=__doc__)
    parser.add_argument("--databases", default="mariadb,postgresql,sqlite")
    options = parser.parse_args(arguments)
    results: list[Figure] = []
    for database in options.databases.split(","):
        found = measured(database)
        results += figures(database, found)
        for name, tally in found.items():
            print(f"{database}, {name}: unsafe in {', '.join(tally.unsafe) or 'none'}")
            print(f"{database}, {name}: not labelled in {', '.join(tally.unlabelled) or 'none'}")
    publish("redundancy", None, results)


if __name__ == "__main__":
    main()
