"""A failure says what has to be mended, where the server's code does, and never the server's words."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
import sqlalchemy as sa

from dbpilot.dialects import dialect_of

READ_ONLY = {
    "sqlite": "PRAGMA query_only = 1",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
}


@pytest.fixture
def engine(database_url: sa.URL) -> Iterator[sa.Engine]:
    engine = sa.create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a INTEGER)")
    yield engine
    engine.dispose()


def _failure(engine: sa.Engine, statement: str, *before: str) -> str:
    with engine.connect() as connection:
        for one in before:
            connection.exec_driver_sql(one)
        with pytest.raises(sa.exc.DBAPIError) as caught:
            connection.exec_driver_sql(statement)
    assert caught.value.orig is not None
    return dialect_of(engine).failure(caught.value.orig)


def test_what_may_only_be_read(engine: sa.Engine) -> None:
    said = _failure(engine, "INSERT INTO t VALUES (4711)", READ_ONLY[engine.url.get_backend_name()])
    assert said.endswith(", it may only be read")
    assert "4711" not in said


@pytest.mark.parametrize("database_url", ["mariadb", "postgresql"], indirect=True)
def test_a_right_that_is_missing(engine: sa.Engine) -> None:
    backend = engine.url.get_backend_name()
    name = f"reader_{uuid4().hex[:16]}"
    kind = "ROLE" if backend == "postgresql" else "USER"
    with engine.connect() as connection:
        password = "LOGIN PASSWORD 'pw'" if backend == "postgresql" else "IDENTIFIED BY 'pw'"
        connection.exec_driver_sql(f"CREATE {kind} {name} {password}")
        if backend == "mysql":
            connection.exec_driver_sql(f"GRANT SELECT ON `{engine.url.database}`.* TO {name}")
    poor = sa.create_engine(engine.url.set(username=name, password="pw"))
    try:
        assert _failure(poor, "CREATE TABLE u (a INTEGER)").endswith(", its user has not the right to do that")
        assert _failure(poor, "DELETE FROM t").endswith(", its user has not the right to do that")
    finally:
        poor.dispose()
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP {kind} {name}")


def test_another_failure_is_told_by_its_kind_and_code_alone(engine: sa.Engine) -> None:
    assert " it" not in _failure(engine, "SELECT nothing FROM t")
