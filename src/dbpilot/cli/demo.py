"""``dbpilot demo``: a database gets slow, and is cured, before one's eyes."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Annotated, Final

import typer
from pydantic import SecretStr
from rich.console import Console
from sqlalchemy import Engine, create_engine

from dbpilot.cli.exit_code import ExitCode
from dbpilot.cli.render import Heading, Part, count, duration, show
from dbpilot.clock import SYSTEM
from dbpilot.config import HistoryConfig, IndexesConfig, PilotConfig, PoolConfig, QueriesConfig
from dbpilot.errors import WatchedDatabaseError
from dbpilot.pilot import Autopilot
from dbpilot.reports.indexes import StepReport
from dbpilot.reports.queries import QueryStats

SMALL: Final = 2_000
LARGE: Final = 200_000
LOOKS: Final = 40
SLOW_S: Final = 0.002
WAIT_S: Final = 30.0
HOURS: Final = 1.0
SHOP: Final = '''\
"""A shop, as somebody would write it."""

from sqlalchemy import String, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    item: Mapped[str] = mapped_column(String(40))
    cents: Mapped[int]


def fill(engine, first, last):
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for start in range(first, last, 20_000):
            connection.execute(
                insert(Order),
                [
                    {"id": n, "customer_id": n * 7919 % 20_011, "item": f"item {n % 97}", "cents": n % 9_000}
                    for n in range(start, min(start + 20_000, last))
                ],
            )


def orders_of(engine, customer):
    with Session(engine) as session:
        query = select(Order).where(Order.customer_id == customer).order_by(Order.id.desc())
        return session.scalars(query).all()
'''


@dataclass(frozen=True, slots=True)
class Stage:
    """What the demonstration is given on."""

    engine: Engine
    shop: ModuleType
    config: PilotConfig
    tell: Callable[[Part], None]

    def median_s(self) -> float:
        """How long it typically takes to look at one customer's orders."""
        self._look(1)  # what the first one compiles, the others find
        return median(self._look(customer) for customer in range(1, LOOKS + 1))

    def _look(self, customer: int) -> float:
        started = SYSTEM.ticks()
        self.shop.orders_of(self.engine, customer)
        return SYSTEM.ticks() - started


def demo(
    rows: Annotated[
        int, typer.Option(min=10_000, max=2_000_000, help="How many orders the shop has in the end.")
    ] = LARGE,
) -> None:
    """Show a database that gets slow, is diagnosed and cured: on a SQLite file of its own, in less than a minute.
    Nothing is left behind.

    Example: dbpilot demo
    """
    console = Console()
    with _stage(lambda part: show([part], console)) as stage:
        cured = _play(stage, rows)
    raise typer.Exit(ExitCode.OK if cured else ExitCode.INTERNAL)


@contextmanager
def _stage(tell: Callable[[Part], None]) -> Iterator[Stage]:
    with TemporaryDirectory(prefix="dbpilot-demo-") as folder:
        path = Path(folder) / "shop.py"
        path.write_text(SHOP, encoding="utf-8")
        engine = create_engine(f"sqlite:///{folder}/shop.sqlite3")
        config = PilotConfig(
            queries=QueriesConfig(slow_s=SLOW_S, sample_every=1),
            pool=PoolConfig(mode="off"),
            indexes=IndexesConfig(enabled=False, apply=True),
            history=HistoryConfig(url=SecretStr(f"sqlite:///{folder}/history.sqlite3")),
        )
        try:
            yield Stage(engine, _module(path), config, tell)
        finally:
            engine.dispose()


def _module(path: Path) -> ModuleType:
    """The shop's code, from a file of its own as an application's is."""
    spec = spec_from_file_location("dbpilot_demo_shop", path)
    if spec is None or spec.loader is None:
        raise WatchedDatabaseError(f"{path} cannot be read")
    module = module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.modules[spec.name] = module  # SQLAlchemy looks annotations up there
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def _play(stage: Stage, rows: int) -> bool:
    """The whole piece; whether it ended well."""
    stage.tell(Heading("1. A shop opens"))
    stage.shop.fill(stage.engine, 0, SMALL)
    young = stage.median_s()
    stage.tell(f"{count(SMALL)} orders: a customer's orders are found in {duration(young)}")
    stage.shop.fill(stage.engine, SMALL, rows)
    with Autopilot(stage.engine, stage.config) as pilot:
        return _cure(stage, pilot, rows, young)


def _cure(stage: Stage, pilot: Autopilot, rows: int, young: float) -> bool:
    stage.tell(Heading("2. It sells well"))
    before = stage.median_s()
    stage.tell(f"{count(rows)} orders: the same takes {duration(before)} now, {before / young:.0f} times as long. Why?")
    stage.tell(Heading("3. dbpilot has watched"))
    _diagnose(stage, pilot)
    stage.tell(Heading("4. What would help?"))
    step = next((step for step in pilot.indexes(WAIT_S).steps if step.act == "create"), None)
    if step is None:
        stage.tell("no index would; on such a small table reading all of it is as fast")
        return False
    _advise(stage, step)
    stage.tell(Heading("5. Done, while others read and write"))
    [outcome] = pilot.indexing.apply([step.id], dry_run=False, by="demo")
    stage.tell(f"{outcome.step}: {step.ddl}")
    after = stage.median_s()
    stage.tell(f"{duration(before)} -> {duration(after)}: {before / after:.0f} times as fast")
    stage.tell(f"to take it back: {step.undo}")
    return after < before


def _diagnose(stage: Stage, pilot: Autopilot) -> None:
    [worst] = pilot.query_stats(HOURS, 1, "total_s").patterns
    where = worst.sources[0] if worst.sources else None
    stage.tell(worst.query)
    stage.tell(f"  {worst.calls} calls, {duration(worst.total_s)} in all, p95 {duration(worst.p95_s)}")
    if where is not None:
        stage.tell(f"  from {Path(where.callsite).name} in {where.function}")
    for line in _plan(pilot, worst):
        stage.tell(f"  {line}")


def _plan(pilot: Autopilot, worst: QueryStats) -> list[str]:
    """The plan's lines; it is asked for in the background, and comes soon."""
    deadline = SYSTEM.ticks() + WAIT_S / 6
    while SYSTEM.ticks() < deadline:
        found = [one.plan for one in pilot.slow_patterns(HOURS, 10).patterns if one.pattern_id == worst.pattern_id]
        if found and found[0] is not None:
            return [*(f"plan: {line.strip()}" for line in found[0]["text"].splitlines()[1:]), *found[0]["findings"]]
    return list(worst.advice)


def _advise(stage: Stage, step: StepReport) -> None:
    stage.tell(step.ddl)
    stage.tell(f"  {step.reason}")
    for line in step.evidence:
        stage.tell(f"  {line}")
