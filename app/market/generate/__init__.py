"""A database full of market-like data, the same for the same plan, for whoever wants to measure something."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Engine, Table, func, select

from app.common.infra.database.config.database_config import Base
from app.errors import RefusedForSafety
from app.market.bulk import bulk_engine, bulk_load
from app.market.generate.draws import Ints
from app.market.generate.market import Market, make_market, price_block_ends, price_rows, symbol_rows
from app.market.generate.news import Newsroom, news_rows
from app.market.generate.plan import BadPlan, Plan
from app.market.generate.signals import SignalBook, signal_rows
from app.market.models import Content, DailyPrice, SignalOutcome, Symbol, TechnicalSignal
from app.progress import Progress, silent

__all__ = ["BadPlan", "Plan", "TablesNotEmpty", "generate"]

SYMBOLS, PRICES, CONTENTS, SIGNALS, OUTCOMES = (
    Base.metadata.tables[model.__tablename__] for model in (Symbol, DailyPrice, Content, TechnicalSignal, SignalOutcome)
)


class TablesNotEmpty(RefusedForSafety):
    """A table holds rows that are not the beginning of what the plan would put there."""


@dataclass(frozen=True)
class _Stage:
    """Blocks of rows, each loaded in one transaction; ``ends`` has a table's number of rows after each block."""

    ends: Mapping[Table, Sequence[int]]
    rows: Callable[[int], Mapping[Table, pa.RecordBatch]]

    @property
    def blocks(self) -> int:
        return len(next(iter(self.ends.values())))


def generate(engine: Engine, plan: Plan, progress: Progress = silent) -> dict[str, int]:
    """The tables hold the plan's rows and no others; returns how many each has.

    Rows come in blocks of one transaction each. What an interrupted run has finished stays, and the same plan goes on
    from there; run again when all is done, it changes nothing.

    Raises:
        BadPlan: it asks for more different signals than there can be.
        TablesNotEmpty: a table holds rows of something else; nothing was changed.
        app.market.bulk.BulkLoadFailed: the database refused rows.
    """
    stages = _stages(make_market(plan))
    with bulk_engine(engine) as loader:
        with loader.connect() as connection:
            done = [_blocks_done(connection, stage) for stage in stages]
        for stage, first in zip(stages, done, strict=True):
            _fill(loader, stage, first, progress)
    return {table.name: ends[-1] if ends else 0 for stage in stages for table, ends in stage.ends.items()}


def _stages(market: Market) -> list[_Stage]:
    room, book = Newsroom(market), SignalBook(market)
    return [
        _Stage({SYMBOLS: [market.plan.symbols]}, lambda _block: {SYMBOLS: symbol_rows(market)}),
        _Stage({PRICES: price_block_ends(market).tolist()}, lambda block: {PRICES: price_rows(market, block)}),
        _Stage({CONTENTS: room.block_ends.tolist()}, lambda block: {CONTENTS: news_rows(room, block)}),
        _Stage(_signal_ends(book.block_ends, book.outcomes), lambda block: _with_outcomes(book, block)),
    ]


def _signal_ends(ends: Ints, outcomes: int) -> dict[Table, list[int]]:
    return {SIGNALS: ends.tolist(), OUTCOMES: ends.clip(max=outcomes).tolist()}


def _with_outcomes(book: SignalBook, block: int) -> dict[Table, pa.RecordBatch]:
    signals, outcomes = signal_rows(book, block)
    return {SIGNALS: signals, OUTCOMES: outcomes}  # in this order: outcomes refer to signals


def _fill(loader: Engine, stage: _Stage, first: int, progress: Progress) -> None:
    for block in range(first, stage.blocks):
        with loader.begin() as connection:
            for table, batch in stage.rows(block).items():
                bulk_load(connection, table, batch)
        _report(stage, block + 1, progress)


def _report(stage: _Stage, blocks: int, progress: Progress) -> None:
    table, ends = next(iter(stage.ends.items()))
    progress(table.name, ends[blocks - 1], ends[-1])


def _blocks_done(connection: Connection, stage: _Stage) -> int:
    """How many of the stage's blocks are in the database already.

    Raises:
        TablesNotEmpty: the tables hold something else.
    """
    counts = {table: _count(connection, table) for table in stage.ends if stage.blocks}
    if not any(counts.values()):
        return 0
    table, ends = next(iter(stage.ends.items()))
    done = ends.index(counts[table]) + 1 if counts[table] in ends else 0
    last = stage.rows(done - 1) if done else {}
    for other, count in counts.items():
        if not done or count != stage.ends[other][done - 1] or not _ends_with(connection, other, last[other]):
            raise _not_empty(other, count)
    return done


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table)) or 0


def _ends_with(connection: Connection, table: Table, batch: pa.RecordBatch) -> bool:
    """Whether the row with the highest key is the last one of ``batch``."""
    if batch.num_rows == 0:
        return True
    expected: dict[str, Any] = batch.slice(batch.num_rows - 1).to_pylist()[0]
    (key,) = table.primary_key
    columns = [table.c[name] for name in batch.schema.names]
    found = connection.execute(select(*columns).order_by(key.desc()).limit(1)).mappings().one()
    return dict(found) == expected


def _not_empty(table: Table, count: int) -> TablesNotEmpty:
    return TablesNotEmpty(
        f"{table.name} holds {count} rows that this plan did not put there, and generated data is not mixed "
        "with other: use an empty database, or repeat the options of the run that was interrupted"
    )
