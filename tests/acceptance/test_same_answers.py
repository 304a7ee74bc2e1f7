"""The same program gives the same answers on SQLite, MariaDB and PostgreSQL."""

from pathlib import Path

import sqlalchemy as sa

from tests.support import Finstage, environment, serving

PATHS = [
    "/api/market/symbols",
    "/api/market/prices/AAPL?start=2012-01-01&end=2012-03-01",
    "/api/market/prices/FB?limit=3",
    "/api/market/signals?symbol=IBM&limit=20",
    "/api/market/signals?signal_type=golden_cross",
    "/api/market/signals/performance",
    "/api/market/analysis/GOOG?start=2013-01-01",
    "/api/market/news/AAPL",
    "/api/market/prices/NOSUCH",
]


def _answers(server: Finstage) -> dict[str, tuple[int, str]]:
    return {path: (answer.status, answer.text) for path in PATHS for answer in [server.get(path)]}


def test_the_same_answers_on_every_database(finstage: Finstage, database_url: sa.URL, tmp_path: Path) -> None:
    surroundings = environment(tmp_path / "var", DATABASE_URL=database_url.render_as_string(hide_password=False))
    with serving(surroundings, tmp_path / "log") as server:
        assert _answers(server) == _answers(finstage)
        watched = server.get("/api/database/query-stats?limit=1000").json()["patterns"]
    assert any(line["tables"][:1] == ["daily_prices"] for line in watched)
    assert all(line["errors"] == 0 for line in watched)


def _count(table: str) -> sa.Select[tuple[int]]:
    return sa.select(sa.func.count()).select_from(sa.table(table))


def test_a_second_start_loads_nothing_twice(sqlite_url: sa.URL, tmp_path: Path) -> None:
    surroundings = environment(tmp_path / "var", DATABASE_URL=str(sqlite_url))
    counts = []
    for start in range(2):
        with serving(surroundings, tmp_path / f"log{start}"):
            engine = sa.create_engine(sqlite_url)
            with engine.connect() as connection:
                tables = ("daily_prices", "technical_signals", "signal_outcomes", "symbols")
                counts.append(
                    {t: connection.scalar(sa.select(sa.func.count()).select_from(sa.table(t))) for t in tables}
                )
            engine.dispose()
    assert counts[0] == counts[1]
    assert counts[0]["daily_prices"] == 12_154
    assert counts[0]["symbols"] == 5
    assert counts[0]["technical_signals"] == counts[0]["signal_outcomes"] > 500
