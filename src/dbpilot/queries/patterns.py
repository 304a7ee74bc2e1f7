"""Knows the pattern of every statement seen lately, and where the application runs it; bounded."""

from collections import Counter, OrderedDict
from dataclasses import replace
from functools import lru_cache
from typing import Final

from dbpilot.history.store import Pattern, Source
from dbpilot.queries.callsite import Frame
from dbpilot.queries.request import Request
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.syntax import Syntax
from dbpilot.sql.tables import tables_of

TEXTS_PER_PATTERN: Final = 4
"""Statements sent as text reach one pattern under several texts; so many more texts than patterns are cached."""
MAX_COMPILED: Final = 16_384
"""Characters read of a statement that SQLAlchemy compiled."""
MAX_SOURCES: Final = 20
"""Lines of code told apart per pattern and window."""


class PatternBook:
    """One thread at a time may use it."""

    def __init__(self, max_patterns: int, syntax: Syntax) -> None:
        self._syntax = syntax
        self._max_known = max_patterns * TEXTS_PER_PATTERN
        self._known: OrderedDict[str, Pattern] = OrderedDict()
        self._seen = lru_cache(self._max_known)(self._read)
        self._samples: dict[str, Counter[tuple[Frame, str | None]]] = {}

    def of(self, statement: str) -> Pattern:
        """The pattern of a statement's text."""
        return self._seen(statement if len(statement) <= MAX_COMPILED else f"{statement[:MAX_COMPILED]} ...")

    def _read(self, text: str) -> Pattern:
        print_ = fingerprint(text, self._syntax)
        known = self._known.get(print_.id)
        if known is None:
            tables = tables_of(print_.tokens)
            known = self._known[print_.id] = Pattern(print_.id, print_.text, print_.operation, tables)
        self._known.move_to_end(print_.id)
        while len(self._known) > self._max_known:
            self._known.popitem(last=False)
        return known

    def sampled(self, pattern: Pattern, frame: Frame, request: Request | None) -> None:
        """The pattern was run by that line of code."""
        samples = self._samples.setdefault(pattern.id, Counter())
        seen = (frame, request.route if request else None)
        if seen in samples or len(samples) < MAX_SOURCES:
            samples[seen] += 1

    def with_sources(self, pattern: Pattern) -> Pattern:
        """The pattern with the lines of code sampled since they were last forgotten."""
        samples = self._samples.get(pattern.id)
        if not samples:
            return pattern
        sources = tuple(
            Source(frame.callsite, frame.function, route, count) for (frame, route), count in samples.most_common()
        )
        return replace(pattern, sources=sources)

    def forget_sources(self) -> None:
        """What was sampled is with the history; sampling begins anew."""
        self._samples = {}
