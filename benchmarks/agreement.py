"""Do our patterns and PostgreSQL's own agree? Measured on a real server, over the statements of its regression suite.

The suite is run file by file, as far as it goes without its data files. Before each statement that reads or changes
rows the server is asked, by EXPLAIN (VERBOSE), for the query identifier that ``pg_stat_statements`` groups by: of the
statement as it stands, and with other literals.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.regress import Token, joined, parts_of, replaced, tokens_of
from benchmarks.report import Figure
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.syntax import POSTGRESQL
from dbpilot.testing.servers import start_postgresql

SEED: Final = 11
STATEMENT_TIMEOUT_MS: Final = 1000
SKIPPED: Final = re.compile(
    r"pg_terminate|pg_reload|pg_sleep|alter\s+system|set\s+(session|role)|\bcopy\b|dblink", re.I
)
PREAMBLE: Final = "test_setup.sql"


@dataclass
class Agreement:
    """What both sides called the statements that the server could plan."""

    asked: int = 0
    pairs: int = 0
    """Those of them whose variant with other literals it could plan, too."""
    held_by_both: int = 0
    split_by_us: list[str] = field(default_factory=list)
    """The server calls both variants the same, we do not."""
    split_by_server: int = 0
    """The other way round: a literal of another type, for example."""
    servers: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    ours: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))


def agreement(folder: Path) -> Iterator[Figure]:
    """How often both group two variants alike, and how the groups of the one lie in those of the other."""
    with start_postgresql(options={"shared_preload_libraries": "pg_stat_statements"}) as server:
        url = server.create_database("regression")
        found = _asked(folder, url.set(drivername="postgresql").render_as_string(hide_password=False))
    agreed = 100 * found.held_by_both / (found.held_by_both + len(found.split_by_us))
    yield Figure("statements that a PostgreSQL server planned, beside its own grouping", found.asked, "")
    yield Figure("pairs of them that differ in literals alone", found.pairs, "")
    yield Figure("pairs that it groups together, and so do we", agreed, "%", {}, "at least 99.9 %", agreed >= 99.9)
    yield Figure("pairs that we group together, and it does not", found.split_by_server, "")
    several = [ids for ids in found.servers.values() if len(ids) > 1]
    yield Figure("our patterns", len(found.servers), "", {"its groups": len(found.ours)})
    yield Figure("of ours, those that hold several of its groups", 100 * len(several) / len(found.servers), "%")
    spread = [ids for ids in found.ours.values() if len(ids) > 1]
    yield Figure("of its groups, those that are several patterns of ours", 100 * len(spread) / len(found.ours), "%")


def _asked(folder: Path, url: str) -> Agreement:
    found, rng = Agreement(), random.Random(SEED)
    files = sorted(folder.glob("*.sql"), key=lambda path: (path.name != PREAMBLE, path.name))
    connection: Any = None
    for path in files:
        for part in parts_of(path):
            if SKIPPED.search(part):
                continue
            if connection is None or connection.closed:
                connection = psycopg.connect(url, autocommit=True)
                connection.execute(f"SET statement_timeout = {STATEMENT_TIMEOUT_MS}")
            tokens = tokens_of(part)
            if tokens:
                _compare(connection, tokens, replaced(tokens, rng), found)
            with connection.cursor() as cursor:
                _runs(cursor, part)
        if connection is not None:
            connection.close()  # temporary tables and settings of one file are not the next one's
    return found


def _compare(connection: Any, one: list[Token], other: list[Token], found: Agreement) -> None:
    first, second = joined(one), joined(other)
    its, its_other = _identifier(connection, first), _identifier(connection, second)
    if its is None:
        return
    found.asked += 1
    ours, ours_other = fingerprint(first, POSTGRESQL).id, fingerprint(second, POSTGRESQL).id
    found.servers[ours].add(its)
    found.ours[its].add(ours)
    if its_other is None or not any(token.is_literal for token in one):
        return
    found.pairs += 1
    if its == its_other:
        found.held_by_both += ours == ours_other
        if ours != ours_other:
            found.split_by_us.append(first)
    else:
        found.split_by_server += ours == ours_other


def _identifier(connection: Any, statement: str) -> int | None:
    """The query identifier that the server gives a statement; None where it does not plan it."""
    with connection.cursor() as cursor:
        if not _runs(cursor, f"EXPLAIN (VERBOSE, FORMAT JSON, COSTS OFF) {statement}"):
            return None
        plans = cursor.fetchone()[0]
        # What a rule turns into several statements has several identifiers.
        identifier: int | None = plans[0].get("Query Identifier") if len(plans) == 1 else None
        return identifier


def _runs(cursor: Any, statement: str) -> bool:
    """The statement is executed; False where the server refuses it, as it shall with many of the suite."""
    try:
        cursor.execute(statement.encode(), prepare=False)
    except psycopg.Error:
        connection = cursor.connection
        if not connection.closed and connection.info.transaction_status:
            connection.rollback()
        return False
    return True
