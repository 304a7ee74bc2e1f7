"""``dbpilot cleanup``: what is due by the rules of retention, doing it, and undoing it."""

import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from dbpilot.cleaning import ACTIVITY
from dbpilot.cli.cleanup_parts import (
    document,
    finished_parts,
    found_parts,
    holds_parts,
    plan_parts,
    restored_parts,
    runs_parts,
    verified_parts,
)
from dbpilot.cli.cleanup_run import interruptible, watched
from dbpilot.cli.desk import Desk, Host, database, desk
from dbpilot.cli.exit_code import ExitCode
from dbpilot.cli.history import History
from dbpilot.cli.hosted import without
from dbpilot.cli.options import AsJson, Database, HistoryUrl, Url, Yes
from dbpilot.cli.progress import shown
from dbpilot.cli.render import Part, print_json, say, show
from dbpilot.cli.urls import command_line
from dbpilot.cli.values import condition, instant, key, seconds
from dbpilot.clock import SYSTEM
from dbpilot.config import PilotConfig
from dbpilot.errors import ConfigError
from dbpilot.history.store import CLEANUP
from dbpilot.reports.cleanup import runs_of as runs_in
from dbpilot.retention import CleanupFinished, Hold, Plan, Retention
from dbpilot.retention.targets import Key

BY: Final = "command line"
NAMED: Final = ("rules", "url", "history", "database")
"""Options of which a host knows the answer."""
EVER: Final = datetime.fromtimestamp(0, UTC)
REASON_LENGTH: Final = 500
NO_LIMITS: Final = {"max_lag_s": None, "max_running": None, "max_lock_waits": None, "max_p95_s": None}

Rules = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:NAME|FILE.toml",
        help="The rules: a sequence of dbpilot.retention.Rule in a module, or a TOML file with a table for each.",
    ),
]
OneTable = Annotated[str | None, typer.Option(help="The rules of this table only.")]
RuleName = Annotated[str, typer.Argument(metavar="RULE", help="The rule's name.", show_default=False)]


def make_cleanup(host: Callable[[], Host] | None = None) -> typer.Typer:
    """The commands; those of a host, which is asked for when one is run, need not be told its rules, its database and
    its history."""
    commands = _Commands(host)
    app = typer.Typer(no_args_is_help=True, help="Retention: what is old is archived, and only then deleted.")
    for command in (
        commands.plan,
        commands.run,
        commands.history,
        commands.verify,
        commands.restore,
        commands.hold,
        commands.holds,
        commands.release,
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

    def plan(self, rules: Rules = None, url: Url = None, table: OneTable = None, as_json: AsJson = False) -> None:
        """Show what a run would do now; nothing is changed. Ends with 3 when something is due, with 0 when nothing is.

        Example: dbpilot cleanup plan --rules shop.rules:RULES --url postgresql+psycopg://shop@localhost/shop
        """
        with desk(self._host, rules, url) as at:
            _end(self._plan(at, table, as_json))

    def run(
        self,
        rules: Rules = None,
        url: Url = None,
        table: OneTable = None,
        yes: Yes = False,
        window: Annotated[
            str | None, typer.Option(metavar="DURATION", help="End after so long: 90s, 30m, 2h. The next run goes on.")
        ] = None,
        max_lag: Annotated[
            str | None, typer.Option(metavar="DURATION", help="Wait while a replica is further behind (default: 1s).")
        ] = None,
        wait: Annotated[
            bool, typer.Option("--wait/--no-wait", help="Wait while the database is busy, or do not mind.")
        ] = True,
        as_json: AsJson = False,
    ) -> None:
        """Archive what is due, see that it is there, and delete it. Ctrl-C ends it after the batch in hand.

        Example: dbpilot cleanup run --rules rules.toml --window 2h --yes
        """
        given = {} if wait else dict[str, Any](NO_LIMITS)
        given |= {"window_s": seconds(window)} if window else {}
        given |= {"max_lag_s": seconds(max_lag)} if max_lag else {}
        with desk(self._host, rules, url, given) as at:
            if not yes:
                due = self._plan(at, table, as_json)
                self._say_how(due)
                _end(due)
            _end_as(self._run(at, table, as_json))

    def history(
        self,
        history: HistoryUrl = None,
        database: Database = None,
        limit: Annotated[int, typer.Option(min=1, max=1000, help="How many runs, the latest first.")] = 10,
        as_json: AsJson = False,
    ) -> None:
        """Show the last runs, whoever began them: a schedule, the API or a command.

        Example: dbpilot cleanup history --limit 5
        """
        config = PilotConfig.from_env() if self._host is None else self._host.config
        store = History(history or config.history.url.get_secret_value())
        found = {one: runs_in(store.events(one, CLEANUP, EVER, limit)) for one in store.chosen(database)}
        if as_json:
            runs = [{"database": one, "runs": runs} for one, runs in found.items()]
            print_json(document(history=store.place, databases=runs))
        else:
            _show(part for one, runs in found.items() for part in runs_parts(one, runs))
        if not any(found.values()):
            say(f"no cleaning is in {store.place} yet")

    def verify(self, rule: RuleName, rules: Rules = None, url: Url = None, as_json: AsJson = False) -> None:
        """Read the archive of a rule, and compare it with what was put there. Ends with 3 when it does not hold that.

        Example: dbpilot cleanup verify "old news" --rules rules.toml
        """
        with desk(self._host, rules, url) as at:
            result = at.pilot.cleaning.verify(rule)
        if as_json:
            print_json(document(ok=result.ok, verified=result))
        else:
            _show(verified_parts(result))
        _end(not result.ok)

    def restore(
        self,
        rule: RuleName,
        rules: Rules = None,
        url: Url = None,
        since: Annotated[
            str | None, typer.Option(metavar="INSTANT", help="Rows from then on, by the rule's time column.")
        ] = None,
        until: Annotated[str | None, typer.Option(metavar="INSTANT", help="Rows from before then.")] = None,
        keys: Annotated[
            list[str] | None,
            typer.Option("--key", help="The row of this key; several columns as in CSV. May be given several times."),
        ] = None,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> None:
        """Bring archived rows back: of a range of time, of some keys, or all. What is live is never overwritten.

        Example: dbpilot cleanup restore "old news" --rules rules.toml --since 2024-03-01 --until 2024-04-01 --yes
        """
        since_at, until_at = (None if text is None else instant(text) for text in (since, until))
        with desk(self._host, rules, url) as at:
            table = Retention(at.engine, at.rules).rule_with_archive(rule).table
            columns = at.live(table).key
            wanted = [key(columns, text) for text in keys] if keys else None
            if yes:
                _end(_restored(at, rule, since_at, until_at, wanted, as_json))
            found = at.pilot.cleaning.found(rule, since_at, until_at, wanted)
        if as_json:
            lost = {"missing_rows": found.missing_rows, "missing": found.missing}
            print_json(document(dry_run=True, rule=rule, found=found.found, **lost))
        else:
            _show(found_parts(found))
        self._say_how(bool(found.found))
        _end(bool(found.found or found.missing_rows))

    def hold(
        self,
        table: Annotated[str, typer.Argument(metavar="TABLE", help="The table.", show_default=False)],
        reason: Annotated[str, typer.Option(help="Why, for whoever asks later.", show_default=False)],
        rules: Rules = None,
        url: Url = None,
        where: Annotated[
            list[str] | None,
            typer.Option(metavar="COLUMN=VALUE", help="Only rows with this; may be given several times."),
        ] = None,
        as_json: AsJson = False,
    ) -> None:
        """Keep rows, or a whole table, whatever the rules say, until the hold is released.

        Example: dbpilot cleanup hold news --where source=reuters --reason "case 4711" --rules rules.toml
        """
        if not 0 < len(reason) <= REASON_LENGTH:
            raise ConfigError(f"--reason has 1 to {REASON_LENGTH} characters")
        with desk(self._host, rules, url) as at:
            rows = condition(at.live(table).table, where or ())
            began = SYSTEM.now()
            with at.pilot:
                held = at.pilot.cleaning.hold(table, rows, reason, BY)
            _say_if_forgotten(at, ACTIVITY, began)
        _show_holds([held], as_json)

    def holds(self, url: Url = None, as_json: AsJson = False) -> None:
        """Show the holds that are in force.

        Example: dbpilot cleanup holds
        """
        with database(self._host, url) as engine:
            found = Retention(engine, ()).holds()
        _show_holds(found, as_json)

    def release(
        self,
        number: Annotated[int, typer.Argument(metavar="ID", help="The hold's number.", show_default=False)],
        rules: Rules = None,
        url: Url = None,
        yes: Yes = False,
        as_json: AsJson = False,
    ) -> None:
        """Let the rules apply again to what was on hold.

        Example: dbpilot cleanup release 7 --rules rules.toml --yes
        """
        with desk(self._host, rules, url) as at:
            held = [one for one in Retention(at.engine, ()).holds() if one.id == number]
            if not held:
                raise ConfigError(f"no hold in force has the number {number}; `cleanup holds` shows them")
            if yes:
                began = SYSTEM.now()
                with at.pilot:
                    at.pilot.cleaning.release(number, BY)
                _say_if_forgotten(at, ACTIVITY, began)
        if as_json:
            print_json(document(released=yes, hold=held[0]))
        else:
            _show([*holds_parts(held), *(["released"] if yes else [])])
        if not yes:
            self._say_how(True)
            _end(True)

    def _plan(self, at: Desk, table: str | None, as_json: bool) -> bool:
        """The plan was shown; whether something is due."""
        plan = at.pilot.cleaning.plan(table)
        if as_json:
            print_json(_plan_document(at, plan))
        else:
            _show(plan_parts(plan))
        return plan.rows > 0

    def _run(self, at: Desk, table: str | None, as_json: bool) -> ExitCode:
        """The rules were run, and what they did was shown."""
        began = SYSTEM.now()
        with interruptible() as interruption:
            with at.pilot, shown() as watching:
                finished = watched(at.pilot.cleaning, table, BY, watching, interruption)
            forgotten = _say_if_forgotten(at, CLEANUP, began)
        advice = at.pilot.cleaning.advice(finished)
        if as_json:
            print_json(_finished_document(at, finished, advice, forgotten))
        else:
            _show(finished_parts(finished, advice))
        if interruption.asked and not finished.ok:
            say(f"interrupted; this goes on: {self._command()}")
            return ExitCode.INTERRUPTED
        return ExitCode.OK if finished.ok and not any(one.left for one in finished.results) else ExitCode.FINDINGS

    def _say_how(self, something: bool) -> None:
        done = f"; this does it: {self._command('--yes')}" if something else ""
        say(f"a dry run, nothing was changed{done}")

    def _command(self, *more: str) -> str:
        return command_line("dbpilot" if self._host is None else self._host.program, [*sys.argv[1:], *more])


def _restored(
    at: Desk, rule: str, since: datetime | None, until: datetime | None, keys: Sequence[Key] | None, as_json: bool
) -> bool:
    """The rows came back, and that was shown; whether some stayed in the archive, or are missing from it."""
    began = SYSTEM.now()
    with at.pilot:
        result = at.pilot.cleaning.restore(rule, since, until, keys, BY)
    _say_if_forgotten(at, ACTIVITY, began)
    if as_json:
        print_json(document(dry_run=False, restored=result))
    else:
        _show(restored_parts(result))
    if result.restored:
        say("what is due archives again with the next run: `cleanup hold` keeps it")
    return not result.ok


def _say_if_forgotten(at: Desk, kind: str, since: datetime) -> str | None:
    """Why the history does not have what was done, which was said; None when it has."""
    why = at.why_forgotten(kind, since)
    if why is not None:
        say(f"it was done, but it is not remembered: {why}")
    return why


def _plan_document(at: Desk, plan: Plan) -> dict[str, Any]:
    return document(dry_run=True, database=at.database, at=plan.at, rows=plan.rows, steps=plan.steps)


def _finished_document(
    at: Desk, finished: CleanupFinished, advice: Sequence[str], forgotten: str | None
) -> dict[str, Any]:
    made = document(
        dry_run=False,
        database=at.database,
        started=finished.started,
        ended=finished.ended,
        ok=finished.ok,
        planned=finished.planned,
        deleted=finished.deleted,
        results=finished.results,
        advice=advice,
        history_error=forgotten,
    )
    for written, result in zip(made["results"], finished.results, strict=True):
        written["rows_per_s"] = result.rows_per_s
    return made


def _show_holds(holds: Sequence[Hold], as_json: bool) -> None:
    if as_json:
        print_json(document(holds=holds))
    else:
        _show(holds_parts(holds))


def _show(parts: Iterable[Part]) -> None:
    show(parts, Console())


def _end(found_something: bool) -> None:
    """The command ends here, with 3 where something was found."""
    _end_as(ExitCode.FINDINGS if found_something else ExitCode.OK)


def _end_as(code: ExitCode) -> None:
    raise typer.Exit(code)
