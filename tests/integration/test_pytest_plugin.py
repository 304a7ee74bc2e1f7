"""Tests of an application fail when they ask too much of a real database, and say where and what to do."""

import asyncmy  # noqa: F401 - pytester forgets what the tests inside import, and loading a driver twice crashes
import asyncpg  # noqa: F401 - as above
import pytest

import dbpilot.testing.budget  # noqa: F401 - as above

pytest_plugins = ["pytester"]

SHOP = """
import os

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

class Base(DeclarativeBase):
    pass

class Author(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Mapped[list["Book"]] = relationship()

class Book(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(sa.String(50))
    author_id: Mapped[int] = mapped_column(sa.ForeignKey("authors.id"))

@pytest.fixture
def engine(tmp_path):
    made = sa.create_engine(os.environ.get("SHOP_URL", f"sqlite:///{tmp_path}/shop.sqlite3"))
    Base.metadata.create_all(made)
    with made.begin() as connection:
        connection.execute(sa.insert(Author), [{"id": number} for number in range(1, 6)])
        books = [{"id": n, "title": f"t{n}", "author_id": n % 5 + 1} for n in range(1, 2001)]
        connection.execute(sa.insert(Book), books)
    yield made
    made.dispose()

def titles(session):
    return [len(author.books) for author in session.scalars(sa.select(Author))]
"""


@pytest.fixture
def shop(pytester):
    """Runs tests of a shop with authors and 2,000 books, each in a pytest of its own."""

    def run(tests, *arguments):
        pytester.makepyfile(SHOP + tests)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)

    return run


def test_a_test_over_its_budget_fails_with_the_statements_and_their_lines(shop):
    result = shop("""
@pytest.mark.queries(max=2, full_scan_rows=None)
def test_three(engine):
    with engine.connect() as connection:
        for _ in range(3):
            connection.execute(sa.select(Author.id))
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["3 statements ran, and 2 may:", "  3 x SELECT authors.id FROM authors", "*at *.py:*"])


def test_what_is_within_the_budget_passes_and_fixtures_are_not_counted(shop):
    result = shop("""
@pytest.mark.queries(max=1)
def test_one(engine):
    with engine.begin() as connection:
        connection.execute(sa.insert(Author), [{"id": number} for number in range(10, 20)])
""")
    result.assert_outcomes(passed=1)


def test_n_plus_one_fails_and_names_the_relationship_and_the_cure(shop):
    result = shop("""
@pytest.mark.queries(full_scan_rows=None)
def test_titles(engine):
    with Session(engine) as session:
        titles(session)
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["N+1: 5 x SELECT books.id,*", "*in titles*", "*selectinload(Author.books)*"])


def test_n_plus_one_that_is_meant_is_allowed(shop):
    result = shop("""
@pytest.mark.queries(n_plus_one=True, full_scan_rows=None)
def test_titles(engine):
    with Session(engine) as session:
        titles(session)
""")
    result.assert_outcomes(passed=1)


def test_the_same_question_of_many_requests_is_no_n_plus_one(shop):
    result = shop("""
from dbpilot import unit_of_work

@pytest.mark.queries(full_scan_rows=None)
def test_requests(engine):
    for _ in range(30):
        with unit_of_work("a request"), engine.connect() as connection:
            connection.execute(sa.select(Author.id).where(Author.id == 1)).all()
""")
    result.assert_outcomes(passed=1)


SEARCH = """
def search(session):
    return session.scalars(sa.select(Book).where(Book.title == "t7")).all()

@pytest.mark.queries(full_scan_rows={rows})
def test_search(engine):
    with Session(engine) as session:
        search(session)
"""


def test_reading_a_large_table_whole_fails_with_the_index_to_make(shop):
    result = shop(SEARCH.format(rows=1000))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["full scan: books has 1,000 rows*", "*in search", "*CREATE INDEX*books (title)"])


def test_a_table_smaller_than_the_bound_may_be_read_whole(shop):
    shop(SEARCH.format(rows=5000)).assert_outcomes(passed=1)


def test_the_first_page_of_a_large_table_is_no_full_scan(shop):
    result = shop("""
@pytest.mark.queries(max=1)
def test_page(engine):
    with Session(engine) as session:
        session.scalars(sa.select(Book).order_by(Book.id).limit(20)).all()
""")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_a_server_is_asked_for_its_plan_within_the_tests_own_transaction(shop, monkeypatch, request, server):
    url = request.getfixturevalue(f"{server}_url")
    monkeypatch.setenv("SHOP_URL", url.render_as_string(hide_password=False))
    result = shop("""
@pytest.mark.queries(max=3)
def test_search(engine):
    with Session(engine) as session:
        session.add(Author(id=99))
        session.flush()
        session.scalars(sa.select(Book).where(Book.title == "t7")).all()
        assert session.scalar(sa.select(sa.func.count(Author.id))) == 6
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["full scan: books*", "*to find*title*", "*CREATE INDEX*books (title)*"])
    assert "3 may" not in result.stdout.str(), "asking for plans is not counted"


def test_the_fixture_watches_one_engine_in_a_block_and_tells_what_ran(shop):
    result = shop("""
def test_block(engine, tmp_path, database_budget):
    other = sa.create_engine(f"sqlite:///{tmp_path}/other.sqlite3")
    with database_budget(engine, max=1) as spent, engine.connect() as one, other.connect() as two:
        one.execute(sa.select(Author.id)).all()
        two.execute(sa.select(1)).all()
    assert (spent.count, spent.queries) == (1, ["SELECT authors.id FROM authors"])
    with pytest.raises(pytest.fail.Exception, match="2 statements ran, and 1 may"):
        with database_budget(max=1), engine.connect() as one, other.connect() as two:
            one.execute(sa.select(Author.id)).all()
            two.execute(sa.select(1)).all()
    other.dispose()
""")
    result.assert_outcomes(passed=1)


def test_async_engines_are_watched_too(shop):
    result = shop("""
import asyncio
from sqlalchemy.ext.asyncio import create_async_engine

@pytest.mark.queries(max=1)
def test_async(engine):
    async def ask():
        made = create_async_engine(engine.url.set(drivername="sqlite+aiosqlite"))
        async with made.connect() as connection:
            for _ in range(2):
                await connection.execute(sa.select(Book.id).where(Book.title == "t7"))
        await made.dispose()
    asyncio.run(ask())
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["2 statements ran, and 1 may:", "*in test_async*", "full scan: books*"])


def test_what_a_pilot_asks_for_itself_is_not_counted(shop):
    result = shop("""
from dbpilot import Autopilot
from dbpilot.history.store import MemoryStore

@pytest.mark.queries(max=1)
def test_watched(engine):
    with Autopilot(engine, store=MemoryStore()) as pilot:
        with engine.connect() as connection:
            connection.execute(sa.select(Author.id)).all()
        assert pilot.indexes(wait_s=30).tables
""")
    result.assert_outcomes(passed=1)


WATCHED = """
import asyncio
from dbpilot import Autopilot, unit_of_work
from dbpilot.history.store import MemoryStore
from sqlalchemy.ext.asyncio import create_async_engine

ASYNC = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "mysql": "mysql+asyncmy"}
SEARCH = sa.select(Book.id).where(Book.title == "t7")

def tell(pilot, request):
    patterns = pilot.query_stats(1, 50).patterns
    calls = sum(line.calls for line in patterns)
    print(f"statements: {calls}, in the request: {pilot.receipt(request.id).calls}")
    print(*sorted(f"{line.calls} x {line.query}" for line in patterns), sep="\\n")

def search(engine):
    with Autopilot(engine, store=MemoryStore()) as pilot:
        with unit_of_work("search") as request, engine.connect() as connection:
            connection.execute(SEARCH).all()
            connection.execute(sa.select(Author.id)).all()
        tell(pilot, request)

def search_async(engine):
    async def ask():
        made = create_async_engine(engine.url.set(drivername=ASYNC[engine.url.get_backend_name()]))
        await (await made.connect()).close()
        with Autopilot(made, store=MemoryStore()) as pilot:
            with unit_of_work("search") as request:
                async with made.connect() as connection:
                    await connection.execute(SEARCH)
                    await connection.execute(sa.select(Author.id))
            tell(pilot, request)
        await made.dispose()
    asyncio.run(ask())
"""


@pytest.mark.parametrize("server", ["sqlite", "postgresql", "mariadb"])
@pytest.mark.parametrize("search", ["search", "search_async"])
def test_a_pilot_does_not_count_what_the_plugin_asks_for_itself(shop, monkeypatch, request, server, search):
    url = request.getfixturevalue(f"{server}_url")
    monkeypatch.setenv("SHOP_URL", url.render_as_string(hide_password=False))
    result = shop(f"""
{WATCHED}

@pytest.mark.queries
def test_watched(engine):
    {search}(engine)
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["full scan: books has 1,000 rows*"])
    result.stdout.fnmatch_lines(
        ["statements: 2, in the request: 2", "1 x SELECT authors.id *", "1 x SELECT books.id *"]
    )


def test_statements_that_fail_count_and_the_tests_own_failure_comes_first(shop):
    result = shop("""
@pytest.mark.queries(max=0)
def test_wrong(engine):
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError):
        connection.execute(sa.text("SELECT no_such FROM nowhere"))

@pytest.mark.queries(max=0)
def test_fails(engine):
    with engine.connect() as connection:
        connection.execute(sa.select(Author.id))
    assert False, "its own reason"
""")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["1 statements ran, and 0 may:", "*its own reason*"])


def test_a_marker_that_says_something_else_is_a_mistake(shop):
    result = shop("""
@pytest.mark.queries(most=5)
def test_misspelt():
    pass
""")
    assert result.ret != 0
    assert "queries(max=None" in result.stdout.str() + result.stderr.str()


def test_workers_of_xdist_each_watch_their_own_tests(pytester):
    pytester.makepyfile(SHOP + "".join(f"""
@pytest.mark.queries(max={number % 2})
def test_{number}(engine):
    with engine.connect() as connection:
        connection.execute(sa.select(Author.id)).all()
""" for number in range(4)))  # fmt: skip
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-n", "2")
    result.assert_outcomes(passed=2, failed=2)


def test_in_memory_databases_that_nobody_else_sees_are_watched(shop):
    result = shop("""
@pytest.mark.queries(max=5)
def test_memory():
    made = sa.create_engine("sqlite://")
    Base.metadata.create_all(made)
    with Session(made) as session:
        session.execute(sa.insert(Book), [{"id": n, "title": "t", "author_id": 1} for n in range(1500)])
        session.scalars(sa.select(Book).where(Book.title == "x")).all()
    made.dispose()
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["full scan: books*"])


def test_a_full_scan_that_an_alias_hides_is_seen(shop):
    result = shop("""
@pytest.mark.queries
def test_alias(engine):
    book = sa.orm.aliased(Book, name="b")
    with Session(engine) as session:
        session.scalars(sa.select(book).where(book.title == "x")).all()
""")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["full scan: books*"])


def test_statements_on_connections_that_a_fixture_opened_are_counted(shop):
    result = shop("""
@pytest.fixture
def connection(engine):
    with engine.connect() as made:
        yield made

@pytest.mark.queries(max=1)
def test_old(connection):
    for _ in range(2):
        connection.execute(sa.select(Author.id)).all()
""")
    result.assert_outcomes(failed=1)
