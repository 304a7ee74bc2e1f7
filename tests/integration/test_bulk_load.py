"""What goes in by the fast road comes out as it was, on every database and by every road."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Date,
    Engine,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    func,
    insert,
    make_url,
    select,
)

from app.common.infra.database.config.database_config import make_engine
from app.market.bulk import BulkLoadFailed, bulk_engine, bulk_load, sends_files
from app.market.models import Key, UtcDateTime

METADATA = MetaData()
ROWS = Table(
    "rows",  # a reserved word on MariaDB
    METADATA,
    Column("id", Key, primary_key=True),
    Column("text", Text),
    Column("short", String(5), unique=True),
    Column("amount", Numeric(18, 6)),
    Column("count", BigInteger),
    Column("yes", Boolean),
    Column("day", Date),
    Column("at", UtcDateTime),
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
    mariadb_charset="utf8mb4",
    mariadb_collate="utf8mb4_bin",
)
ODD = Table(
    'o%dd "ta`ble',
    METADATA,
    Column("select", Integer, primary_key=True),
    Column("per%cent %s", String(20)),
    Column('quo"te', String(20)),
    Column("back`tick", String(20)),
    Column("한글", String(20)),
    mysql_charset="utf8mb4",
    mariadb_charset="utf8mb4",
)
TEXTS = [
    "",
    None,
    "NULL",
    "null",
    "\\N",
    "\\.",
    "\\",
    "ends with a backslash\\",
    "a\\nb",
    "tab\there",
    "line\nbreak",
    "carriage\r\nreturn",
    "\n",
    '"',
    '""',
    '"quoted"',
    'ends with a quote"',
    '","',
    ",",
    "'; DROP TABLE rows; --",
    "50 % of %s {}",
    " spaces around ",
    "한국어 뉴스: 삼성 '주가'",
    "𝔘nicode 📈 é",
    "\x01\x1a\x7f",
    "x" * 70_000,
]
ROADS = ["the fast road", "the application's engine"]


@pytest.fixture(params=ROADS)
def loader(request: pytest.FixtureRequest, database_url: Any) -> Iterator[Engine]:
    """An engine for bulk loading, and the application's own: MariaDB gives it no LOAD DATA."""
    engine = make_engine(make_url(database_url))
    METADATA.create_all(engine)
    if request.param == ROADS[0]:
        with bulk_engine(engine) as made:
            yield made
    else:
        yield engine
    engine.dispose()


def batch(**columns: Any) -> pa.RecordBatch:
    arrays = {name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()}
    return pa.record_batch(arrays)


def stored(connection: Connection, *names: str) -> list[tuple[Any, ...]]:
    columns = [ROWS.c[name] for name in names]
    return [tuple(row) for row in connection.execute(select(*columns).order_by(ROWS.c.id))]


@pytest.fixture
def roomy(loader: Engine) -> Engine:
    """The loader, with room for long texts in MariaDB's column as well."""
    if loader.dialect.name in ("mysql", "mariadb"):
        with loader.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE `rows` MODIFY `text` MEDIUMTEXT")
    return loader


def test_every_text_comes_back_as_it_was(roomy):
    with roomy.begin() as connection:
        assert bulk_load(connection, ROWS, batch(id=range(1, len(TEXTS) + 1), text=TEXTS)) == len(TEXTS)
    with roomy.connect() as connection:
        assert [text for (text,) in stored(connection, "text")] == TEXTS


def test_every_type_comes_back_exactly(loader):
    amounts = [Decimal("123456789.123457"), Decimal("-0.000001"), None, Decimal(0)]
    counts = [2**63 - 1, -(2**63), None, 0]
    yes = [True, False, None, True]
    days = [date(2025, 12, 31), date(1950, 1, 1), None, date(2024, 2, 29)]
    at = [datetime(2025, 7, 1, 13, 30, 0, 123456, UTC), datetime(1999, 12, 31, tzinfo=UTC), None, datetime.now(UTC)]
    rows = batch(
        id=[1, 2, 3, 4],
        amount=pa.array(amounts, pa.decimal128(18, 6)),
        count=counts,
        yes=yes,
        day=days,
        at=pa.array(at, pa.timestamp("us", "UTC")),
    )
    with loader.begin() as connection:
        bulk_load(connection, ROWS, rows)
    with loader.connect() as connection:
        found = stored(connection, "amount", "count", "yes", "day", "at")
    assert found == list(zip(amounts, counts, yes, days, at, strict=True))


def test_instants_without_a_zone_are_utc(loader):
    naive = datetime(2025, 7, 1, 13, 30)  # noqa: DTZ001 - the case under test
    with loader.begin() as connection:
        bulk_load(connection, ROWS, batch(id=[1], at=pa.array([naive], pa.timestamp("us"))))
        assert stored(connection, "at") == [(naive.replace(tzinfo=UTC),)]


def test_what_is_loaded_is_stored_as_the_models_store_it(loader):
    """So that a question in plain SQL finds both alike."""
    amount, at, day = Decimal("92.473185"), datetime(2025, 7, 1, 13, 30, tzinfo=UTC), date(2025, 7, 1)
    with loader.begin() as connection:
        connection.execute(insert(ROWS).values(id=1, amount=amount, at=at, day=day, yes=True))
        rows = batch(id=[2], amount=pa.array([amount]), at=pa.array([at], pa.timestamp("us", "UTC")), day=[day])
        bulk_load(connection, ROWS, rows.append_column("yes", pa.array([True])))
        quoted = connection.dialect.identifier_preparer.format_table(ROWS)
        raw = connection.exec_driver_sql("SELECT amount, at, day, yes FROM " + quoted + " ORDER BY id").all()
    assert raw[0] == raw[1]


def test_names_are_quoted(loader):
    values = {"select": [1], "per%cent %s": ["a"], 'quo"te': ["b"], "back`tick": ["c"], "한글": ["라"]}
    with loader.begin() as connection:
        bulk_load(connection, ODD, batch(**values))
        assert connection.execute(select(ODD)).one() == (1, "a", "b", "c", "라")


def test_a_repeated_key_is_refused_and_nothing_stays(loader):
    with loader.begin() as connection:
        bulk_load(connection, ROWS, batch(id=[1], short=["one"]))
    with pytest.raises(BulkLoadFailed, match="rows "), loader.begin() as connection:
        bulk_load(connection, ROWS, batch(id=[2, 3], short=["two", "one"]))
    with loader.connect() as connection:
        assert stored(connection, "id", "short") == [(1, "one")]


def test_a_text_that_does_not_fit_is_refused_rather_than_cut(loader):
    if loader.dialect.name == "sqlite":
        with loader.begin() as connection:  # SQLite knows no lengths: it keeps all of it
            bulk_load(connection, ROWS, batch(id=[1], short=["too long"]))
            assert stored(connection, "short") == [("too long",)]
        return
    with pytest.raises(BulkLoadFailed, match=r"(?i)too long|truncated"), loader.begin() as connection:
        bulk_load(connection, ROWS, batch(id=[1], short=["too long"]))


def test_a_failure_says_nothing_of_the_values(loader):
    with pytest.raises(BulkLoadFailed) as caught, loader.begin() as connection:
        bulk_load(connection, ROWS, batch(id=[1, 1], text=["secret", "secret"]))
    assert "secret" not in str(caught.value)


def test_keys_go_on_after_those_loaded(loader):
    with loader.begin() as connection:
        bulk_load(connection, ROWS, batch(id=[5, 41]))
        assert connection.execute(insert(ROWS).values(text="next")).inserted_primary_key == (42,)


def test_keys_may_be_left_to_the_database(loader):
    with loader.begin() as connection:
        bulk_load(connection, ROWS, batch(text=["a", "b"]))
        assert stored(connection, "id", "text") == [(1, "a"), (2, "b")]


def test_loading_is_part_of_the_callers_transaction(loader):
    with loader.connect() as connection:
        bulk_load(connection, ROWS, batch(id=[1]))
        assert connection.in_transaction()
        connection.rollback()
        assert connection.scalar(select(func.count()).select_from(ROWS)) == 0


def test_nothing_to_load_is_no_statement(loader):
    with loader.connect() as connection:
        assert bulk_load(connection, ROWS, batch(id=pa.array([], pa.int64()))) == 0
        assert not connection.in_transaction()


def test_only_the_bulk_engine_may_send_files(mariadb_url):
    application = make_engine(make_url(mariadb_url))
    with bulk_engine(application) as loader, loader.connect() as one, application.connect() as other:
        assert sends_files(one)
        assert not sends_files(other)
    application.dispose()
