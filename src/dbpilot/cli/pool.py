"""``dbpilot pool``: how the pools are, and what another policy would have made of a day."""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.live import Live

from dbpilot.alerts import Alert
from dbpilot.cli.chart import Scale, chart, glyphs_for, legend
from dbpilot.cli.exit_code import ExitCode
from dbpilot.cli.history import History
from dbpilot.cli.options import AsJson, Database, HistoryUrl, changed
from dbpilot.cli.pool_status import (
    RECENTLY,
    DatabasePools,
    ProcessPool,
    Resize,
    as_document,
    pools_of,
    utilization,
    wait_p95_s,
)
from dbpilot.cli.render import (
    Column,
    Heading,
    Part,
    Row,
    Table,
    ago,
    count,
    duration,
    moment,
    print_json,
    rendered,
    say,
    show,
)
from dbpilot.cli.render import share as percent
from dbpilot.cli.replay import Mode, Replay, World, replay, reviewed
from dbpilot.cli.replay import as_document as replays_as_document
from dbpilot.cli.trace_file import Trace, as_csv, read_trace
from dbpilot.clock import SYSTEM
from dbpilot.config import PilotConfig, PoolConfig
from dbpilot.errors import StoreError
from dbpilot.pool.sample import Decision
from dbpilot.pool.simulation import START
from dbpilot.pool.traces import SEED, market_day

SHOWN_RESIZES: Final = 10
SHOWN_DECISIONS: Final = 20
WATCH_HOURS: Final = 1.0
RED: Final = "red"
FAINT: Final = "dim"

pool = typer.Typer(no_args_is_help=True, help="Connection pools: how they are, and how large they should be.")


class Shape(StrEnum):
    """The traces that can be made."""

    MARKET_DAY = "market-day"


@pool.command()
def status(
    history: HistoryUrl = None,
    database: Database = None,
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 366, help="How far back resizes are looked for.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Show the pools of all processes that write this history, as they were some seconds ago.

    Example: dbpilot pool status --history sqlite:///var/dbpilot.sqlite3
    """
    watching = _Watching(history, database, hours)
    found = watching.look()
    if as_json:
        print_json(as_document(watching.place, watching.at, found))
    else:
        show(_status(found, watching.at), Console())
    if not found:
        say(f"nothing is in {watching.place} yet: does a pilot run, and is this its history?")


@pool.command()
def watch(
    history: HistoryUrl = None,
    database: Database = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2,
) -> None:
    """Show the pools again and again, until Ctrl-C; a line for each process and turn where stdout is no terminal.

    Example: dbpilot pool watch --every 5
    """
    watching, console = _Watching(history, database, WATCH_HOURS), Console()
    try:
        if console.is_terminal:
            _redraw(watching, console, every)
        else:
            _keep_telling(watching, every)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


@pool.command()
def simulate(
    file: Annotated[
        str,
        typer.Argument(
            help="CSV with the header at_s,takes_s, a request in each line; or JSON as GET connection-pool/metrics "
            "answers; - is standard input.",
            show_default=False,
        ),
    ],
    mode: Annotated[
        list[Mode] | None, typer.Option(help="A policy to try; may be given several times (default: all).")
    ] = None,
    min_size: Annotated[int | None, typer.Option(min=1, help="The least size (default: what DBPILOT_* says).")] = None,
    max_size: Annotated[int | None, typer.Option(min=1, help="The largest size (likewise).")] = None,
    overflow: Annotated[int, typer.Option(min=0, help="Connections beyond the size while they are needed.")] = 10,
    cores: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Statements the database works on at once without each taking longer (default: any number).",
        ),
    ] = None,
    connect_ms: Annotated[float, typer.Option(min=0, help="How long it takes to open a connection.")] = 15,
    review_s: Annotated[
        float | None, typer.Option(min=1, help="Seconds between two reviews of the auto mode (likewise).")
    ] = None,
    process: Annotated[str | None, typer.Option(help="Of recorded pools: replay this process alone.")] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a trace of requests under each policy, and show side by side what would have happened.

    Example: dbpilot pool trace --seconds 60 | dbpilot pool simulate - --review-s 4
    """
    config = _policy({"min_size": min_size, "max_size": max_size, "review_s": review_s})
    world = World(overflow, cores, connect_ms / 1000)
    trace, modes = read_trace(file, process), list(dict.fromkeys(mode or Mode))
    for note in trace.notes:
        say(note)
    replays = [_replayed(trace, one, config, world) for one in modes]
    if as_json:
        print_json(replays_as_document(file, trace.requests, config, world, replays))
        return
    console = Console()
    show(_replays(replays, console.width, console.encoding), console)


@pool.command()
def trace(
    seconds: Annotated[float, typer.Option(min=0.001, help="How long the trace is.")] = 60,
    requests: Annotated[int, typer.Option(min=1, max=5_000_000, help="How many requests it has.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed makes the same trace.")] = SEED,
    shape: Annotated[Shape, typer.Option(help="How busy it is when.")] = Shape.MARKET_DAY,
) -> None:
    """Write a made trace as CSV: a quiet night, an opening ten times as busy, a lull, a closing ramp.

    Example: dbpilot pool trace --seconds 60 --requests 10000 > day.csv
    """
    made = {Shape.MARKET_DAY: market_day}[shape](seconds, requests, seed)
    for line in as_csv(made):
        typer.echo(line)


class _Watching:
    """Looks into one history."""

    def __init__(self, history: str | None, database: str | None, hours: float) -> None:
        config = PilotConfig.from_env()
        self._history = History(history or config.history.url.get_secret_value())
        self._database, self._hours, self._alerts = database, hours, config.alerts
        self.place = self._history.place
        self.at = SYSTEM.now()

    def look(self) -> list[DatabasePools]:
        """The pools as they are now, which is ``at``."""
        self.at = SYSTEM.now()
        return pools_of(self._history, self._database, self._hours, self.at, self._alerts)


def _redraw(watching: _Watching, console: Console, every_s: float) -> None:
    """The terminal shows the pools; while the history cannot be read, what was read last, and why there is no more."""
    parts = list(_status(watching.look(), watching.at))
    with Live(rendered(parts), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            said = f"every {every_s:g} s; Ctrl-C ends it"
            try:
                parts = list(_status(watching.look(), watching.at))
            except StoreError as error:
                said = str(error)
            live.update(rendered([f"{watching.at:%H:%M:%S} UTC, {said}", *parts]), refresh=True)


def _keep_telling(watching: _Watching, every_s: float) -> None:
    """Every turn is told in lines; while the history cannot be read, why not."""
    found = watching.look()
    while True:
        for line in _lines(found, watching.at):
            typer.echo(line)
        time.sleep(every_s)
        try:
            found = watching.look()
        except StoreError as error:
            found = []
            say(str(error))


def _lines(found: Iterable[DatabasePools], now: datetime) -> Iterator[str]:
    """A line for each process, of words and figures that a program can take apart."""
    names = [column.name.replace(" ", "_") for column in FIGURES]
    for one in found:
        for process in one.processes:
            figures = zip(names, _figures_of(process), strict=True)
            words = " ".join(f"{name}={figure.replace(' ', '')}" for name, figure in figures)
            state = f"state={process.state} silent={process.silent_s:.0f}s"
            yield f"{now:%Y-%m-%dT%H:%M:%SZ} {one.database} {process.process} {state} {words}"


def _status(found: Iterable[DatabasePools], now: datetime) -> Iterator[Part]:
    for number, one in enumerate(found):
        yield from [""] if number else []
        yield Heading(one.database)
        yield from _processes(one, now)
        yield from _alerts(one.alerts)
        yield from _resizes(one.resizes)


FIGURES: Final = tuple(
    Column(name, figures=True)
    for name in ("size", "limit", "in use", "used", "idle", "waiting", "wait p95", "hold", "timeouts")
)


def _processes(one: DatabasePools, now: datetime) -> Iterator[Part]:
    if not one.processes:
        last = "never" if one.last_seen is None else ago((now - one.last_seen).total_seconds())
        minutes = RECENTLY.total_seconds() / 60
        yield f"no pool was seen in the last {minutes:.0f} minutes; the last time: {last}"
        return
    rows = [_process_row(process) for process in one.processes]
    yield Table((Column("process"), *FIGURES, Column("seen")), rows)


def _process_row(process: ProcessPool) -> Row:
    gone = process.state == "gone"
    seen = f"{'gone, ' if gone else ''}{ago(process.silent_s)}"
    return Row((process.process, *_figures_of(process), seen), FAINT if gone else "")


def _figures_of(process: ProcessPool) -> list[str]:
    """What stands in the columns; nothing is known of one that is gone but what it counted before."""
    sample, timeouts = process.sample, count(process.timeouts)
    if sample is None:
        return ["-"] * (len(FIGURES) - 1) + [timeouts]
    return [
        count(sample.size),
        "none" if sample.limit is None else count(sample.limit),
        count(sample.in_use),
        percent(utilization(sample)),
        count(sample.idle),
        count(sample.waiting),
        duration(wait_p95_s(sample)),
        duration(sample.hold_s),
        timeouts,
    ]


def _alerts(alerts: Sequence[Alert]) -> Iterator[Part]:
    if alerts:
        yield from ("", Heading("open alerts"))
        columns = (Column("severity"), Column("since (UTC)"), Column("message"))
        rows = [
            Row((alert.severity, moment(alert.since), alert.message), RED if alert.severity == "CRITICAL" else "")
            for alert in alerts
        ]
        yield Table(columns, rows)


def _resizes(resizes: Sequence[Resize]) -> Iterator[Part]:
    if resizes:
        yield from ("", Heading("latest resizes"))
        columns = tuple(Column(name) for name in ("at (UTC)", "process", "what", "why", "undo"))
        rows = [Row((moment(one.at), one.process, one.what, one.why, one.undo)) for one in resizes[:SHOWN_RESIZES]]
        yield Table(columns, rows)


def _policy(given: dict[str, Any]) -> PoolConfig:
    """The environment's policy, with what was given on the command line."""
    return changed(PilotConfig.from_env().pool, {k: v for k, v in given.items() if v is not None})


def _replayed(trace: Trace, mode: Mode, config: PoolConfig, world: World) -> Replay:
    say(f"replaying {len(trace.requests):,} requests over {trace.requests[-1].at_s:,.1f} s, mode {mode.value}")
    one = replay(trace.requests, mode, config, world)
    if mode is Mode.AUTO and not reviewed(one, config):
        say(f"auto reviews every {config.review_s:g} s, and all was over before; --review-s sets another time")
    return one


def _replays(replays: Sequence[Replay], width: int, encoding: str) -> Iterator[Part]:
    """Figures side by side, then for each policy the day and its decisions."""
    glyphs, scale = glyphs_for(encoding), Scale.of([one.lived.samples for one in replays])
    yield from (_side_by_side(replays), "", legend(glyphs))
    for one in replays:
        yield from ("", Heading(one.mode.value))
        if one.lived.samples:
            yield chart(one.lived.samples, scale, width, glyphs)
        yield from _decisions(one)


def _side_by_side(replays: Sequence[Replay]) -> Table:
    figures = [one.figures for one in replays]
    lines = {
        "requests": [count(one.requests) for one in figures],
        "wait p50": [duration(one.wait_p50_s) for one in figures],
        "wait p95": [duration(one.wait_p95_s) for one in figures],
        "wait p99": [duration(one.wait_p99_s) for one in figures],
        "longest wait": [duration(one.wait_max_s) for one in figures],
        "database p99": [duration(one.database_p99_s) for one in figures],
        "connects": [count(one.connects) for one in figures],
        "connection-seconds": [count(one.connection_s) for one in figures],
        "resizes": [count(one.resizes) for one in figures],
    }
    columns = (Column("mode"), *(Column(one.mode.value, figures=True) for one in replays))
    return Table(columns, [Row((name, *cells)) for name, cells in lines.items()])


def _decisions(one: Replay) -> Iterator[Part]:
    decisions = one.lived.decisions
    if not decisions:
        yield "no resizes"
        return
    rows = [_decision(decision) for decision in decisions[:SHOWN_DECISIONS]]
    yield Table((Column("at", figures=True), Column("size"), Column("why")), rows)
    if len(decisions) > SHOWN_DECISIONS:
        yield f"and {len(decisions) - SHOWN_DECISIONS:,} more: --json has all"


def _decision(decision: Decision) -> Row:
    most = "" if decision.limit is None else f", at most {decision.limit}"
    at_s = (decision.at - START).total_seconds()
    return Row((f"{at_s:,.0f} s", f"{decision.before} -> {decision.size}{most}", decision.reason))
