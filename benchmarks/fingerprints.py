"""bench-fingerprints: how fast an unseen statement is recognised, and how rightly, on PostgreSQL's regression suite.

python -m benchmarks.fingerprints [--regress FOLDER]

FOLDER holds the suite's .sql files; the source archive of pglast, among others, has them. Its scanner, which is
PostgreSQL's own, says what is a literal: ``pip install pglast``. Without FOLDER only the speed is measured.
"""

import argparse
import random
import re
import timeit
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import sqlglot

from benchmarks.report import Figure, publish
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.syntax import POSTGRESQL

SEED: Final = 7
PEER: Final = "sqlglotc tokenizer"
GOAL: Final = 0.6
DML: Final = re.compile(r"\s*(?:select|insert|update|delete|with|values|merge|table|\()", re.IGNORECASE)
LITERALS: Final = frozenset({"ICONST", "FCONST", "SCONST", "USCONST", "BCONST", "XCONST"})
GAPS: Final = (" ", "\n", "\t  ", ' /* it\'s; a "comment" */ ', " -- don't\n")
VALUE_WORDS: Final = frozenset({"NULL_P", "TRUE_P", "FALSE_P"})


def statements() -> dict[str, str]:
    """Statements of the kinds that applications send; none is seen twice by the clock, which knows no cache."""
    columns = [sa.Column(f"column_{number}", sa.Integer) for number in range(15)]
    table = sa.Table("contents", sa.MetaData(), *columns)
    compiled = sa.select(table).where(table.c.column_1 == 5, table.c.column_2 > 7).order_by(table.c.column_3)
    numbers = ", ".join(str(number) for number in range(1000))
    rows = ", ".join(f"({number}, 'x{number}', {number}.5)" for number in range(500))
    return {
        "a short statement": "SELECT a, b FROM t WHERE id = 5 AND name = 'x' ORDER BY created_at DESC LIMIT 10",
        "a compiled select of 15 columns": str(compiled),
        "IN with 1,000 numbers": f"SELECT a FROM t WHERE id IN ({numbers})",
        "500 rows of VALUES": f"INSERT INTO t (a, b, c) VALUES {rows}",
        "5 KB of conditions": long_statement(190),
        "15 KB of conditions": long_statement(570),
    }


def long_statement(conditions: int) -> str:
    """A statement of so many conditions, each of another name."""
    return "SELECT t.id FROM t WHERE " + " AND ".join(f"t.column_{n} = {n * 7}" for n in range(conditions))


def speed() -> Iterator[Figure]:
    """Beside the tokenizer that sqlglot compiles, which only takes the statement apart."""
    dialect = sqlglot.Dialect.get_or_raise("postgres")
    per_kb = []
    for name, statement in statements().items():
        ours_us = _us(lambda statement=statement: fingerprint(statement, POSTGRESQL), len(statement))
        peer_us = _us(lambda statement=statement: dialect.tokenize(statement), len(statement))
        ratio = ours_us / peer_us
        yield Figure(f"fingerprint of {name}", ours_us, "us", {PEER: peer_us})
        yield Figure("the same, ratio", ratio, "x", {}, f"at most {GOAL} x", ratio <= GOAL)
        if "KB" in name:
            per_kb.append(ours_us / len(statement))
    growth = per_kb[1] / per_kb[0]
    yield Figure("time per byte, 15 KB beside 5 KB", growth, "x", {}, "linear: at most 1.2 x", growth <= 1.2)


def _us(work: Callable[[], Any], length: int) -> float:
    number = max(5, 200_000 // length)
    return min(timeit.repeat(work, number=number, repeat=9)) / number * 1e6


@dataclass(frozen=True)
class Token:
    """One token of PostgreSQL's scanner."""

    kind: str
    text: str

    @property
    def is_literal(self) -> bool:
        """Whether it is a value written out."""
        return self.kind in LITERALS


def regression_statements(folder: Path) -> Iterator[list[Token]]:
    """The suite's single statements that read or change rows, as tokens."""
    pglast = _pglast()
    for path in sorted(folder.rglob("*.sql")):
        text = re.sub(r"(?m)^\\.*$", "", path.read_text(errors="replace"))
        for part in re.split(r";\s*\n", text):
            if not DML.match(part) or "\\" in part.split("\n")[0][:1]:
                continue
            try:
                pglast.parse_sql(part)
                found = pglast.parser.scan(part)
            except pglast.parser.ParseError:
                continue
            tokens = [Token(t.name, part[t.start : t.end + 1]) for t in found]
            tokens = [token for token in tokens if token.kind not in ("SQL_COMMENT", "C_COMMENT")]
            if tokens and sum(token.text == ";" for token in tokens) == 0:
                yield tokens


def _pglast() -> Any:
    try:
        import pglast
        import pglast.parser
    except ImportError:
        raise SystemExit("PostgreSQL's scanner is not there: pip install pglast") from None
    return pglast


def rightness(folder: Path) -> Iterator[Figure]:
    """How many patterns move when only literals, or only spacing and comments, change; what leaks; what is merged."""
    rng, corpus = random.Random(SEED), list(regression_statements(folder))
    with_literals = [tokens for tokens in corpus if any(token.is_literal for token in tokens)]
    plain = [fingerprint(joined(tokens), POSTGRESQL) for tokens in corpus]
    moved = [tokens for tokens in with_literals if _id(tokens) != _id(replaced(tokens, rng))]
    spaced = [tokens for tokens in corpus if _id(tokens) != fingerprint(joined(tokens, rng), POSTGRESQL).id]
    leaks = [tokens for tokens in with_literals if leaked(tokens)]
    streams: dict[str, set[str]] = {}
    for tokens, print_ in zip(corpus, plain, strict=True):
        streams.setdefault(print_.id, set()).add(canonical(tokens))
    merges = [found for found in streams.values() if len(found) > 1]
    for title, cases in (("moved", moved), ("spaced", spaced), ("leaks", leaks)):
        for tokens in cases[:EXAMPLES]:
            print(title, "|", joined(tokens)[:200], "|", fingerprint(joined(tokens), POSTGRESQL).text[:200])
    for found in merges[:EXAMPLES]:
        print("merged |", sorted(found)[:2])
    share = 100 * len(moved) / len(with_literals)
    yield Figure("statements of PostgreSQL's regression suite", len(corpus), "")
    yield Figure("patterns moved by other literals", share, "%", {}, "at most 0.1 %", share <= 0.1)
    yield Figure("patterns moved by spacing and comments", 100 * len(spaced) / len(corpus), "%", {}, "0", not spaced)
    yield Figure("statements that leak a literal", len(leaks), "", {}, "0", not leaks)
    yield Figure("patterns of different token streams", len(merges), "", {}, "0", not merges)


EXAMPLES: Final = 12
INNER: Final = r"\([^()]*\)"
EQUAL_ROWS: Final = re.compile(rf"VALUES (\((?:[^()]|\((?:[^()]|{INNER})*\))*\))(?: , \1)+")
"""Rows of the same shape, one after the other, are one to every monitor."""


def joined(tokens: Sequence[Token], rng: random.Random | None = None) -> str:
    """The statement again, with one space or any white space and comments between its tokens."""
    return "".join(token.text + (rng.choice(GAPS) if rng else " ") for token in tokens)


def replaced(tokens: Iterable[Token], rng: random.Random) -> list[Token]:
    """Other literals of the same kinds."""
    return [Token(token.kind, _other(token, rng)) if token.is_literal else token for token in tokens]


def _other(token: Token, rng: random.Random) -> str:
    number = str(rng.randrange(1, 10**6))
    others = {
        "ICONST": number,
        "FCONST": f"{number}.25",
        "BCONST": "B'0101'",
        "XCONST": "X'1F'",
        "USCONST": f"U&'{number}'",
    }
    return others.get(token.kind, rng.choice([f"'{number}'", f"'it''s /* {number}'", f"'-- {number}'"]))


def leaked(tokens: Sequence[Token]) -> bool:
    """Whether a literal that can be told from all else is in the readable text."""
    marked = []
    for token in tokens:
        mark = {"ICONST": "918273645", "FCONST": "918273645.5", "SCONST": "'zqxleak'"}.get(token.kind, token.text)
        marked.append(Token(token.kind, mark))
    text = fingerprint(joined(marked), POSTGRESQL).text
    return "918273645" in text or "zqxleak" in text


def canonical(tokens: Sequence[Token]) -> str:
    """What a pattern tells apart: the token stream with values hidden and lists of them made one."""
    words: list[str] = []
    for token in tokens:
        last = words[-1] if words else ""
        hides = token.kind in VALUE_WORDS and last not in ("IS", "NOT", "ON", "SET", "DEFAULT", "RETURNS")
        if token.is_literal or hides or token.kind == "PARAM":
            if last in ("+", "-") and not _ends_operand(words[-2] if len(words) > 1 else ""):
                words.pop()
            if words[-1:] != ["?"]:
                words.append("?")
        elif re.fullmatch(r"[A-Z_]+(_P|_LA)?", token.kind) and token.kind not in ("IDENT", "UIDENT", "Op", "SCONST"):
            words.append(token.text.upper())
        else:
            words.append(token.text)
    text = re.sub(r"(?<=[(\[]) \?(?: , \?)+ (?=[)\]])", " ? ", " ".join(words))
    return EQUAL_ROWS.sub(r"VALUES \1", text)


def _ends_operand(word: str) -> bool:
    return bool(word) and (word in (")", "]", "?") or word[0] in '"_' or (word[0].isalnum() and word != word.upper()))


def _id(tokens: Sequence[Token]) -> str:
    return fingerprint(joined(tokens), POSTGRESQL).id


def main(arguments: Sequence[str] | None = None) -> None:
    """The figures are measured, printed and kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fingerprints", description=__doc__)
    parser.add_argument("--regress", type=Path, help="the folder of PostgreSQL's regression suite")
    options = parser.parse_args(arguments)
    figures = [*speed(), *(rightness(options.regress) if options.regress else ())]
    publish("fingerprints", SEED, figures)


if __name__ == "__main__":
    main()
