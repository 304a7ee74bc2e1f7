"""Retention of one database: its rules, and what can be asked of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from dbpilot.clock import SYSTEM, Clock
from dbpilot.errors import ConfigError, RefusedError
from dbpilot.retention.archiver import Manners, clean
from dbpilot.retention.elsewhere import check_is_there, recover
from dbpilot.retention.holds import Hold, held, hold, release
from dbpilot.retention.journal import Journal
from dbpilot.retention.live import Catalogue, Live
from dbpilot.retention.missing import missing
from dbpilot.retention.parquet import ParquetTarget
from dbpilot.retention.planner import Plan, plan
from dbpilot.retention.policy import Rule
from dbpilot.retention.portable import Portable, portable
from dbpilot.retention.restore import (
    FromBeside,
    FromElsewhere,
    RestorePlan,
    RestoreResult,
    Wanted,
    archive_beside,
    meant,
    meant_rows,
)
from dbpilot.retention.results import CleanupFinished
from dbpilot.retention.server import ServerTarget
from dbpilot.retention.session import Session, looking, working
from dbpilot.retention.targets import ArchiveTarget, Key
from dbpilot.retention.verify import VerifyResult, verify_beside, verify_elsewhere


class Retention:
    """The rules of one database."""

    def __init__(self, engine: sa.Engine, rules: Sequence[Rule], clock: Clock = SYSTEM) -> None:
        """Nothing is connected yet.

        Raises:
            ConfigError: two rules have the same name.
        """
        self.rules = tuple(rules)
        if len({rule.name for rule in rules}) != len(rules):
            raise ConfigError("two retention rules have the same name; batches are told apart by it")
        self._engine = engine
        self._clock = clock

    def plan(self, table: str | None = None) -> Plan:
        """What a run would do now; nothing is changed.

        Raises:
            RefusedError: a rule must not be run on this database; says why.
            RetentionError: an archive cannot be reached.
        """
        with looking(self._engine) as connection:
            return plan(connection, self._chosen(table), self._clock.now(), self.target_of)

    def run(self, *, table: str | None = None, dry_run: bool, manners: Manners | None = None) -> CleanupFinished:
        """What the rules say is done, of one table or of all; in a dry run it is only found out.

        Raises:
            RefusedError: a rule must not be run on this database, or another cleaning is at work; nothing was done.
            RetentionError: an archive cannot be reached; nothing was done.
            ConfigError: no rule is about this table.
        """
        return clean(
            self._engine,
            self._chosen(table),
            self.target_of,
            dry_run=dry_run,
            manners=manners or Manners(),
            clock=self._clock,
        )

    def restore(
        self,
        rule: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        keys: Iterable[Any] | None = None,
    ) -> RestoreResult:
        """Archived rows are live again and no longer archived: those from ``since`` to before ``until``, or of these
        keys, or all; what cannot be live beside what is there stays in the archive and is told.

        A rule whose time has come for them again archives them again: :meth:`hold` them where that is not wished.

        Raises:
            ConfigError: there is no such rule, or it has no time column that a range could be of.
            RefusedError: the rule has no archive, or a cleaning is at work.
            RetentionError: the archive failed; what came back until then is live, and the rest is archived.
        """
        chosen, wanted = self._wanted(rule, since, until, keys)
        with working(self._engine) as session:
            live = self._live(session, chosen)
            _check_keys(wanted, live)
            if chosen.kind == "beside":
                with session.reading() as connection:
                    archive = archive_beside(connection, chosen)
                return FromBeside(session, chosen, live, self._clock.now, self.rules, archive).run(wanted)
            with self._recovered(session, chosen, live) as (target, travelling):
                with session.reading() as connection:
                    check_is_there(connection, rule, target, travelling)
                back = FromElsewhere(session, chosen, live, self._clock.now, self.rules, target, travelling)
                return back.run(wanted)

    def found(
        self,
        rule: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        keys: Iterable[Any] | None = None,
    ) -> RestorePlan:
        """What :meth:`restore` would look at. Only reads.

        Raises:
            ConfigError, RefusedError, RetentionError: as restore would.
        """
        chosen, wanted = self._wanted(rule, since, until, keys)
        with looking(self._engine) as connection:
            live = Catalogue(connection).live(chosen.table)
            _check_keys(wanted, live)
            if chosen.kind == "beside":
                archive = archive_beside(connection, chosen)
                rows = sa.select(sa.func.count()).select_from(archive).where(meant(archive, chosen, live, wanted))
                return RestorePlan(rule, chosen.table, archive.name, connection.scalar(rows) or 0)
            travelling = portable(live, self._engine.dialect)
            with closing(self.target_of(chosen)) as target:
                check_is_there(connection, rule, target, travelling)
                lost = missing(connection, rule, target, travelling, wanted.asked())
                found = sum(map(len, meant_rows(target, travelling, chosen, wanted)))
                return RestorePlan(rule, chosen.table, target.name, found, lost.rows, lost.places)

    def verify(self, rule: str) -> VerifyResult:
        """The archive was read, and compared with what was put there.

        Raises:
            ConfigError: there is no such rule.
            RefusedError: the rule has no archive, or a cleaning is at work.
            RetentionError: the archive cannot be read.
        """
        chosen = self.rule_with_archive(rule)
        with working(self._engine) as session:
            live = self._live(session, chosen)
            if chosen.kind == "beside":
                with session.reading() as connection:
                    archive = archive_beside(connection, chosen)
                return verify_beside(session, rule, live, archive)
            with self._recovered(session, chosen, live) as (target, travelling):
                return verify_elsewhere(session, rule, target, travelling)

    @contextmanager
    def _recovered(self, session: Session, rule: Rule, live: Live) -> Iterator[tuple[ArchiveTarget, Portable]]:
        """The rule's archive, when nothing is open any more that a dead process began."""
        travelling = portable(live, self._engine.dialect)
        with closing(self.target_of(rule)) as target:
            with session.transaction() as connection:
                Journal(connection).prepare()
            with session.reading() as connection:
                unfinished = Journal(connection).unfinished(rule.name)
            for entry in unfinished:
                recover(session, entry, target, travelling, self._clock.now)
            yield target, travelling

    def _live(self, session: Session, rule: Rule) -> Live:
        with session.reading() as connection:
            return Catalogue(connection).live(rule.table)

    def _wanted(
        self, rule: str, since: datetime | None, until: datetime | None, keys: Iterable[Any] | None
    ) -> tuple[Rule, Wanted]:
        chosen = self.rule_with_archive(rule)
        if (since or until) and chosen.time_column is None:
            raise ConfigError(f"rule {rule!r} has no time_column; name keys instead of a range of time")
        if since is not None and until is not None and until <= since:
            raise ConfigError(f"from {since:%Y-%m-%d %H:%M} to before {until:%Y-%m-%d %H:%M} is no time at all")
        return chosen, Wanted(since, until, None if keys is None else frozenset(map(_as_key, keys)))

    def rule_with_archive(self, name: str) -> Rule:
        """The rule of this name.

        Raises:
            ConfigError: there is none.
            RefusedError: it deletes for ever.
        """
        found = next((rule for rule in self.rules if rule.name == name), None)
        if found is None:
            known = ", ".join(rule.name for rule in self.rules) or "none"
            raise ConfigError(f"there is no retention rule {name!r}; there are: {known}")
        if found.kind == "purge":
            raise RefusedError(f"rule {name!r} deletes for ever: it has no archive")
        return found

    def hold(self, table: str, where: Mapping[str, Any] | None = None, *, reason: str) -> Hold:
        """These rows, or the whole table, stay until the hold is released.

        Raises:
            RefusedError: there is no such table or column, or a value is not of its type.
        """
        with self._engine.begin() as connection:
            return hold(connection, Catalogue(connection).live(table), where or {}, reason, self._clock.now())

    def release(self, hold_id: int) -> bool:
        """The hold is over; False if there was none of this number."""
        with self._engine.begin() as connection:
            return release(connection, hold_id, self._clock.now())

    def holds(self) -> list[Hold]:
        """The holds that are in force."""
        with self._engine.connect() as connection:
            return held(connection)

    def target_of(self, rule: Rule) -> ArchiveTarget:
        """The archive of a rule whose rows go to another system."""
        if rule.kind == "files":
            return ParquetTarget(rule.place)
        return ServerTarget(SecretStr(rule.place), rule.archive, self._engine.dialect.name, self._clock)

    def _chosen(self, table: str | None) -> tuple[Rule, ...]:
        chosen = tuple(rule for rule in self.rules if table in (None, rule.table))
        if not chosen:
            known = ", ".join(sorted({rule.table for rule in self.rules})) or "none"
            raise ConfigError(f"no retention rule is about {table!r}; there are rules about: {known}")
        return chosen


def _check_keys(wanted: Wanted, live: Live) -> None:
    for key in wanted.keys or ():
        if len(key) != len(live.key_names):
            raise ConfigError(f"a key of {live.table.name} is {', '.join(live.key_names)}; {list(key)} is none")


def _as_key(value: Any) -> Key:
    """A key of one column may be written as its value."""
    return tuple(value) if isinstance(value, tuple | list) else (value,)
