"""bench-fingerprints: how fast an unseen statement is recognised, and how rightly, on PostgreSQL's regression suite.

python -m benchmarks.fingerprints [--regress FOLDER]

FOLDER holds the suite's .sql files; see benchmarks/regress.py for where they are. PostgreSQL's own scanner says what is
a literal, and a real server which statements it groups together. Without FOLDER only the speed is measured.
"""

import argparse
import random
import re
import timeit
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import sqlglot

from benchmarks.agreement import agreement
from benchmarks.regress import Token, joined, regression_statements, replaced, tables_in
from benchmarks.report import Figure, publish
from dbpilot.sql.fingerprint import fingerprint
from dbpilot.sql.syntax import POSTGRESQL
from dbpilot.sql.tables import tables_of

SEED: Final = 7
PEER: Final = "sqlglotc tokenizer"
GOAL: Final = 0.6
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
        yield Figure(
            f"fingerprint of {name} / the tokenizer that sqlglot compiles",
            ratio,
            "x",
            {},
            f"at most {GOAL} x",
            ratio <= GOAL,
        )
        if "KB" in name:
            per_kb.append(ours_us / len(statement))
    growth = per_kb[1] / per_kb[0]
    yield Figure(
        "fingerprint: time per byte, 15 KB beside 5 KB", growth, "x", {}, "linear: at most 1.2 x", growth <= 1.2
    )


def _us(work: Callable[[], Any], length: int) -> float:
    number = max(5, 200_000 // length)
    return min(timeit.repeat(work, number=number, repeat=9)) / number * 1e6


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
    misread = sum(_names_other_tables(joined(tokens).replace(" . ", ".")) for tokens in corpus)
    share = 100 * len(moved) / len(with_literals)
    yield Figure("statements of PostgreSQL's regression suite", len(corpus), "")
    yield Figure("patterns moved by other literals", share, "%", {}, "at most 0.1 %", share <= 0.1)
    yield Figure("patterns moved by spacing and comments", 100 * len(spaced) / len(corpus), "%", {}, "0", not spaced)
    yield Figure("statements that leak a literal", len(leaks), "", {}, "0", not leaks)
    yield Figure("statements whose tables PostgreSQL's parser names otherwise", 100 * misread / len(corpus), "%")
    yield Figure("patterns of different token streams", len(merges), "", {}, "0", not merges)


EXAMPLES: Final = 12
INNER: Final = r"\([^()]*\)"
EQUAL_ROWS: Final = re.compile(rf"VALUES (\((?:[^()]|\((?:[^()]|{INNER})*\))*\))(?: , \1)+")
"""Rows of the same shape, one after the other, are one to every monitor."""


def _names_other_tables(statement: str) -> bool:
    """Whether we read other tables than PostgreSQL's parser does."""
    both = tables_of(fingerprint(statement, POSTGRESQL).tokens), tables_in(statement)
    ours, its = ({name.replace('"', "").lower() for name in names} for names in both)
    return ours != its


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
    if options.regress:
        figures += agreement(options.regress)
    publish("fingerprints", SEED, figures)


if __name__ == "__main__":
    main()
