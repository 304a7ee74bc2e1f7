"""News as it comes in: around the opening, about the popular, more of it every year."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.market.generate import text
from app.market.generate.draws import US_PER_S, Floats, Ints, Subject, instants, pick, pick_weighted, stream, zipf
from app.market.generate.market import Market
from app.market.generate.trading_days import CLOSE_S, OPEN_S, day_number
from app.market.ingest.news import content_hash

ROWS_PER_BLOCK: Final = 20_000
BYTES_PER_BLOCK: Final = 32 * 1024 * 1024

DAY_S: Final = 86_400
MINUTE_S: Final = 60
YEARLY_GROWTH: Final = 0.07
QUIET_DAY: Final = 0.12
"""News of a weekend or holiday, as a share of a trading day's."""

SOURCES: Final = 30
KOREAN_FROM: Final = 24
"""The sources from this number on write Korean."""
SOURCE_EXPONENT: Final = 1.0
NO_SUMMARY, NO_HTML = 0.05, 0.03
HEADLINE_STEP: Final = 1237
"""Odd, so that every headline has had its turn before the first comes again."""
CRAWL_DELAY_S, MOST_DELAY_S = 90.0, 3600.0


@dataclass(frozen=True)
class Newsroom:
    """All that news share."""

    market: Market

    @property
    def rows_per_block(self) -> int:
        return max(1, min(ROWS_PER_BLOCK, BYTES_PER_BLOCK // self.market.plan.html_bytes))

    @property
    def block_ends(self) -> Ints:
        """How many rows of ``contents`` there are after each block."""
        total = self.market.plan.news
        ends = np.arange(self.rows_per_block, total + self.rows_per_block, self.rows_per_block)
        return np.minimum(ends, total)

    @cached_property
    def pool(self) -> text.Pool:
        return text.make_pool(self.market.plan.seed)

    @cached_property
    def sources(self) -> pa.Array:
        kinds = [*["Synthetic Wire"] * KOREAN_FROM, *["합성 통신"] * (SOURCES - KOREAN_FROM)]
        return pa.array([f"{kind} {number:02d}" for number, kind in enumerate(kinds, start=1)])

    @cached_property
    def is_trading(self) -> Ints:
        """1 for each calendar day on which the market is open, else 0."""
        plan = self.market.plan
        calendar = np.arange(day_number(plan.start), day_number(plan.end) + 1)
        return np.isin(calendar, self.market.days).astype(np.int64)

    @cached_property
    def day_edges(self) -> Floats:
        """The share of all news that has come by the end of each calendar day; begins with 0."""
        weights = np.where(self.is_trading, 1.0, QUIET_DAY)
        weights[self.is_trading == 1] *= 0.5 + 0.5 * self.market.excitement
        weights *= (1 + YEARLY_GROWTH) ** (np.arange(len(weights)) / 365.25)
        edges = np.concatenate([[0.0], np.cumsum(weights)])
        return np.asarray(edges / edges[-1])

    @cached_property
    def minute_edges(self) -> tuple[Floats, Floats]:
        """The share of a day's news that has come by each minute, of a quiet day and of a trading day."""
        minutes = np.arange(DAY_S // MINUTE_S)
        opening, closing = OPEN_S // MINUTE_S, CLOSE_S // MINUTE_S
        awake = np.exp(-(((minutes - 17 * 60) / 240) ** 2))  # centred on 17:00, noon in New York
        quiet = 0.1 + awake
        trading = 0.15 + awake + 5 * np.exp(-(((minutes - opening) / 25) ** 2))
        trading += 2.5 * np.exp(-(((minutes - closing - 10) / 20) ** 2))
        return _edges(quiet), _edges(trading)


def _edges(weights: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(weights) / weights.sum()])


def news_rows(room: Newsroom, block: int) -> pa.RecordBatch:
    """One block of ``contents``, oldest first.

    Headlines follow each other in turn, so that the pieces of one second, far fewer than there are headlines, differ.
    """
    first = block * room.rows_per_block
    number = np.arange(first + 1, int(room.block_ends[block]) + 1)
    count = len(number)
    rng = stream(room.market.plan.seed, Subject.NEWS, block)
    published_s = _published_s(room, rng, first, count)
    source = pick_weighted(rng, zipf(SOURCES, SOURCE_EXPONENT), count)
    language = (source >= KOREAN_FROM).astype(np.int64)
    ticker = room.market.tickers.take(pa.array(pick_weighted(rng, room.market.popularity, count)))
    title = text.titles(room.pool, ticker, language, number * HEADLINE_STEP % text.POOL)
    columns = {
        "id": pa.array(number),
        "symbol": ticker,
        "title": title,
        "summary": _sometimes(rng, text.summaries(room.pool, language, pick(rng, text.POOL, count)), NO_SUMMARY),
        "url": text.joined("https://news.example/", ticker, "/", pa.array(number).cast(pa.string())),
        "source": room.sources.take(pa.array(source)),
        "html": _sometimes(rng, _bodies(room, rng, title, language), NO_HTML),
        "published_at": instants(published_s * US_PER_S),
        "crawled_at": instants(published_s * US_PER_S + _delays_us(rng, count)),
    }
    return pa.record_batch({**columns, "content_hash": _hashes(columns, published_s)})


def _published_s(room: Newsroom, rng: np.random.Generator, first: int, count: int) -> Ints:
    """Seconds since 1970, rising: each row has its own slice of history's news and falls somewhere in it."""
    share = (np.arange(first, first + count) + rng.random(count)) / room.market.plan.news
    day = np.clip(np.searchsorted(room.day_edges, share, side="right") - 1, 0, len(room.is_trading) - 1)
    begins, ends = room.day_edges[day], room.day_edges[day + 1]
    of_day = np.clip((share - begins) / (ends - begins), 0, 1 - 1e-9)
    minutes = np.arange(DAY_S // MINUTE_S + 1)
    quiet, trading = (np.interp(of_day, edges, minutes) for edges in room.minute_edges)
    minute = np.where(room.is_trading[day] == 1, trading, quiet)
    return (day_number(room.market.plan.start) + day) * DAY_S + (minute * MINUTE_S).astype(np.int64)


def _delays_us(rng: np.random.Generator, count: int) -> Ints:
    delays_s = CRAWL_DELAY_S * np.exp(0.8 * rng.standard_normal(count))
    return (np.minimum(delays_s, MOST_DELAY_S) * US_PER_S).astype(np.int64)


def _bodies(room: Newsroom, rng: np.random.Generator, title: pa.Array, language: Ints) -> pa.Array:
    wanted = room.market.plan.html_bytes / room.pool.mean_paragraph_bytes
    lengths = np.maximum(np.rint(wanted * np.exp(0.5 * rng.standard_normal(len(title)) - 0.125)), 1).astype(np.int64)
    return text.bodies(room.pool, title, language, lengths, pick(rng, text.POOL, int(lengths.sum())))


def _sometimes(rng: np.random.Generator, column: pa.Array, missing: float) -> pa.Array:
    """The column with this share of its values replaced by null."""
    present = pa.array(rng.random(len(column)) >= missing)
    return pc.if_else(present, column, None)


def _hashes(columns: dict[str, pa.Array], published_s: Ints) -> pa.Array:
    """What an import of the same pieces would find; no two alike, see :func:`news_rows`."""
    texts = [columns[name].to_pylist() for name in ("symbol", "source", "title", "summary")]
    instants_utc = (datetime.fromtimestamp(second, UTC) for second in published_s.tolist())
    return pa.array([content_hash(*row) for row in zip(*texts, instants_utc, strict=True)])
