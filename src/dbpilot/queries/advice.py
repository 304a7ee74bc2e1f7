"""What could be done about a pattern, from its text and its figures alone; plans and repetitions add what they know."""

import re
from collections.abc import Mapping
from typing import Any, Final

from dbpilot.history.store import Pattern
from dbpilot.history.tally import Tally

FORMS: Final = (
    (
        re.compile(r"\bI?LIKE \?"),
        "LIKE has to read every row where its value begins with %: search from the beginning then, or use a full-text "
        "or trigram index.",
    ),
    (
        re.compile(r"\bWHERE\b.*?\b(?:lower|upper|trim|date|year|month|substr|coalesce|ifnull)\([\w.\"`]+[,)]", re.I),
        "A function around a column keeps an ordinary index from being used: index the expression, or compare the bare "
        "column.",
    ),
    (re.compile(r"\bORDER BY (?:random|rand)\(\)", re.I), "It sorts the whole result to draw a few rows at random."),
    (
        re.compile(r"\bOFFSET \?|\bLIMIT \?, \?"),
        "OFFSET reads all the rows that it skips: where it is not 0, ask for what follows the last key instead.",
    ),
    (
        re.compile(r"\bNOT IN \(SELECT\b"),
        "NOT IN (SELECT ...) also means: no NULL among them. NOT EXISTS is clear and fast.",
    ),
    (
        re.compile(r"^SELECT (?:\w+\.)?\* "),
        "It asks for every column: name those that are used, and an index may cover them.",
    ),
    (re.compile(r"^(?:UPDATE|DELETE)\b(?!.*\bWHERE\b)"), "It has no WHERE: every row is changed."),
)
"""What a text shows by itself, and what to do about it."""
NO_OFFSET_PERHAPS: Final = re.compile(r" OFFSET \?")
"""On SQLite SQLAlchemy writes one behind every LIMIT, and a pattern does not tell whether it is 0."""
MANY_ROWS: Final = 1000
"""Rows per call from which fetching all of them is worth a thought."""
FETCH_SHARE: Final = 0.5
ERROR_SHARE: Final = 0.05
MUCH_WAIT_SHARE: Final = 0.5


def advice_on(
    pattern: Pattern,
    tally: Tally,
    repeated: Mapping[str, Mapping[str, Any]],
    plans: Mapping[str, Mapping[str, Any]],
    *,
    on_sqlite: bool,
) -> tuple[str, ...]:
    """Sentences, the most promising first; none where nothing is remarkable.

    ``repeated`` and ``plans`` hold the bodies of the latest N+1 and plan of each pattern, by its id.
    """
    repetition, plan = repeated.get(pattern.id), plans.get(pattern.id)
    return (
        *([repetition_advice(repetition)] if repetition else []),
        *(plan["findings"] if plan else []),
        *_from_figures(tally),
        *_from_text(NO_OFFSET_PERHAPS.sub("", pattern.text) if on_sqlite else pattern.text),
    )


def repetition_advice(body: Mapping[str, Any]) -> str:
    """What to do about an N+1, from the body of its event."""
    where = f" at {body['callsite']}" if body.get("callsite") else ""
    ran = f"ran {body['calls']} times in one request ({body['route'] or 'no route'}){where}"
    relationship = body.get("relationship")
    if relationship:
        return f"{ran}: it loads {relationship} row by row. Add .options(selectinload({relationship})) to the query."
    return f"{ran}: ask once for all of them, with IN (...) or a JOIN, or selectinload() for a relationship."


def _from_figures(tally: Tally) -> tuple[str, ...]:
    found = []
    if tally.calls and tally.failed / tally.calls >= ERROR_SHARE:
        kinds = ", ".join(kind for kind, _ in tally.errors.most_common(3))
        found.append(f"{tally.failed} of {tally.calls} calls failed ({kinds}): mend the cause first.")
    if tally.wait_s > MUCH_WAIT_SHARE * tally.total_s and tally.wait_s > tally.calls * 0.01:
        found.append("It waits longer for a connection than for the database: the pool is too small, or held too long.")
    if tally.calls and tally.rows / tally.calls >= MANY_ROWS and tally.fetch_s > FETCH_SHARE * tally.total_s:
        mean = tally.rows // tally.calls
        found.append(f"It fetches {mean:,} rows per call, and fetching takes most of its time: page it, or stream it.")
    return tuple(found)


def _from_text(text: str) -> tuple[str, ...]:
    return tuple(sentence for form, sentence in FORMS if form.search(text))
