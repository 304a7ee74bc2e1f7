"""``dbpilot indexes``: what is amiss with indexes, what a workload wants, doing it, and undoing it."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from sqlalchemy import Engine

from dbpilot.cli.cleanup_parts import document
from dbpilot.cli.cleanup_run import interruptible
from dbpilot.cli.desk import Host, database
from dbpilot.cli.exit_code import ExitCode
from dbpilot.cli.hosted import without
from dbpilot.cli.indexes_parts import advice_parts, audit_parts, changes_parts, history_parts, planned_parts
from dbpilot.cli.indexes_run import BY, Taking, applier_of, ended_between, telling
from dbpilot.cli.indexes_sql import alembic, statements
from dbpilot.cli.indexes_watch import keep_telling
from dbpilot.cli.options import AsJson, HistoryUrl, Url, Yes, changed
from dbpilot.cli.options import Database as HistoryDatabase
from dbpilot.cli.progress import analysis_shown, building_shown
from dbpilot.cli.render import Part, print_json, say, show
from dbpilot.cli.urls import command_line
from dbpilot.cli.values import size
from dbpilot.cli.workload import Wanted as WantedWorkload
from dbpilot.cli.workload import Workloads
from dbpilot.clock import SYSTEM
from dbpilot.config import HistoryConfig, PilotConfig
from dbpilot.dialects import dialect_of
from dbpilot.dialects.connections import OwnConnections
from dbpilot.errors import ConfigError, NotThereError, RefusedError
from dbpilot.history.sql_store import place
from dbpilot.indexes.advisor import Limits
from dbpilot.indexes.analysis import Analysis, Analyst, Progress, Wanted
from dbpilot.indexes.apply import Applier
from dbpilot.indexes.audit import Observed
from dbpilot.indexes.ledger import Entry
from dbpilot.indexes.patterns import Recommended
from dbpilot.indexes.steps import change_of, chosen, in_turn
from dbpilot.indexes.suggestions import Suggestion, not_there, suggestions
from dbpilot.reports.indexes import ChangeReport, IndexReport, entry_report, index_report, outcome_report

NAMED: Final = frozenset({"url", "history", "database"})
"""Options of which a host knows the answer."""
MIB: Final = 2**20
STATUS_FIELDS: Final = frozenset({"status", "doing", "error"})
"""Of a report that is made while somebody waits for it, these say nothing."""
DONE: Final = frozenset({"watching", "kept", "already there"})
NOT_BEGUN: Final = frozenset({"refused", "not now"})

WorkloadFile = Annotated[
    str | None,
    typer.Option(
        "--workload",
        metavar="FILE",
        help="SQL, each statement ended by a semicolon, or a slow log of MariaDB; - is standard input. Default: what a "
        "pilot's history has of this database, else what the server counted.",
    ),
]
Hours = Annotated[float, typer.Option(min=0.01, max=24 * 366, help="How far back the history is looked at.")]
Budget = Annotated[
    str | None, typer.Option(metavar="SIZE", help="How large all new indexes may be together: 500MB, 1.5GiB.")
]
OneTable = Annotated[str | None, typer.Option("--table", help="This table only.")]


class Format(StrEnum):
    """How steps are written."""

    SQL = "sql"
    ALEMBIC = "alembic"


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was said on the command line."""

    url: str | None
    workload: WantedWorkload
    budget: str | None = None
    table: str | None = None
    advice: bool = True


@dataclass(frozen=True, slots=True)
class _Desk:
    """What a command found out about one database."""

    engine: Engine
    config: PilotConfig
    analysis: Analysis
    steps: tuple[Suggestion, ...]
    """Of the table that was asked about, or of all."""
    table: str | None

    @property
    def schema(self) -> str | None:
        """Named where a connection may look elsewhere first."""
        catalog = self.analysis.catalog
        return catalog.schema if catalog.dialect == "postgresql" else None

    @property
    def report(self) -> IndexReport:
        """What is known, of the table that was asked about, or of all."""
        report = index_report("ready", None, None, self.analysis, self.steps)
        if self.table is None:
            return report
        tables = [table for table in report.tables if table.name == self.table]
        return replace(report, tables=tables, patterns=[one for one in report.patterns if one.table == self.table])


def make_indexes(host: Callable[[], Host] | None = None) -> typer.Typer:
    """The commands; those of a host, which is asked for when one is run, need not be told its database and its
    history."""
    commands = _Commands(host)
    app = typer.Typer(no_args_is_help=True, help="Indexes: too few, too many; proven before it is said.")
    for command in (
        commands.audit,
        commands.advise,
        commands.sql,
        commands.apply,
        commands.watch,
        commands.history,
        commands.settle,
        commands.undo,
    ):
        app.command()(command if host is None else without(command, NAMED))
    return app


class _Commands:
    """One method for each command."""

    def __init__(self, host: Callable[[], Host] | None) -> None:
        self._ask_host = host

    @cached_property
    def _host(self) -> Host | None:
        return None if self._ask_host is None else self._ask_host()

    @property
    def _config(self) -> PilotConfig:
        return PilotConfig.from_env() if self._host is None else self._host.config

    def audit(
        self,
        url: Url = None,
        workload: WorkloadFile = None,
        history: HistoryUrl = None,
        database: HistoryDatabase = None,
        hours: Hours = 24,
        table: OneTable = None,
        everything: Annotated[bool, typer.Option("--all", help="Show what looks needless and is kept, too.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Show what is amiss: needless, unused, broken and missing indexes. The optimizer is not asked, nothing is
        changed. Ends with 3 when something is to be done, with 0 when nothing is.

        Example: dbpilot indexes audit --url postgresql+psycopg://shop@localhost/shop
        """
        asked = _Asked(url, WantedWorkload(workload, history, database, hours), table=table, advice=False)
        with self._looked(asked) as at:
            report = at.report
        if as_json:
            print_json(_document(at, report))
        else:
            _show(audit_parts(report, everything=everything))
        _say_if_no_workload(at)
        _end_as(ExitCode.FINDINGS if report.steps else ExitCode.OK)

    def advise(
        self,
        url: Url = None,
        workload: WorkloadFile = None,
        history: HistoryUrl = None,
        database: HistoryDatabase = None,
        hours: Hours = 24,
        budget: Budget = None,
        table: OneTable = None,
        as_json: AsJson = False,
    ) -> None:
        """Show which set of indexes a workload wants, what each would change, and how that is known; nothing is
        changed. Ends with 3 when something is to be done, with 0 when nothing is, with 5 when nothing could be judged.

        Example: dbpilot indexes advise --url postgresql+psycopg://shop@localhost/shop --workload shop.sql
        """
        with self._looked(_Asked(url, WantedWorkload(workload, history, database, hours), budget, table)) as at:
            report = at.report
        if as_json:
            print_json(_document(at, report))
        else:
            _show(advice_parts(report))
        _say_if_no_workload(at)
        if not report.steps and (_say_if_not_asked(at) if as_json else _could_not_be_asked(at)):
            _end_as(ExitCode.REFUSED)
        _end_as(ExitCode.FINDINGS if report.steps else ExitCode.OK)

    def sql(
        self,
        url: Url = None,
        workload: WorkloadFile = None,
        history: HistoryUrl = None,
        database: HistoryDatabase = None,
        hours: Hours = 24,
        budget: Budget = None,
        table: OneTable = None,
        form: Annotated[
            Format, typer.Option("--format", help="Statements, or the body of an Alembic revision.")
        ] = Format.SQL,
    ) -> None:
        """Print the statements, each with its reason and its undo as comments; what somebody has to look at first is a
        comment as well. Nothing is executed.

        Example: dbpilot indexes sql --workload shop.sql > indexes.sql
        """
        with self._looked(_Asked(url, WantedWorkload(workload, history, database, hours), budget, table)) as at:
            _say_if_no_workload(at)
            _say_if_not_asked(at)
        catalog = at.analysis.catalog
        schema = None if at.schema == "public" else at.schema
        lines = statements(at.steps) if form is Format.SQL else alembic(at.steps, catalog.dialect, schema)
        for line in lines:
            typer.echo(line)

    def apply(
        self,
        steps: Annotated[
            list[str] | None,
            typer.Argument(metavar="[STEP]...", help="Steps of the advice (default: all that are safe)."),
        ] = None,
        url: Url = None,
        workload: WorkloadFile = None,
        history: HistoryUrl = None,
        database: HistoryDatabase = None,
        hours: Hours = 24,
        budget: Budget = None,
        table: OneTable = None,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> None:
        """Take steps while others read and write. Where the workload has real values, its SELECTs are run before and
        after each step, and a step is taken back that does not keep its promise. Ctrl-C leaves nothing half done.

        Example: dbpilot indexes apply 3f2a91bc --workload shop.sql --yes
        """
        with self._looked(_Asked(url, WantedWorkload(workload, history, database, hours), budget, table)) as at:
            wanted = chosen(at.steps, steps) if steps else [one for one in at.steps if one.safe and one.change()]
            if _say_if_not_asked(at) and not wanted:
                _end_as(ExitCode.REFUSED)
            if not steps:
                _say_what_is_left(at, wanted)
            if yes:
                _end_as(self._take(at, wanted, as_json))
            self._try(at, wanted, as_json)
        _end_as(ExitCode.FINDINGS if wanted else ExitCode.OK)

    def watch(
        self,
        url: Url = None,
        every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5,
    ) -> None:
        """Tell which indexes are read, made, hidden and gone, and what becomes of changes on trial, until Ctrl-C.

        Example: dbpilot indexes watch --every 10
        """
        try:
            with database(self._host, url) as engine:
                keep_telling(engine, every)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None

    def history(
        self,
        url: Url = None,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="How many changes, the latest first.")] = 20,
        as_json: AsJson = False,
    ) -> None:
        """Show what was changed, by whom, and what became of it, as the database's own ledger has it.

        Example: dbpilot indexes history
        """
        with self._ledger(url) as (_, entries):
            found = [entry_report(entry) for entry in reversed(entries)][:limit]
        if as_json:
            print_json(document(changes=found))
        elif found:
            _show(history_parts(found))
        else:
            say("no index of this database was changed by dbpilot")

    def settle(self, url: Url = None, yes: Yes = False, as_json: AsJson = False) -> None:
        """End the trials whose time is over, where no pilot does: what nothing speaks against stays, and an index that
        was hidden is dropped. What processes that died have left is put right.

        Example: dbpilot indexes settle --yes
        """
        with self._ledger(url) as (applier, entries):
            now = SYSTEM.now()
            due = [one for one in entries if one.state == "watching" and one.until is not None and one.until <= now]
            found = [entry_report(entry) for entry in due]
            if yes:
                outcomes = [*applier.recover(), *(applier.settle(one.id, {}, {}) for one in due)]
                found = [outcome_report(outcome) for outcome in outcomes]
        self._tell_changes(found, as_json, done=yes)

    def undo(
        self,
        number: Annotated[int, typer.Argument(metavar="NUMBER", help="The change's number.", show_default=False)],
        url: Url = None,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> None:
        """Take back a change that is on trial, or was kept.

        Example: dbpilot indexes undo 3 --yes
        """
        with self._ledger(url) as (applier, entries):
            entry = _entry(entries, number)
            found = [outcome_report(applier.revert(number, who=BY, why="asked for")) if yes else entry_report(entry)]
        self._tell_changes(found, as_json, done=yes)
        _end_as(ExitCode.OK if found[0].step == "reverted" else ExitCode.FINDINGS)

    @contextmanager
    def _looked(self, asked: _Asked) -> Iterator[_Desk]:
        """The database was looked at."""
        budget, recommended = _budget(asked.budget, self._config), self._host.recommended if self._host else ()
        with database(self._host, asked.url) as engine:
            with analysis_shown() as told, ended_between() as progress:
                at = _looked_at(engine, self._config, asked, budget, recommended, progress(told))
            yield at

    @contextmanager
    def _ledger(self, url: str | None) -> Iterator[tuple[Applier, list[Entry]]]:
        """Who changes indexes, and what was changed until now."""
        with database(self._host, url) as engine, telling(engine, self._config.history) as tell:
            applier = applier_of(engine, self._config.indexes, tell)
            yield applier, applier.entries()

    def _try(self, at: _Desk, steps: Sequence[Suggestion], as_json: bool) -> None:
        """What would be done was shown."""
        changes = [change_of(step) for step in steps]
        applier = applier_of(at.engine, at.config.indexes, schema=at.schema)
        planned = applier.apply(changes, who=BY, dry_run=True) if changes else []
        by_change = dict(zip(changes, planned, strict=True))
        found = [outcome_report(outcome) for _, outcome in in_turn(steps, by_change.__getitem__)]
        if as_json:
            print_json(document(dry_run=True, database=place(at.engine.url), changes=found))
        else:
            _show(planned_parts(found) if found else ["nothing is to be done"])
        self._say_how(bool(found))

    def _take(self, at: _Desk, steps: Sequence[Suggestion], as_json: bool) -> ExitCode:
        """The steps were taken, and what became of them was shown."""
        history = at.config.history
        with interruptible() as interruption, building_shown() as building, telling(at.engine, history) as tell:
            taking = Taking(at.engine, at.config.indexes, at.analysis, at.schema, tell, building)
            found = [outcome_report(outcome) for outcome in taking.all(steps, interruption)]
        if as_json:
            print_json(document(dry_run=False, database=place(at.engine.url), changes=found))
        else:
            _show(changes_parts(found) if found else ["nothing is to be done"])
        self._say_what_next(found)
        return ExitCode.INTERRUPTED if interruption.asked else _code(found)

    def _say_what_next(self, found: Sequence[ChangeReport]) -> None:
        numbers = [str(one.number) for one in found if one.step == "watching"]
        if numbers:
            which = f"change {numbers[0]} is" if len(numbers) == 1 else f"changes {', '.join(numbers)} are"
            say(
                f"{which} on trial: a pilot of the application that may change indexes judges that, or"
                f" `{self._program} indexes settle` when its time is over; `undo {numbers[0]} --yes` takes it back"
            )

    def _tell_changes(self, found: Sequence[ChangeReport], as_json: bool, *, done: bool) -> None:
        if as_json:
            print_json(document(dry_run=not done, changes=found))
        elif found:
            _show(changes_parts(found) if done else history_parts(found))
        else:
            say("nothing is to be done")
        if not done:
            self._say_how(bool(found))

    def _say_how(self, something: bool) -> None:
        done = f"; this does it: {self._command('--yes')}" if something else ""
        say(f"a dry run, nothing was changed{done}")

    def _command(self, *more: str) -> str:
        return command_line(self._program, [*sys.argv[1:], *more])

    @property
    def _program(self) -> str:
        return "dbpilot" if self._host is None else self._host.program


def _looked_at(
    engine: Engine,
    config: PilotConfig,
    asked: _Asked,
    budget_bytes: float,
    recommended: Sequence[Recommended],
    progress: Progress,
) -> _Desk:
    dialect, indexes, workloads = dialect_of(engine), config.indexes, Workloads(engine, config, asked.workload)
    wanted = Wanted(
        recommended=tuple(recommended),
        limits=Limits(budget_bytes=budget_bytes, most_calls=indexes.explains),
        unused_after=timedelta(days=indexes.unused_days),
        observed=Observed(seen_since=workloads.seen_since()),
        advice=asked.advice,
    )
    analysis = Analyst(OwnConnections(engine), dialect, SYSTEM).analyse(workloads, wanted, progress)
    tables = analysis.catalog.tables
    if asked.table is not None and asked.table not in tables:
        raise NotThereError(not_there("table", asked.table, tables))
    steps = suggestions(analysis, dialect.ddl, engine.dialect)
    kept = tuple(step for step in steps if asked.table in (None, step.table))
    at_history = {} if asked.workload.history is None else {"history": _history_at(config, asked.workload.history)}
    return _Desk(engine, config.model_copy(update=at_history), analysis, kept, asked.table)


def _history_at(config: PilotConfig, url: str) -> HistoryConfig:
    return changed(config.history, {"url": url})


def _budget(text: str | None, config: PilotConfig) -> float:
    """In bytes."""
    if text is not None:
        return size(text)
    return math.inf if config.indexes.budget_mb is None else config.indexes.budget_mb * MIB


def _document(at: _Desk, report: IndexReport) -> dict[str, Any]:
    found = document(report=report)["report"]
    told = {name: value for name, value in found.items() if name not in STATUS_FIELDS}
    return {**document(database=place(at.engine.url)), **told}


def _say_if_no_workload(at: _Desk) -> None:
    if not at.analysis.workload.statements:
        say(f"{at.analysis.workload.source}; this is an audit only: name statements with --workload FILE")


def _say_if_not_asked(at: _Desk) -> bool:
    """Whether there are statements that the optimizer could not be asked about; says why."""
    could_not = _could_not_be_asked(at)
    if could_not:
        say(f"no advice by a workload: {at.analysis.why_no_advice}")
    return could_not


def _could_not_be_asked(at: _Desk) -> bool:
    return bool(at.analysis.workload.statements) and at.analysis.why_no_advice is not None


def _say_what_is_left(at: _Desk, wanted: Sequence[Suggestion]) -> None:
    left = [step.id for step in at.steps if step not in wanted]
    if left:
        say(f"not among these, as somebody should look at them first, or by hand: {', '.join(left)}")


def _entry(entries: Iterable[Entry], number: int) -> Entry:
    """The change of this number, which can be taken back.

    Raises:
        ConfigError: there is none.
        RefusedError: it cannot; says what became of it.
    """
    found = next((entry for entry in entries if entry.id == number), None)
    if found is None:
        raise ConfigError(f"there is no change {number} in this database; `indexes history` shows them")
    if found.state not in ("watching", "kept"):
        raise RefusedError(f"change {number} cannot be taken back: it is {found.state} ({found.note})")
    return found


def _code(found: Sequence[ChangeReport]) -> ExitCode:
    steps = {one.step for one in found}
    if steps <= DONE:
        return ExitCode.OK
    return ExitCode.REFUSED if steps <= NOT_BEGUN else ExitCode.FINDINGS


def _show(parts: Iterable[Part]) -> None:
    show(parts, Console())


def _end_as(code: ExitCode) -> None:
    raise typer.Exit(code)
