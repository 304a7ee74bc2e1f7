"""Price files into every database: each good row once, whatever happens on the way."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from subprocess import PIPE, Popen

import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlalchemy as sa

from app import migrate
from app.common.infra.database.config.database_config import Base, make_engine
from app.market.bulk_insert import insert_new
from app.market.ingest.prices import import_prices
from app.market.ingest.rows import BadRow, Counts, ImportStopped, StrictlyRefused
from app.market.models import DailyPrice, Symbol
from tests.support import REPOSITORY, environment

PRICES = Base.metadata.tables["daily_prices"]
HEADER = "symbol,date,open,high,low,close,volume"
FIRST = "FB,2012-05-18,42.05,45,38,38.23,573576400"
SECOND = "FB,2012-05-21,36.53,36.66,33,34.03,168192700"
HIGH_BELOW_LOW = "FB,2012-05-22,32.61,30,31.5,31,101786600"
BATCH_ROWS = 10_000
WAIT_S = 30


@pytest.fixture
def engine(database_url: sa.URL) -> Iterator[sa.Engine]:
    made = make_engine(database_url)
    migrate.upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
def sqlite_engine(sqlite_url: sa.URL) -> Iterator[sa.Engine]:
    made = make_engine(sqlite_url)
    migrate.upgrade(made)
    yield made
    made.dispose()


def file_of(folder: Path, *lines: str) -> Path:
    path = folder / "prices.csv"
    path.write_text("\n".join([HEADER, *lines]))
    return path


def many(rows: int) -> Iterator[str]:
    """This many good lines, ten symbols a day."""
    for row in range(rows):
        yield f"S{row % 10},{date.fromordinal(700_000 + row // 10)},10,12,9,11,{row}"


def stored(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(DailyPrice)) or 0


def started(engine: sa.Engine, path: Path) -> Popen[str]:
    """``finstage import prices PATH``, at work."""
    surroundings = environment(path.parent, DATABASE_URL=engine.url.render_as_string(hide_password=False))
    command = [sys.executable, "-m", "app.cli", "import", "prices", str(path)]
    return Popen(command, env=surroundings, cwd=REPOSITORY, stdout=PIPE, stderr=PIPE, text=True)


def wait_for_rows(engine: sa.Engine, rows: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while stored(engine) < rows:
        assert time.monotonic() < deadline, f"only {stored(engine)} rows came"
        time.sleep(0.02)


def test_good_rows_are_stored_exactly_and_bad_ones_are_told(engine: sa.Engine, tmp_path: Path) -> None:
    told: list[BadRow] = []
    path = file_of(tmp_path, FIRST, HIGH_BELOW_LOW, SECOND)
    assert import_prices(engine, path, tell=told.append) == Counts(imported=2, refused=1)
    assert told == [BadRow(3, "high 30 is below low 31.5")]
    columns = [column for column in PRICES.c if column.name != "id"]
    with engine.connect() as connection:
        assert connection.execute(sa.select(*columns).order_by(PRICES.c.date).limit(1)).one() == (
            "FB",
            date(2012, 5, 18),
            Decimal("42.05"),
            Decimal(45),
            Decimal(38),
            Decimal("38.23"),
            None,
            573576400,
        )
        assert connection.execute(sa.select(Symbol.symbol, Symbol.name)).all() == [("FB", None)]


def test_a_second_run_imports_nothing_and_keeps_what_is_there(engine: sa.Engine, tmp_path: Path) -> None:
    import_prices(engine, file_of(tmp_path, FIRST))
    changed = FIRST.replace("38.23", "40")
    assert import_prices(engine, file_of(tmp_path, changed, SECOND)) == Counts(imported=1, already_there=1)
    with engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.min(DailyPrice.close))) == Decimal("34.03")
        assert connection.scalar(sa.select(sa.func.max(DailyPrice.close))) == Decimal("38.23")


def test_of_two_rows_for_one_day_the_first_is_kept(engine: sa.Engine, tmp_path: Path) -> None:
    later = FIRST.replace("38.23", "40")
    assert import_prices(engine, file_of(tmp_path, FIRST, later)) == Counts(imported=1, already_there=1)
    with engine.connect() as connection:
        assert connection.scalars(sa.select(DailyPrice.close)).all() == [Decimal("38.23")]


def test_a_strict_import_with_a_bad_row_changes_nothing(engine: sa.Engine, tmp_path: Path) -> None:
    path = file_of(tmp_path, *many(BATCH_ROWS + 5), HIGH_BELOW_LOW)
    with pytest.raises(StrictlyRefused) as refused:
        import_prices(engine, path, strict=True)
    assert refused.value.bad == BadRow(BATCH_ROWS + 7, "high 30 is below low 31.5")
    with engine.connect() as connection:
        assert connection.execute(sa.select(PRICES)).first() is None
        assert connection.execute(sa.select(Symbol)).first() is None


def test_a_strict_import_without_bad_rows_is_complete(engine: sa.Engine, tmp_path: Path) -> None:
    path = file_of(tmp_path, *many(BATCH_ROWS + 5))
    assert import_prices(engine, path, strict=True) == Counts(imported=BATCH_ROWS + 5)
    assert stored(engine) == BATCH_ROWS + 5


def test_parquet_and_csv_of_the_same_prices_are_the_same_rows(sqlite_engine: sa.Engine, tmp_path: Path) -> None:
    columns = {
        "symbol": ["FB", "FB", None],
        "date": [date(2012, 5, 18), date(2012, 5, 21), date(2012, 5, 22)],
        "open": [42.05, 36.53, 1.0],
        "high": [45.0, 36.66, 1.0],
        "low": [38.0, 33.0, 1.0],
        "close": [38.23, 34.03, 1.0],
        "volume": [573576400, 168192700, 1],
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "prices.parquet")
    told: list[BadRow] = []
    assert import_prices(sqlite_engine, file_of(tmp_path, FIRST, SECOND)) == Counts(imported=2)
    again = import_prices(sqlite_engine, tmp_path / "prices.parquet", tell=told.append)
    assert again == Counts(already_there=2, refused=1)
    assert told == [BadRow(3, "symbol is empty")]


def test_parquet_that_is_damaged_in_its_middle_keeps_what_came_before(sqlite_engine: sa.Engine, tmp_path: Path) -> None:
    rows = [line.split(",") for line in many(3 * BATCH_ROWS)]
    columns = dict(zip(HEADER.split(","), zip(*rows, strict=True), strict=True))
    path = tmp_path / "prices.parquet"
    pa.parquet.write_table(pa.table(columns), path, row_group_size=BATCH_ROWS, compression="none")
    content = bytearray(path.read_bytes())
    begin = pa.parquet.ParquetFile(path).metadata.row_group(2).column(0).dictionary_page_offset
    content[begin : begin + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(ImportStopped) as stopped:
        import_prices(sqlite_engine, path)
    assert stopped.value.counts == Counts(imported=2 * BATCH_ROWS)
    assert str(stopped.value.cause).startswith(f"{path} is damaged after row 20000: ")


def test_an_import_that_was_killed_can_be_run_again(engine: sa.Engine, tmp_path: Path) -> None:
    lines = list(many(2 * BATCH_ROWS + 5))
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    process = started(engine, pipe)
    with pipe.open("w") as feed:
        feed.write("\n".join([HEADER, *lines[: BATCH_ROWS + 5], ""]))
        feed.flush()
        wait_for_rows(engine, BATCH_ROWS)
        process.kill()
        process.communicate()
    assert stored(engine) == BATCH_ROWS
    counts = import_prices(engine, file_of(tmp_path, *lines))
    assert counts == Counts(imported=BATCH_ROWS + 5, already_there=BATCH_ROWS)


def test_ctrl_c_says_what_is_safe(sqlite_engine: sa.Engine, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    process = started(sqlite_engine, pipe)
    with pipe.open("w") as feed:
        feed.write("\n".join([HEADER, *many(BATCH_ROWS + 5), ""]))
        feed.flush()
        wait_for_rows(sqlite_engine, BATCH_ROWS)
        process.send_signal(signal.SIGINT)
        output, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert output == ""
    assert said.endswith(
        f"stopped: 10,000 rows of {pipe} are safely in the database; run the same command again for the rest\n"
    )
    assert "Traceback" not in said


def test_two_imports_at_once_bring_each_row_once(engine: sa.Engine, tmp_path: Path) -> None:
    rows = 2 * BATCH_ROWS
    path = file_of(tmp_path, *many(rows))
    backwards = tmp_path / "backwards.csv"
    backwards.write_text("\n".join([HEADER, *reversed(list(many(rows)))]))
    both = [started(engine, each) for each in (path, backwards)]
    ends = [(process.communicate(timeout=60), process.returncode) for process in both]
    assert [code for _, code in ends] == [0, 0], ends
    counts = [
        [int(word.rstrip(",")) for word in output.split() if word.rstrip(",").isdigit()] for (output, _), _ in ends
    ]
    assert sum(imported for imported, _, _ in counts) == rows
    assert sum(there for _, there, _ in counts) == rows
    assert stored(engine) == rows


def price(symbol: str, volume: int = 1) -> Mapping[str, object]:
    amounts = dict.fromkeys(("open", "high", "low", "close"), Decimal(1))
    return {"symbol": symbol, "date": date(2012, 5, 18), **amounts, "adj_close": None, "volume": volume}


def test_a_bulk_insert_counts_only_what_is_new(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        assert insert_new(connection, PRICES, []) == 0
        assert insert_new(connection, PRICES, [price("A"), price("B")]) == 2
        assert insert_new(connection, PRICES, [price("B", 2), price("C", 3), price("C", 4)]) == 1
        assert insert_new(connection, PRICES, [price("A", 5)]) == 0
        found = connection.execute(sa.select(PRICES.c.symbol, PRICES.c.volume).order_by(PRICES.c.symbol)).all()
    assert found == [("A", 1), ("B", 1), ("C", 3)]
