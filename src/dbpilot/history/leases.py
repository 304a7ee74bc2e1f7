"""How many connections to one server each process may have open, agreed on in the history's database.

A process is taken for dead when its lease's ``beat`` has stood still for a while by the *reader's* own stopwatch. No
time of day is written or compared: hosts' clocks differ, and any of them may jump, the database's as well, which would
make everybody look dead at once. The price: who has only just come must look on for a while before it inherits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol
from uuid import uuid4

from sqlalchemy import URL, Connection, Row, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from dbpilot.clock import SYSTEM, Clock
from dbpilot.errors import StoreError
from dbpilot.history import schema
from dbpilot.history.sql_store import SqlStore, place

TTL_S: Final = 10.0
"""A process that is not heard of for so long is taken for dead."""
STEP_S: Final = TTL_S / 4
"""Silence between two looks counts for so long at most: who was itself stopped, perhaps together with all others, must
hear them out before it takes them for dead."""
ATTEMPTS: Final = 3
PORTS: Final = {"postgresql": 5432, "mariadb": 3306}
PATIENCE: Final[dict[str, str]] = {
    "postgresql": "SELECT set_config('lock_timeout', '5000', true),"
    " set_config('idle_in_transaction_session_timeout', '5000', true)",
    "mariadb": "SET SESSION innodb_lock_wait_timeout = 5, idle_write_transaction_timeout = 5",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 5",
}
"""Nobody waits for long for a turn, and where the server can see to it, a process that was stopped in the middle of its
own turn loses it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What one process may have open, and what it told of itself with it."""

    process: str
    connections: int
    """It may have so many connections open."""
    open: int
    """So many it had."""
    wanted: int
    """So many it could use at once."""
    limit: int
    """More it will never want."""
    budget: int
    """What all processes may have open together, as it sees it."""
    beat: int = 0
    """Counts its exchanges, so that others see that it lives."""


Settle = Callable[[Lease | None, Sequence[Lease]], Lease]
"""One's own new lease, from one's own last one, if it is still there, and those of the others that live."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The leases as they are; those of the dead are gone."""

    mine: Lease | None
    others: Sequence[Lease] = ()


class Leases(Protocol):
    """The leases of all processes that share one server; used by one thread."""

    def exchange(self, settle: Settle) -> Standing:
        """One's own lease is what ``settle`` made of it; nobody else exchanges meanwhile.

        Raises:
            StoreError: nobody knows whether it is.
        """

    def look(self) -> Standing:
        """The leases as they are now; nothing is written and nobody taken for dead.

        Raises:
            StoreError: they cannot be read.
        """

    def leave(self) -> None:
        """One's own lease is gone.

        Raises:
            StoreError: it may still be there, and is when others take this process for dead.
        """

    def abandon(self) -> None:
        """After a fork: this is another process than the parent, and shares no connection with it."""

    def close(self) -> None:
        """Connections are released."""


class MemoryLeases:
    """Leases where this process is alone."""

    def __init__(self) -> None:
        self._mine: Lease | None = None

    def exchange(self, settle: Settle) -> Standing:
        self._mine = settle(self._mine, ())
        return Standing(self._mine)

    def look(self) -> Standing:
        return Standing(self._mine)

    def leave(self) -> None:
        self._mine = None

    def abandon(self) -> None:
        self._mine = None

    def close(self) -> None:
        """There is nothing to release."""


class Silence:
    """How long each process has not been heard of."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[int, float]] = {}
        """The last beat of each, and the seconds for which it has stood still."""

    def lost(self, leases: Sequence[Lease], since_last_s: float) -> set[str]:
        """Those of the processes that are taken for dead now, so many seconds after the last call."""
        heard, step_s = self._heard, min(since_last_s, STEP_S)
        self._heard = {one.process: (one.beat, _still(heard.get(one.process), one.beat, step_s)) for one in leases}
        return {process for process, (_, quiet_s) in self._heard.items() if quiet_s >= TTL_S}


def _still(before: tuple[int, float] | None, beat: int, step_s: float) -> float:
    return before[1] + step_s if before is not None and before[0] == beat else 0.0


class SqlLeases:
    """Leases in the history's database, on connections of its own; each exchange is one short transaction.

    It begins by changing the server's row, which makes all others that would wait; on SQLite they wait for the file.
    """

    def __init__(self, store: SqlStore, server: str, clock: Clock = SYSTEM) -> None:
        """Names the history and the server that is shared; nothing is connected yet."""
        self._store = store.beside()
        self._server = server
        self._ticks = clock.ticks
        self._begin()

    def _begin(self) -> None:
        self._process = uuid4().hex
        self._beat = 0
        self._silence = Silence()
        self._looked_at = self._ticks()

    def exchange(self, settle: Settle) -> Standing:
        for attempt in range(ATTEMPTS):
            try:
                return self._exchange(settle)
            except StoreError as error:  # the server's row is new: another process wrote it first
                if not isinstance(error.__cause__, IntegrityError) or attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _exchange(self, settle: Settle) -> Standing:
        since_last_s = self._ticks() - self._looked_at  # before the look, and set after it: rather less than more
        with self._store.writes() as connection:
            self._take_turn(connection)
            now = self._standing(connection)
            lost = self._silence.lost(now.others, since_last_s)
            self._looked_at = self._ticks()
            self._remove(connection, lost)
            others = [one for one in now.others if one.process not in lost]
            self._beat += 1
            mine = replace(settle(now.mine, others), process=self._process, beat=self._beat)
            self._write(connection, mine, is_new=now.mine is None)
        return Standing(mine, others)

    def look(self) -> Standing:
        with self._store.reads() as connection:
            return self._standing(connection)

    def leave(self) -> None:
        with self._store.writes() as connection:
            self._take_turn(connection)
            self._remove(connection, {self._process})

    def abandon(self) -> None:
        self._store.abandon()
        self._begin()

    def close(self) -> None:
        self._store.close()

    def _take_turn(self, connection: Connection) -> None:
        dialect = connection.dialect
        patience = PATIENCE.get("mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name)
        if patience is not None:
            connection.execute(text(patience))
        table = schema.servers
        turn = update(table).where(table.c.server == self._server).values(exchanges=table.c.exchanges + 1)
        if not connection.execute(turn).rowcount:
            connection.execute(insert(table).values(server=self._server, exchanges=1))

    def _standing(self, connection: Connection) -> Standing:
        table = schema.leases
        rows = connection.execute(select(table).where(table.c.server == self._server).order_by(table.c.process))
        found = {row.process: _lease_of(row) for row in rows}
        return Standing(found.pop(self._process, None), list(found.values()))

    def _remove(self, connection: Connection, processes: set[str]) -> None:
        table = schema.leases
        if processes:
            connection.execute(delete(table).where(table.c.server == self._server, table.c.process.in_(processes)))

    def _write(self, connection: Connection, lease: Lease, *, is_new: bool) -> None:
        table, values = schema.leases, _values_of(lease)
        if is_new:
            connection.execute(insert(table).values(server=self._server, **values))
        else:
            its = (table.c.server == self._server, table.c.process == lease.process)
            connection.execute(update(table).where(*its).values(values))


def _lease_of(row: Row[Any]) -> Lease:
    return Lease(row.process, row.connections, row.open, row.wanted, row.limit, row.budget, row.beat)


def _values_of(lease: Lease) -> Mapping[str, object]:
    return {name: getattr(lease, name) for name in Lease.__slots__}


def server_of(url: URL) -> str:
    """Where a database's server is: two applications share it whatever their databases are called.

    Addresses are compared as they are written; ``localhost`` and ``127.0.0.1`` are two.
    """
    kind = "mariadb" if url.get_backend_name() == "mysql" else url.get_backend_name()
    return place(url.set(drivername=kind, port=url.port or PORTS.get(kind), database=""))
