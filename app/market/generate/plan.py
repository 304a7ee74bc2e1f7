"""What to generate: the few numbers that decide every row."""

from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Final

from app.errors import UnusableInput
from app.market.models import SYMBOL_LENGTH

LAST_DAY: Final = date(2025, 12, 31)
"""The default end of history; fixed, since the same seed has to give the same data next year."""
MOST_NEWS_PER_YEAR: Final = 50_000_000
"""Beyond that, a second of a busy opening could need more different headlines than there are."""
EARLIEST_YEAR: Final = 1950
LEAST_HTML_BYTES, MOST_HTML_BYTES = 200, 1_000_000


class BadPlan(UnusableInput):
    """The plan cannot be carried out; the message says what to change."""


@dataclass(frozen=True)
class Plan:
    """How much to generate; equal plans give equal rows, on every database.

    Prices exist for each symbol and each trading day of the ``years`` before and up to ``end``.
    """

    news: int = 0
    signals: int = 0
    symbols: int = 1000
    years: int = 20
    seed: int = 7
    end: date = LAST_DAY
    html_bytes: int = 1500
    """Mean length of a news body."""

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.end.year - self.years < EARLIEST_YEAR:
            raise BadPlan(f"{self.years} years up to {self.end} begin before {EARLIEST_YEAR}: ask for fewer years")
        if self.news > self.years * MOST_NEWS_PER_YEAR:
            raise BadPlan(f"{self.news} news in {self.years} years: ask for at most {MOST_NEWS_PER_YEAR} a year")
        if not LEAST_HTML_BYTES <= self.html_bytes <= MOST_HTML_BYTES:
            raise BadPlan(f"html_bytes is {self.html_bytes}: choose {LEAST_HTML_BYTES} to {MOST_HTML_BYTES}")
        if len(self.ticker(self.symbols)) > SYMBOL_LENGTH:
            raise BadPlan(f"{self.symbols} symbols have names beyond {SYMBOL_LENGTH} characters: ask for fewer")

    def _check_numbers(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "end" and value < 0:
                raise BadPlan(f"{field.name} is {value}: it cannot be negative")
        for name in ("symbols", "years"):
            if getattr(self, name) == 0:
                raise BadPlan(f"{name} is 0: prices, news and signals need at least 1")

    @property
    def start(self) -> date:
        """The first day of history."""
        after = self.end + timedelta(days=1)
        return date(after.year - self.years, after.month, min(after.day, 28))  # 28, for there may be no 29 February

    def ticker(self, number: int) -> str:
        """The name of a symbol, counted from 1: S0001, clearly of no real company."""
        return f"S{number:0{max(4, len(str(self.symbols)))}d}"
