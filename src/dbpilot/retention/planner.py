"""What a cleaning would do, found out by reading only; the cleaning does what is planned here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

import sqlalchemy as sa

from dbpilot.errors import ConfigError, RefusedError
from dbpilot.retention.conditions import check_where
from dbpilot.retention.holds import held
from dbpilot.retention.live import MADE_BY_US, Catalogue, Child, Live
from dbpilot.retention.policy import Kind, Rule
from dbpilot.retention.portable import portable
from dbpilot.retention.reconcile import changes
from dbpilot.retention.scope import Scope
from dbpilot.retention.targets import ArchiveTarget, Key

SAMPLED_ROWS: Final = 200
TargetOf = Callable[[Rule], ArchiveTarget]


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule would do."""

    rule: str
    table: str
    kind: Kind
    target: str
    """Where the rows go, without a password; empty where they are deleted for good."""
    rows: int
    """Due rows that nobody holds, and that nothing points at when their turn comes; exact when it was counted, or at
    most so many where ``at_most`` says so."""
    at_most: bool
    """An earlier rule of the run may take some of the rows, or rows of the table point at each other; they are counted
    again when the rule's turn comes."""
    held: int
    """Rows that would go if no hold were in force."""
    needed: int
    """Rows that are old enough, but that rows which stay point at."""
    bytes: int
    """An estimate, from the mean of at most 200 of the rows."""
    oldest: datetime | None
    cutoff: datetime | None
    key: tuple[str, ...]
    first_key: Key | None
    last_key: Key | None
    batch: int
    differences: tuple[str, ...]
    """What is done at the archive before, as DDL or in words."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a cleaning would do, in its order."""

    at: datetime
    steps: tuple[Step, ...]

    @property
    def rows(self) -> int:
        """Rows that would leave their tables."""
        return sum(step.rows for step in self.steps)


@dataclass(frozen=True, slots=True)
class Work:
    """A step with what it was planned from."""

    step: Step
    scope: Scope


def plan(connection: sa.Connection, rules: Sequence[Rule], now: datetime, target_of: TargetOf | None = None) -> Plan:
    """What these rules would do now; nothing is changed.

    Without ``target_of`` nothing is said about archives in other systems.

    Raises:
        RefusedError: a rule must not be run on this database; says why, and what would change that.
        ConfigError: two rules have one name, or each waits for the other.
    """
    return Plan(now, tuple(work.step for work in planned(connection, rules, now, target_of)))


def planned(
    connection: sa.Connection, rules: Sequence[Rule], now: datetime, target_of: TargetOf | None = None
) -> list[Work]:
    """The plan with what it is made from; raises as :func:`plan`."""
    catalogue = Catalogue(connection)
    lives = {rule.table: catalogue.live(rule.table) for rule in rules}
    ordered = _in_order(rules, lives)
    scopes: dict[str, Scope] = {}
    found: list[Work] = []
    for rule in ordered:
        live = lives[rule.table]
        _check(rule, live, scopes)
        before = {} if rule.duplicates else {child: scope for child, scope in scopes.items() if child != rule.table}
        scope = Scope(rule, live, now, tuple(held(connection, rule.table)), before)
        at_most = live.refers_to_itself or any(work.step.table == rule.table for work in found)
        found.append(Work(replace(_step(connection, scope, target_of), at_most=at_most), scope))
        if not rule.duplicates:
            scopes[rule.table] = scope
    return found


def counted_again(connection: sa.Connection, work: Work) -> Work:
    """The work with the rows that there are now."""
    rows, _ = _counted(connection, work.scope)
    return replace(work, step=replace(work.step, rows=rows))


def _in_order(rules: Sequence[Rule], lives: dict[str, Live]) -> list[Rule]:
    """Children go before their parents, and each rule after those that it names."""
    names = {rule.name: rule for rule in rules}
    if len(names) != len(rules):
        raise ConfigError("two retention rules have the same name; batches are told apart by it")
    order: TopologicalSorter[str] = TopologicalSorter()
    for rule in rules:
        below = {child.table.name for child in lives[rule.table].children} - {rule.table}
        before = [other.name for other in rules if other.table in below]
        order.add(rule.name, *before, *(name for name in rule.after if name in names))
    try:
        return [names[name] for name in order.static_order()]
    except CycleError as error:
        raise ConfigError(f"these retention rules wait for each other: {' -> '.join(error.args[1])}") from None


def _check(rule: Rule, live: Live, before: dict[str, Scope]) -> None:
    """Returns when the rule can be run on this table, and takes nothing that it does not mean."""
    whose = f"retention rule {rule.name!r}"
    if rule.table in MADE_BY_US:
        raise RefusedError(f"{whose}: {rule.table} is the archive's own book")
    check_where(live.table, rule.where, whose)
    for name in rule.duplicates:
        check_where(live.table, {name: None}, whose)
    if rule.time_column:
        check_where(live.table, {rule.time_column: None}, whose)
        _check_time(rule.time_column, live.table, whose)
    for child in live.children:
        if child.takes:
            _check_cascade(whose, live, child, before)


def _check_time(name: str, table: sa.Table, whose: str) -> None:
    type_ = table.c[name].type
    if not isinstance(type_, sa.Date | sa.DateTime):
        ages = [column.name for column in table.columns if isinstance(column.type, sa.Date | sa.DateTime)]
        raise RefusedError(
            f"{whose}: {table.name}.{name} is {type_!r}, which tells no age; take a date or an instant"
            + (f": {', '.join(ages)}" if ages else "")
        )


def _check_cascade(whose: str, live: Live, child: Child, before: dict[str, Scope]) -> None:
    if child.table.name in before or child.table.name == live.table.name:
        return
    columns = ", ".join(child.columns)
    raise RefusedError(
        f"{whose}: deleting rows of {live.table.name} would do ON DELETE {child.takes} to rows of {child.table.name} "
        f"({columns}) that nobody archived; add a rule for {child.table.name} to the same run, or let its foreign key "
        "refuse"
    )


def _step(connection: sa.Connection, scope: Scope, target_of: TargetOf | None) -> Step:
    rule, live = scope.rule, scope.live
    rows, oldest = _counted(connection, scope)
    plain = rows if rule.duplicates or not live.children else _count(connection, scope.plain)
    wanted = plain if rule.duplicates or not scope.holds else _count(connection, scope.wanted)
    first, last = _ends(connection, scope)
    target, differences = _archive(connection, scope, target_of)
    return Step(
        rule=rule.name,
        table=rule.table,
        kind=rule.kind,
        target=target,
        rows=rows,
        at_most=False,
        held=wanted - plain,
        needed=plain - rows,
        bytes=rows * _mean_size(connection, live, scope.expected) if rows else 0,
        oldest=_instant(oldest),
        cutoff=rule.cutoff(scope.now) if rule.time_column else None,
        key=live.key_names,
        first_key=first,
        last_key=last,
        batch=rule.batch,
        differences=tuple(differences),
    )


def _counted(connection: sa.Connection, scope: Scope) -> tuple[int, Any]:
    rows = scope.counted(scope.expected)
    oldest = sa.func.min(rows.c.dbpilot_time) if scope.rule.time_column else sa.null()
    count, first = connection.execute(sa.select(sa.func.count(), oldest).select_from(rows)).one()
    return count, first


def _count(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
    return connection.scalar(sa.select(sa.func.count()).where(condition)) or 0


def _ends(connection: sa.Connection, scope: Scope) -> tuple[Key | None, Key | None]:
    """The first and the last key among the rows; of duplicates, of all rows that the rule may mean."""
    condition = scope.plain if scope.rule.duplicates else scope.expected
    key = scope.live.key
    rows = sa.select(*key).where(condition).limit(1)
    first = connection.execute(rows.order_by(*key)).first()
    last = connection.execute(rows.order_by(*(column.desc() for column in key))).first()
    return (tuple(first) if first else None), (tuple(last) if last else None)


def _mean_size(connection: sa.Connection, live: Live, condition: sa.ColumnElement[bool]) -> int:
    """Bytes of a row as it is written down, on the mean of some."""
    columns = [sa.type_coerce(column, sa.types.NullType()).label(column.name) for column in live.table.columns]
    rows = connection.execute(sa.select(*columns).where(condition).limit(SAMPLED_ROWS)).all()
    return round(sum(_size(value) for row in rows for value in row) / len(rows)) if rows else 0


def _size(value: Any) -> int:
    if value is None:
        return 1
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, bytes | bytearray | memoryview):
        return len(value)
    return len(str(value)) if isinstance(value, Decimal | dict | list) else 8


def _archive(connection: sa.Connection, scope: Scope, target_of: TargetOf | None) -> tuple[str, list[str]]:
    """The archive's name, and what has to be done there before."""
    rule, live = scope.rule, scope.live
    if rule.kind == "purge":
        return "", []
    if rule.kind == "beside":
        return rule.archive, [change.sql for change in changes(connection, live, rule.archive)]
    if target_of is None:
        return rule.kind, []
    target = target_of(rule)
    try:
        return target.name, target.differences(portable(live, connection.dialect).table)
    finally:
        target.close()


def _instant(value: Any) -> datetime | None:
    """The oldest row's age as an instant; a column without time zone is in UTC."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return datetime.combine(value, time(), UTC) if isinstance(value, date) else None
