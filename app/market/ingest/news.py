"""News from JSON Lines: one object per line, each checked, each known again by its content."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    HttpUrl,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from sqlalchemy import Engine

from app.common.infra.database.config.database_config import Base
from app.market.bulk_insert import Row
from app.market.ingest.files import Readable, numbered_lines, opened
from app.market.ingest.load import Source, load
from app.market.ingest.rows import BadRow, Checked, Counts, ignored
from app.market.ingest.symbols import symbol_of
from app.market.models import Content
from app.progress import Progress, silent

CONTENTS: Final = Base.metadata.tables[Content.__tablename__]
LINE_LIMIT_BYTES: Final = 16 * 2**20  # a page's html, escaped
TITLE_LENGTH: Final = 500
SOURCE_LENGTH: Final = 100
URL_LENGTH: Final = 2048
SUMMARY_BYTES: Final = 2**16 - 1  # what MariaDB's TEXT holds
HTML_BYTES: Final = 4 * 2**20  # with every byte escaped still half of MariaDB's max_allowed_packet
FIRST_YEAR: Final = 1000  # MariaDB's dates begin there
ROW_BYTES: Final = 1_000  # a row's own weight, beside its text

ISO_INSTANT: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")
AT_LINE_1: Final = re.compile(r" at line 1 column (\d+)")
URL: Final = TypeAdapter(HttpUrl)
CANONICAL_JSON: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL character, which PostgreSQL cannot store")
    return text


def _written_out(value: Any) -> Any:
    # A bare number, in quotes or not, would be taken for seconds since 1970.
    if not isinstance(value, str) or not ISO_INSTANT.match(value):
        raise ValueError(f"{str(value)[:40]!a} is not ISO 8601 with a zone, such as 2007-01-09T17:41:00Z")
    return value


def _in_utc(instant: datetime) -> datetime:
    try:
        utc = instant.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside of the calendar in UTC") from None
    if utc.year < FIRST_YEAR:
        raise ValueError(f"is before the year {FIRST_YEAR}")
    return utc


def _web_address(text: str) -> str:
    URL.validate_python(text)
    return text


def _at_most_bytes(limit: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text.encode()) > limit:
            raise ValueError(f"is longer than {limit:,} bytes in UTF-8")
        return text

    return AfterValidator(check)


def _text(length: int) -> Any:
    return StringConstraints(strip_whitespace=True, min_length=1, max_length=length)


Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_out), AfterValidator(_in_utc)]
Storable = AfterValidator(_storable)


class NewsRow(BaseModel):
    """One line of a news file; keys that are not named here are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    symbol: Annotated[str, AfterValidator(symbol_of)]
    title: Annotated[str, _text(TITLE_LENGTH), Storable]
    source: Annotated[str, _text(SOURCE_LENGTH), Storable]
    published_at: Instant
    summary: Annotated[str, Storable, _at_most_bytes(SUMMARY_BYTES)] | None = None
    url: Annotated[str, _text(URL_LENGTH), Storable, AfterValidator(_web_address)] | None = None
    html: Annotated[str, Storable, _at_most_bytes(HTML_BYTES)] | None = None
    crawled_at: Instant | None = None


def content_hash(symbol: str, source: str, title: str, summary: str | None, published_at: datetime) -> str:
    """SHA-256, in hexadecimal, of the piece's canonical form; docs/data.md writes that form down."""
    texts = [_canonical(text) for text in (symbol, source, title)]
    instant = published_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    form = [*texts, _canonical(summary or "") or None, instant]
    return sha256(CANONICAL_JSON.encode(form).encode()).hexdigest()


def _canonical(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def import_news(
    engine: Engine,
    path: Path,
    *,
    strict: bool = False,
    tell: Callable[[BadRow], None] = ignored,
    progress: Progress = silent,
) -> Counts:
    """The file's good rows are in ``contents``, each once, and their symbols in ``symbols``.

    Raises:
        UnusableFile: the file cannot be read.
        StrictlyRefused, ImportStopped: as :func:`app.market.ingest.load.load` says.
    """
    now = datetime.now(UTC)
    with opened(path) as file:
        source = Source(path.name, checked(file, now), _weight, None, tell, progress)
        return load(engine, CONTENTS, source, strict=strict)


def checked(file: Readable, now: datetime) -> Iterator[Checked]:
    """Each line as the table takes it, or what is wrong with it; ``now`` is the crawl of lines that name none."""
    for number, line in numbered_lines(file, LINE_LIMIT_BYTES):
        row = _row(line, now)
        yield BadRow(number, row) if isinstance(row, str) else row


def _row(line: bytes, now: datetime) -> Row | str:
    """The row for ``contents``, or why it is none."""
    if len(line) > LINE_LIMIT_BYTES:
        return f"is longer than {LINE_LIMIT_BYTES:,} bytes"
    try:
        news = NewsRow.model_validate_json(line.decode())
    except UnicodeDecodeError as error:
        return f"is not UTF-8 at byte {error.start + 1}"
    except ValidationError as error:
        return _reason(error)
    digest = content_hash(news.symbol, news.source, news.title, news.summary, news.published_at)
    return {**news.model_dump(), "crawled_at": news.crawled_at or now, "content_hash": digest}


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    said = AT_LINE_1.sub(r" at column \1", first["msg"].removeprefix("Value error, "))
    return f"{where}: {said}" if where else said


def _weight(row: Row) -> int:
    return ROW_BYTES + sum(len(value) for value in row.values() if isinstance(value, str))
