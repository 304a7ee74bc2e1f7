"""What a database is asked, for whoever has no application at hand: a file, a pilot's history, the server's counts."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import Engine

from dbpilot.cli.history import History
from dbpilot.clock import SYSTEM
from dbpilot.config import PilotConfig
from dbpilot.dialects import dialect_of
from dbpilot.dialects.catalog import Catalog
from dbpilot.dialects.connections import OwnConnections
from dbpilot.errors import ConfigError, StoreError
from dbpilot.history.sql_store import place
from dbpilot.history.store import INDEX_SEEN
from dbpilot.history.tally import Tally
from dbpilot.indexes.workload import Workload, of_history, of_server
from dbpilot.indexes.workload_file import of_file
from dbpilot.indexing import SEEN_BEFORE, first_seen
from dbpilot.unsupported import Unsupported

STDIN: Final = "-"
SERVER_ANSWER_S: Final = 10.0
MOST_LOOKS: Final = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which workload somebody wants; nothing but the hours is the best one there is."""

    file: str | None = None
    history: str | None = None
    database: str | None = None
    """Its place in the history, or a part of it, where that is not the one of its address."""
    hours: float = 24.0


class Workloads:
    """Finds the workload of one database."""

    def __init__(self, engine: Engine, config: PilotConfig, wanted: Wanted) -> None:
        self._engine = engine
        self._config = config
        self._wanted = wanted

    def __call__(self, catalog: Catalog) -> Workload:
        """The workload; an empty one, which says why, where none is known.

        Raises:
            ConfigError: what was named is none; says why, and in which line.
            StoreError: the history that was named cannot be read.
            WatchedDatabaseError: the database cannot be reached.
        """
        wanted = self._wanted
        if wanted.file is not None:
            return _of_stdin(catalog) if wanted.file == STDIN else of_file(Path(wanted.file), catalog, catalog.dialect)
        if wanted.history is not None or wanted.database is not None:
            return self._of_history(catalog)
        try:
            return self._of_history(catalog)
        except (ConfigError, StoreError) as error:
            return self._of_server(catalog, str(error))

    def seen_since(self) -> Mapping[str, datetime] | None:
        """When a pilot saw each index first; None where none did, or nobody can tell."""
        try:
            history = History(self._wanted.history or self._config.history.url.get_secret_value())
            now = SYSTEM.now()
            looks = history.events(place(self._engine.url), INDEX_SEEN, now - SEEN_BEFORE, MOST_LOOKS)
        except (ConfigError, StoreError):
            return None
        return first_seen(looks) if looks else None

    def _of_history(self, catalog: Catalog) -> Workload:
        history = History(self._wanted.history or self._config.history.url.get_secret_value())
        database = history.chosen_counted(self._wanted.database or self._place_in(history))
        tallies = self._most(history.tallies(database, self._wanted.hours, SYSTEM.now()))
        if not tallies:
            raise ConfigError(f"no statement of the last {self._wanted.hours:g} hours is in {history.place}")
        covers_s = self._wanted.hours * 3600
        return of_history(history.patterns(tallies), tallies, {}, catalog, catalog.dialect, covers_s)

    def _place_in(self, history: History) -> str:
        """The database's place, if the history is about it."""
        known, ours = history.counted_databases(), place(self._engine.url)
        if ours not in known:
            raise ConfigError(f"{history.place} is about {', '.join(known) or 'no database yet'}, and not about {ours}")
        return ours

    def _most(self, tallies: Mapping[str, Tally]) -> dict[str, Tally]:
        most = sorted(tallies, key=lambda id_: tallies[id_].total_s, reverse=True)[: self._config.indexes.statements]
        return {id_: tallies[id_] for id_ in most}

    def _of_server(self, catalog: Catalog, why_no_history: str) -> Workload:
        most = self._config.indexes.statements
        ask = dialect_of(self._engine).server_statements
        found = OwnConnections(self._engine).run(lambda connection: ask(connection, most), SERVER_ANSWER_S)
        if isinstance(found, Unsupported):
            return Workload((), f"no workload is known: {why_no_history}; {found.reason} ({found.fix})")
        return of_server(found, catalog, catalog.dialect)


def _of_stdin(catalog: Catalog) -> Workload:
    """What stands in the statements is gone from the disk as soon as they are read."""
    with TemporaryDirectory(prefix="dbpilot-") as folder:
        path = Path(folder) / "standard input"
        path.write_bytes(sys.stdin.buffer.read())
        return of_file(path, catalog, catalog.dialect)
