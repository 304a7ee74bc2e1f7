"""How a symbol is written."""

import re
from functools import lru_cache
from typing import Final

from app.market.ingest.rows import Refusal
from app.market.models import SYMBOL_LENGTH

SYMBOL: Final = re.compile(r"[A-Z0-9.^=_&$+:-]+")  # as exchanges, Yahoo and Stooq write them; each fits into a path


@lru_cache(maxsize=65_536)
def symbol_of(text: str) -> str:
    """The symbol in capitals: "aapl" and "AAPL" are one.

    Raises:
        Refusal: it is empty, too long, or has other characters than symbols have.
    """
    symbol = text.strip().upper()
    if not symbol:
        raise Refusal("symbol is empty")
    if len(symbol) > SYMBOL_LENGTH:
        raise Refusal(f"symbol {symbol[:40]!a} is longer than {SYMBOL_LENGTH} characters")
    if not SYMBOL.fullmatch(symbol):
        raise Refusal(f"symbol {symbol!a} has characters other than letters, digits and . ^ = _ & $ + : -")
    return symbol
