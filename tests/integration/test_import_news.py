"""News files into every database: each piece once."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from app import migrate
from app.common.infra.database.config.database_config import make_engine
from app.market.ingest.news import import_news
from app.market.ingest.rows import BadRow, Counts, StrictlyRefused
from app.market.models import Content, Symbol

PIECE = {
    "symbol": "FB",
    "title": "페이스북, 나스닥에 상장 📈",
    "summary": "Ein Börsengang, dessen Kurs am ersten Tag kaum stieg.",
    "source": "wikipedia",
    "url": "https://en.wikipedia.org/wiki/Initial_public_offering_of_Facebook",
    "html": "<p>" + "가" * 100_000 + "</p>",
    "published_at": "2012-05-18T11:30:00.123456-04:00",
    "crawled_at": "2026-01-02T00:00:00Z",
}


@pytest.fixture
def engine(database_url: sa.URL) -> Iterator[sa.Engine]:
    made = make_engine(database_url)
    migrate.upgrade(made)
    yield made
    made.dispose()


def file_of(folder: Path, *lines: str | dict[str, str]) -> Path:
    path = folder / "news.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def test_a_piece_is_stored_to_the_letter(engine: sa.Engine, tmp_path: Path) -> None:
    assert import_news(engine, file_of(tmp_path, PIECE)) == Counts(imported=1)
    with engine.connect() as connection:
        row = connection.execute(sa.select(Content.__table__)).mappings().one()
        assert connection.scalars(sa.select(Symbol.symbol)).all() == ["FB"]
    assert {key: row[key] for key in ("symbol", "title", "summary", "source", "url", "html")} == {
        key: PIECE[key] for key in ("symbol", "title", "summary", "source", "url", "html")
    }
    assert row["published_at"] == datetime(2012, 5, 18, 15, 30, 0, 123456, UTC)
    assert row["crawled_at"] == datetime(2026, 1, 2, tzinfo=UTC)


def test_the_same_piece_is_skipped_and_counted(engine: sa.Engine, tmp_path: Path) -> None:
    again = {**PIECE, "title": PIECE["title"].replace(" ", "  "), "html": "<p>crawled again</p>"}
    assert import_news(engine, file_of(tmp_path, PIECE, again)) == Counts(imported=1, already_there=1)
    assert import_news(engine, file_of(tmp_path, again)) == Counts(already_there=1)


def test_broken_json_on_line_3_stops_nothing_else(engine: sa.Engine, tmp_path: Path) -> None:
    told: list[BadRow] = []
    path = file_of(tmp_path, PIECE, {**PIECE, "title": "another"}, '{"symbol": "FB", ', {**PIECE, "title": "a third"})
    assert import_news(engine, path, tell=told.append) == Counts(imported=3, refused=1)
    assert told == [BadRow(3, "Invalid JSON: EOF while parsing a value at column 17")]


def test_a_strict_import_with_a_bad_line_changes_nothing(engine: sa.Engine, tmp_path: Path) -> None:
    with pytest.raises(StrictlyRefused):
        import_news(engine, file_of(tmp_path, PIECE, "{"), strict=True)
    with engine.connect() as connection:
        assert connection.execute(sa.select(Content.id)).first() is None
        assert connection.execute(sa.select(Symbol.symbol)).first() is None


def test_pages_larger_than_a_batch_are_stored_whole(engine: sa.Engine, tmp_path: Path) -> None:
    pieces = [{**PIECE, "title": f"piece {number}", "html": "<p>\\'</p>" * 400_000} for number in range(3)]
    assert import_news(engine, file_of(tmp_path, *pieces)) == Counts(imported=3)
    with engine.connect() as connection:
        lengths = connection.scalars(
            sa.select(
                sa.func.char_length(Content.html) if engine.dialect.name != "sqlite" else sa.func.length(Content.html)
            )
        ).all()
    assert lengths == [3_600_000] * 3
