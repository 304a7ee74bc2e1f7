"""How many archived rows a restore would bring back, and what their table is like; only looked at."""

from collections.abc import Sequence
from contextlib import closing

import sqlalchemy as sa

from dbpilot.errors import ConfigError, RefusedError
from dbpilot.retention import Retention, Rule
from dbpilot.retention.conditions import comparable, matches, one_of
from dbpilot.retention.live import Catalogue, Live
from dbpilot.retention.portable import portable
from dbpilot.retention.restore import Wanted, archive_beside
from dbpilot.retention.session import looking


def archiving(name: str, rules: Sequence[Rule], *, by_time: bool) -> Rule:
    """The rule of this name, which has an archive.

    Raises:
        ConfigError: there is none, or it knows no time that a range could be of.
        RefusedError: it deletes for ever.
    """
    found = next((rule for rule in rules if rule.name == name), None)
    if found is None:
        raise ConfigError(f"there is no rule '{name}'; there are: {', '.join(rule.name for rule in rules)}")
    if found.kind == "purge":
        raise RefusedError(f"rule '{name}' deletes for ever: it has no archive")
    if by_time and found.time_column is None:
        raise ConfigError(f"rule '{name}' has no time_column; name keys instead of a range of time")
    return found


def live_table(engine: sa.Engine, name: str) -> Live:
    """The table as the database describes it.

    Raises:
        RefusedError: there is none, or nothing tells its rows apart.
    """
    with engine.connect() as connection:
        return Catalogue(connection).live(name)


def found_rows(engine: sa.Engine, rule: Rule, wanted: Wanted) -> int:
    """How many rows in the rule's archive are meant.

    Raises:
        RefusedError: nothing was archived yet.
        RetentionError: the archive cannot be read.
    """
    with looking(engine) as connection:
        live = Catalogue(connection).live(rule.table)
        if rule.kind == "beside":
            return _beside(connection, rule, live, wanted)
        return _elsewhere(Retention(engine, [rule]), rule, live, wanted, connection.dialect)


def _beside(connection: sa.Connection, rule: Rule, live: Live, wanted: Wanted) -> int:
    archive = archive_beside(connection, rule)
    conditions = [matches(archive, {name: value for name, value in rule.where.items() if name in archive.c})]
    if rule.time_column is not None:
        age = archive.c[rule.time_column]
        conditions += [age >= comparable(age, wanted.since)] if wanted.since else []
        conditions += [age < comparable(age, wanted.until)] if wanted.until else []
    if wanted.keys is not None:
        conditions.append(one_of([archive.c[name] for name in live.key_names], list(wanted.keys)))
    return connection.scalar(sa.select(sa.func.count()).select_from(archive).where(*conditions)) or 0


def _elsewhere(retention: Retention, rule: Rule, live: Live, wanted: Wanted, dialect: sa.Dialect) -> int:
    table = portable(live, dialect).table
    with closing(retention.target_of(rule)) as target:
        chunks = target.rows(rule.name, table, wanted.since, wanted.until, rule.time_column)
        return sum(wanted.has(tuple(row[name] for name in live.key_names)) for chunk in chunks for row in chunk)
