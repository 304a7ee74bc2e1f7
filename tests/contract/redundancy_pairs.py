"""Pairs of indexes, each with what may go and what proves it; the database itself has the last word.

Where nothing may go, one of them is tempting: it looks redundant, and a careless tool drops it. What the drop would
break is stated, and tried: a plan gets worse, a statement fails, a rule is lost, or the database refuses the drop.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from dbpilot.sql.predicates import Sort, TableUse

Database = Literal["mariadb", "postgresql", "sqlite"]

ROWS = 4000
NUMBERS = {
    "mariadb": "(SELECT seq AS n FROM seq_1_to_4000) q",
    "postgresql": "generate_series(1, 4000) q(n)",
    "sqlite": "(WITH RECURSIVE q(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM q WHERE n < 4000) SELECT n FROM q) q",
}
TEXT = {
    "mariadb": "CONCAT('name ', MOD(n, 500))",
    "postgresql": "'name ' || MOD(n, 500)",
    "sqlite": "'name ' || (n % 500)",
}
MODULO = {"mariadb": "MOD(n, {})", "postgresql": "MOD(n, {})", "sqlite": "n % {}"}
TABLES = {
    "mariadb": (
        "CREATE TABLE p (id INT PRIMARY KEY, k INT NOT NULL, k2 INT NOT NULL)",
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, n INT NOT NULL, a INT NOT NULL, b INT, c INT NOT NULL,"
        " s VARCHAR(60) NOT NULL, s2 VARCHAR(60) NOT NULL)",
    ),
    "postgresql": (
        "CREATE TABLE p (id INT PRIMARY KEY, k INT NOT NULL, k2 INT NOT NULL)",
        "CREATE TABLE t (id INT PRIMARY KEY, n INT NOT NULL, a INT NOT NULL, b INT, c INT NOT NULL,"
        " s VARCHAR(60) NOT NULL, s2 VARCHAR(60) NOT NULL, l INT[])",
    ),
    "sqlite": (
        "CREATE TABLE p (id INTEGER PRIMARY KEY, k INT NOT NULL, k2 INT NOT NULL)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INT NOT NULL, a INT NOT NULL, b INT, c INT NOT NULL,"
        " s VARCHAR(60) NOT NULL, s2 VARCHAR(60) NOT NULL)",
    ),
}
"""Two tables that each pair begins with."""


@dataclass(frozen=True)
class Pair:
    """Some indexes of one table, and the truth about them."""

    database: Database
    name: str
    made: tuple[str, ...]
    """The statements that make them; ``x(a)`` is short for an index of t."""
    why: str
    go: tuple[frozenset[str], ...] = ()
    """Of each of these, exactly one may go; nothing else may."""
    asks: tuple[str, ...] = ()
    """What is answered as well when those that may go are gone."""
    tempting: str | None = None
    """Where nothing may go: what looks as if it could."""
    worse: tuple[str, ...] = ()
    """What is answered worse without the tempting one."""
    fails: tuple[str, ...] = ()
    """What can be done with it, and fails without."""
    forbids: tuple[str, ...] = ()
    """What it forbids, and is done without it."""
    refused: bool = False
    """Whether the database refuses to drop it."""
    also: tuple[tuple[str, str], ...] = ()
    """Others that must stay, each with what is answered worse without it."""
    table: str = "t"
    uses: tuple[TableUse, ...] = ()
    text: str | None = None
    """The statement that is known to be sent, where the truth depends on that."""

    def __str__(self) -> str:
        return f"{self.database}: {self.name}"

    @property
    def must_stay(self) -> frozenset[str]:
        """Those of which it is proven."""
        return frozenset((*([self.tempting] if self.tempting else []), *(name for name, _ in self.also)))

    @property
    def needs_workload(self) -> bool:
        """Whether nobody can tell from the catalogue alone."""
        return self.text is not None

    @property
    def statements(self) -> tuple[str, ...]:
        """The indexes' DDL."""
        return tuple(_ddl(made) for made in self.made)


def _ddl(made: str) -> str:
    if " " in made.split("(", 1)[0]:
        return made
    name, rest = made.split("(", 1)
    method = "USING " + name.split(":")[1] if ":" in name else ""
    return f"CREATE INDEX {name.split(':')[0]} ON t {method} ({rest}"


def filled(database: Database) -> Iterable[str]:
    """The statements that make the tables, with rows in them."""
    yield from TABLES[database]
    yield f"INSERT INTO p SELECT n, n, n FROM {NUMBERS[database]}"
    a, b, c = (MODULO[database].format(number) for number in (200, 37, 1000))
    values = f"n, n, {a} + 1, {b} + 1, {c}, {TEXT[database]}, 'x'"
    yield f"INSERT INTO t (id, n, a, b, c, s, s2) SELECT {values} FROM {NUMBERS[database]}"
    if database == "postgresql":
        yield "UPDATE t SET l = ARRAY[a, b, c]"


def one(*names: str) -> tuple[frozenset[str], ...]:
    """Exactly one of these may go."""
    return (frozenset(names),)


EVERYWHERE: tuple[Database, ...] = ("mariadb", "postgresql", "sqlite")
FIRST = "SELECT * FROM t ORDER BY {} LIMIT 5"
FIND = "SELECT * FROM t WHERE {}"


def _plain(database: Database) -> Iterable[Pair]:
    """What is the same everywhere."""
    by_a, by_ab = FIND.format("a = 3"), FIND.format("a = 3 AND b = 4")

    def pair(name: str, made: str, why: str, **more: Any) -> Pair:
        return Pair(database, name, tuple(made.split("; ")), why, **more)

    yield pair("duplicate", "x(a); y(a)", "the same twice", go=one("x", "y"), asks=(by_a,))
    yield pair("duplicate of two columns", "x(a, b); y(a, b)", "the same twice", go=one("x", "y"), asks=(by_a, by_ab))
    yield pair("prefix", "x(a); y(a, b)", "the longer one begins with it", go=one("x"), asks=(by_a,))
    yield pair(
        "chain", "x(a); y(a, b); z(a, b, c)", "the longest serves all", go=(*one("x"), *one("y")), asks=(by_a, by_ab)
    )
    yield pair("other order", "x(a, b); y(b, a)", "an index finds by its first column", tempting="x", worse=(by_a,))
    yield pair(
        "one column descends",
        "x(a, b); y(a, b DESC)",
        "read in either direction, one column runs the wrong way",
        tempting="x",
        worse=(FIRST.format("a, b"),),
        also=(("y", FIRST.format("a, b DESC")),),
    )
    yield pair(
        "one column descends, prefix",
        "x(a DESC, b); y(a, b, c)",
        "read in either direction, one column runs the wrong way",
        tempting="x",
        worse=(FIRST.format("a DESC, b"),),
    )
    yield pair(
        "descending twin",
        "x(c); y(c DESC)",
        "an index is read backwards as well",
        go=one("y") if database == "mariadb" else one("x", "y"),
        asks=(FIND.format("c = 3"), FIRST.format("c DESC"), FIRST.format("c")),
        also=(("x", "SELECT MIN(c) FROM t"),) if database == "mariadb" else (),
    )
    yield pair(
        "descending prefix",
        "x(c DESC); y(c, b)",
        "an index is read backwards as well",
        go=one("x"),
        asks=(FIND.format("c = 3"), FIRST.format("c DESC")),
    )
    yield pair(
        "plain beside unique",
        "x(n); CREATE UNIQUE INDEX u ON t (n)",
        "the unique one finds as well",
        go=one("x"),
        asks=(FIND.format("n = 3"),),
    )
    yield pair(
        "plain, a prefix of unique",
        "x(n); CREATE UNIQUE INDEX u ON t (n, a)",
        "the unique one finds as well",
        go=one("x"),
        asks=(FIND.format("n = 3"),),
    )
    yield pair(
        "unique, a prefix",
        "CREATE UNIQUE INDEX u ON t (n); y(n, a)",
        "only it forbids the same number twice",
        tempting="u",
        forbids=("INSERT INTO t (id, n, a, c, s, s2) VALUES (9001, 1, 1, 1, '', '')",),
        also=(("y", "SELECT a FROM t WHERE n < 2000"),) if database != "sqlite" else (),
    )
    yield pair(
        "unique index twice",
        "CREATE UNIQUE INDEX u ON t (n); CREATE UNIQUE INDEX v ON t (n)",
        "one of them forbids as much as both",
        go=one("u", "v"),
        asks=(FIND.format("n = 3"),),
    )
    yield pair(
        "unique index beside the primary key",
        "CREATE UNIQUE INDEX u ON t (id)",
        "the primary key forbids as much, and finds as well",
        go=one("u"),
        asks=(FIND.format("id = 3"),),
    )
    yield pair(
        "with the primary key behind it",
        "x(a); y(a, id)",
        "the longer one begins with it, and sorts alike",
        go=one("x"),
        asks=(by_a, "SELECT * FROM t WHERE a = 3 ORDER BY id"),
    )


def _foreign(database: Database) -> Iterable[Pair]:
    refer = "ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES p (id)"
    yield Pair(
        database,
        "foreign key, prefix",
        ("x(a)", "y(a, b)", refer),
        "the longer one serves the foreign key",
        one("x"),
        (FIND.format("a = 3"),),
    )


def _mariadb() -> Iterable[Pair]:
    def pair(name: str, made: str, why: str, **more: Any) -> Pair:
        return Pair("mariadb", name, tuple(made.split("; ")), why, **more)

    yield from _foreign("mariadb")
    yield pair(
        "descending cover",
        "x(c); y(c DESC, b DESC)",
        "MIN is not looked up where the index descends",
        tempting="x",
        worse=("SELECT MIN(c) FROM t",),
    )
    yield pair(
        "first characters",
        "x(s(10)); y(s)",
        "whole values find what their beginnings do",
        go=one("x"),
        asks=(FIND.format("s = 'name 7'"),),
        also=(("y", FIRST.format("s")),),
    )
    yield pair(
        "first characters, more of them",
        "x(s(6)); y(s(20))",
        "more characters find what fewer do",
        go=one("x"),
        asks=(FIND.format("s = 'name 7'"),),
        also=(("y", FIND.format("s = 'name 77'")),),
    )
    yield pair(
        "first characters, prefix",
        "x(s(10)); y(s, a)",
        "whole values find what their beginnings do",
        go=one("x"),
        asks=(FIND.format("s = 'name 7'"),),
    )
    yield pair(
        "first characters as the second column",
        "x(a, s(10)); y(a, s, b)",
        "whole values find what their beginnings do",
        go=one("x"),
        asks=(FIND.format("a = 3 AND s = 'name 7'"),),
    )
    yield pair(
        "whole values beside their beginnings",
        "x(s); y(s(10), a)",
        "beginnings do not sort",
        tempting="x",
        worse=(FIRST.format("s"),),
    )
    yield pair(
        "unique beginnings",
        "CREATE UNIQUE INDEX u ON t (n, s2(1)); CREATE UNIQUE INDEX y ON t (n, s2)",
        "beginnings that must differ are more than values that must",
        tempting="u",
        forbids=("INSERT INTO t (id, n, a, c, s, s2) VALUES (9001, 1, 1, 1, '', 'xx')",),
        also=(("y", FIRST.format("n, s2")),),
    )
    yield pair(
        "ignored cover",
        "x(a); CREATE INDEX y ON t (a, b) IGNORED",
        "nobody may use the longer one",
        tempting="x",
        worse=(FIND.format("a = 3"),),
    )
    yield pair(
        "ignored twin",
        "x(a); CREATE INDEX y ON t (a) IGNORED",
        "the ignored one is of no use",
        go=one("y"),
        asks=(FIND.format("a = 3"),),
    )
    yield pair(
        "ignored prefix",
        "CREATE INDEX x ON t (a) IGNORED; y(a, b)",
        "the longer one is in use",
        go=one("x"),
        asks=(FIND.format("a = 3"),),
    )
    yield pair(
        "full text beside a B-tree",
        "CREATE FULLTEXT INDEX f ON t (s); x(s)",
        "only it finds words",
        tempting="f",
        fails=("SELECT * FROM t WHERE MATCH (s) AGAINST ('name')",),
    )
    yield pair(
        "B-tree beside full text",
        "CREATE FULLTEXT INDEX f ON t (s); x(s)",
        "only it finds values",
        tempting="x",
        worse=(FIND.format("s = 'name 7'"),),
    )
    yield pair(
        "full text twice",
        "CREATE FULLTEXT INDEX f ON t (s); CREATE FULLTEXT INDEX g ON t (s)",
        "the same twice",
        go=one("f", "g"),
        asks=("SELECT * FROM t WHERE MATCH (s) AGAINST ('name')",),
    )
    yield pair(
        "full text of more columns",
        "CREATE FULLTEXT INDEX f ON t (s); CREATE FULLTEXT INDEX g ON t (s, s2)",
        "MATCH wants an index of exactly its columns",
        tempting="f",
        fails=("SELECT * FROM t WHERE MATCH (s) AGAINST ('name')",),
    )
    yield pair(
        "needed by a foreign key",
        "x(a); y(b, a); ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES p (id)",
        "the other one does not begin with the column",
        tempting="x",
        refused=True,
    )
    yield pair(
        "needed by a foreign key in its order",
        "CREATE INDEX k ON p (k, k2); UPDATE t SET b = a; x(a, b); y(b, a);"
        " ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a, b) REFERENCES p (k, k2)",
        "a foreign key wants its columns in their order",
        tempting="x",
        refused=True,
    )
    yield pair(
        "referred to",
        "CREATE INDEX x ON p (k); CREATE INDEX y ON p (k, k2);"
        " ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES p (k)",
        "the longer one begins with what is referred to",
        go=one("x"),
        table="p",
        asks=("SELECT * FROM p WHERE k = 3",),
    )
    yield pair(
        "primary key of two columns",
        "CREATE TABLE r (a INT, b INT, s VARCHAR(20), PRIMARY KEY (a, b)); CREATE INDEX x ON r (a)",
        "the table itself is sorted by it",
        go=one("x"),
        table="r",
        asks=("SELECT * FROM r WHERE a = 3",),
    )
    yield pair(
        "primary key again", "x(id)", "the table itself is sorted by it", go=one("x"), asks=(FIND.format("id = 3"),)
    )
    yield pair(
        "rows in the order of the primary key",
        "x(a); y(a, b)",
        "each value's rows lie in the order of the primary key in it, and not in the longer one",
        tempting="x",
        worse=("SELECT * FROM t WHERE a = 3 ORDER BY id",),
        uses=(TableUse("t", "t", equal=("a",), order=(Sort("id"),)),),
        text="SELECT * FROM t WHERE a = ? ORDER BY id",
    )
    yield pair(
        "named by a statement",
        "x(a); y(a, b)",
        "the statement fails without it",
        tempting="x",
        fails=("SELECT * FROM t FORCE INDEX (x) WHERE a = 3",),
        text="SELECT * FROM t FORCE INDEX (x) WHERE a = ?",
    )


def _postgresql() -> Iterable[Pair]:
    def pair(name: str, made: str, why: str, **more: Any) -> Pair:
        return Pair("postgresql", name, tuple(made.split("; ")), why, **more)

    by_a, by_c = FIND.format("a = 3"), FIND.format("c = 3")
    yield from _foreign("postgresql")
    yield pair(
        "descending cover",
        "x(c); y(c DESC, b)",
        "an index is read backwards as well",
        go=one("x"),
        asks=(by_c, FIRST.format("c"), FIRST.format("c DESC"), "SELECT min(c), max(c) FROM t"),
    )
    yield pair(
        "mirrored",
        "x(a, b DESC); y(a DESC, b, c)",
        "read backwards it is the same",
        go=one("x"),
        asks=(FIRST.format("a, b DESC"), FIRST.format("a DESC, b")),
    )
    yield pair(
        "NULL first", "x(b); y(b NULLS FIRST)", "NULL stands at the other end", tempting="x", worse=(FIRST.format("b"),)
    )
    yield pair(
        "NULL first, mirrored",
        "x(b DESC NULLS LAST); y(b NULLS FIRST)",
        "read backwards it is the same",
        go=one("x", "y"),
        asks=(FIRST.format("b NULLS FIRST"), FIRST.format("b DESC NULLS LAST")),
    )
    yield pair(
        "partial cover",
        "x(a); CREATE INDEX y ON t (a, b) WHERE b > 30",
        "the longer one lacks rows",
        tempting="x",
        worse=(by_a,),
    )
    yield pair(
        "partial beside full",
        "CREATE INDEX x ON t (c) WHERE a = 1; y(c)",
        "it holds few rows only",
        tempting="x",
        worse=("SELECT c FROM t WHERE a = 1 ORDER BY c",),
    )
    yield pair(
        "partial twice",
        "CREATE INDEX x ON t (a) WHERE b > 30; CREATE INDEX y ON t (a) WHERE (b)>30",
        "the same rows",
        go=one("x", "y"),
        asks=(FIND.format("a = 3 AND b > 30"),),
    )
    yield pair(
        "partial, prefix",
        "CREATE INDEX x ON t (a) WHERE b > 30; CREATE INDEX y ON t (a, c) WHERE b > 30",
        "the same rows",
        go=one("x"),
        asks=(FIND.format("a = 3 AND b > 30"),),
    )
    yield pair(
        "partial, other rows",
        "CREATE INDEX x ON t (a) WHERE b > 30; CREATE INDEX y ON t (a) WHERE b < 5",
        "other rows",
        tempting="x",
        worse=(FIND.format("a = 3 AND b > 30"),),
    )
    yield pair(
        "expression twice",
        "CREATE INDEX x ON t (lower(s)); CREATE INDEX y ON t (LOWER( s ))",
        "the same expression",
        go=one("x", "y"),
        asks=(FIND.format("lower(s) = 'name 7'"),),
    )
    yield pair(
        "expression, prefix",
        "CREATE INDEX x ON t (lower(s)); CREATE INDEX y ON t (lower(s), a)",
        "the longer one begins with it",
        go=one("x"),
        asks=(FIND.format("lower(s) = 'name 7'"),),
    )
    yield pair(
        "expression beside its column",
        "CREATE INDEX x ON t (lower(s)); y(s)",
        "another value",
        tempting="x",
        worse=(FIND.format("lower(s) = 'name 7'"),),
    )
    yield pair(
        "carried beside the key",
        "x(a); CREATE INDEX y ON t (a) INCLUDE (b)",
        "the other one carries more",
        go=one("x"),
        asks=(by_a,),
    )
    yield pair(
        "carried or in the key",
        "CREATE INDEX x ON t (a) INCLUDE (b); y(a, b)",
        "the key carries it as well",
        go=one("x"),
        asks=("SELECT b FROM t WHERE a = 3",),
    )
    yield pair(
        "carried, and missing",
        "CREATE INDEX x ON t (a) INCLUDE (c); y(a, b)",
        "the longer one does not carry the column",
        tempting="x",
        worse=("SELECT c FROM t WHERE a = 3",),
    )
    yield pair(
        "carried in another order",
        "CREATE INDEX x ON t (a) INCLUDE (b, c); CREATE INDEX y ON t (a) INCLUDE (c, b)",
        "what is carried has no order",
        go=one("x", "y"),
        asks=("SELECT b, c FROM t WHERE a = 3",),
    )
    yield pair(
        "unique index beside a constraint",
        "ALTER TABLE t ADD CONSTRAINT k UNIQUE (n); CREATE UNIQUE INDEX u ON t (n)",
        "the constraint forbids as much",
        go=one("u"),
        asks=(FIND.format("n = 3"),),
    )
    yield pair(
        "two constraints",
        "ALTER TABLE t ADD CONSTRAINT k UNIQUE (n); ALTER TABLE t ADD CONSTRAINT l UNIQUE (n)",
        "an index of a constraint is not dropped by itself",
        tempting="l",
        refused=True,
    )
    yield pair(
        "foreign key rests on the unique index",
        "CREATE UNIQUE INDEX u ON p (k); ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES p (k);"
        " ALTER TABLE p ADD CONSTRAINT k UNIQUE (k)",
        "it was there first, and the foreign key chose it",
        tempting="u",
        refused=True,
        table="p",
    )
    yield pair(
        "replica identity",
        "ALTER TABLE t ADD CONSTRAINT k UNIQUE (n); CREATE UNIQUE INDEX u ON t (n);"
        " ALTER TABLE t REPLICA IDENTITY USING INDEX u; CREATE PUBLICATION all_of_it FOR TABLE t",
        "rows are replicated by it",
        tempting="u",
        fails=("UPDATE t SET b = 1 WHERE id = 1",),
    )
    yield pair(
        "NULL like any value",
        "CREATE UNIQUE INDEX u ON t (n, b); CREATE UNIQUE INDEX v ON t (n, b) NULLS NOT DISTINCT",
        "the stricter one forbids as much",
        go=one("u"),
        asks=(FIND.format("n = 3 AND b = 4"),),
    )
    yield pair(
        "NULL like any value, alone",
        "CREATE UNIQUE INDEX u ON t ((NULLIF(n, 0))) NULLS NOT DISTINCT; CREATE UNIQUE INDEX v ON t ((NULLIF(n, 0)))",
        "the stricter one forbids as much",
        go=one("v"),
        asks=(FIND.format("NULLIF(n, 0) = 3"),),
    )
    yield pair(
        "exclusion",
        "x(n); ALTER TABLE t ADD CONSTRAINT k EXCLUDE USING btree (n WITH =)",
        "the constraint's index finds as well",
        go=one("x"),
        asks=(FIND.format("n = 3"),),
    )
    yield pair(
        "operator class",
        "x(s); CREATE INDEX y ON t (s text_pattern_ops)",
        "it sorts by other operators",
        tempting="x",
        worse=(FIRST.format("s"),),
    )
    yield pair(
        "operator class twice",
        "CREATE INDEX x ON t (s text_pattern_ops); CREATE INDEX y ON t (s text_pattern_ops, a)",
        "the same operators",
        go=one("x"),
        asks=(FIND.format("s = 'name 7'"),),
    )
    yield pair(
        "collation",
        'x(s); CREATE INDEX y ON t (s COLLATE "POSIX")',
        "it sorts otherwise",
        tempting="x",
        worse=(FIRST.format("s"),),
    )
    yield pair(
        "hash beside a B-tree", "x:hash(a); y(a)", "a B-tree finds equal values as well", go=one("x"), asks=(by_a,)
    )
    yield pair(
        "GIN twice",
        "x:gin(l); y:gin(l)",
        "the same twice",
        go=one("x", "y"),
        asks=("SELECT * FROM t WHERE l @> ARRAY[3]",),
    )
    yield pair(
        "GIN beside a B-tree",
        "x:gin(l); y(l)",
        "only it finds elements",
        tempting="x",
        worse=("SELECT * FROM t WHERE l @> ARRAY[3]",),
    )
    yield pair(
        "cover that is not valid",
        "x(a); CREATE UNIQUE INDEX CONCURRENTLY y ON t (a, s2)",
        "it was never finished",
        tempting="x",
        worse=(by_a,),
    )
    yield pair(
        "twin that is not valid",
        "x(a); CREATE UNIQUE INDEX CONCURRENTLY y ON t (a)",
        "it was never finished",
        tempting="x",
        worse=(by_a,),
    )


def _sqlite() -> Iterable[Pair]:
    def pair(name: str, made: str, why: str, **more: Any) -> Pair:
        return Pair("sqlite", name, tuple(made.split("; ")), why, **more)

    by_a = FIND.format("a = 3")
    yield pair(
        "descending cover",
        "x(c); y(c DESC, b DESC)",
        "an index is read backwards as well",
        go=one("x"),
        asks=(FIND.format("c = 3"), FIRST.format("c"), "SELECT MIN(c) FROM t"),
    )
    yield pair(
        "partial cover",
        "x(a); CREATE INDEX y ON t (a, b) WHERE b > 30",
        "the longer one lacks rows",
        tempting="x",
        worse=(by_a,),
    )
    yield pair(
        "partial twice",
        'CREATE INDEX x ON t (a) WHERE b > 30; CREATE INDEX y ON t (a) WHERE ("b">30)',
        "the same rows",
        go=one("x", "y"),
        asks=(FIND.format("a = 3 AND b > 30"),),
    )
    yield pair(
        "partial, other rows",
        "CREATE INDEX x ON t (a) WHERE b > 30; CREATE INDEX y ON t (a) WHERE b < 5",
        "other rows",
        tempting="x",
        worse=(FIND.format("a = 3 AND b > 30"),),
    )
    yield pair(
        "partial, other text",
        "CREATE INDEX x ON t (a) WHERE s = 'A b'; CREATE INDEX y ON t (a) WHERE s = 'a  B'",
        "other rows",
        tempting="x",
        worse=(FIND.format("a = 3 AND s = 'A b'"),),
    )
    yield pair(
        "unique partial beside plain",
        "x(n); CREATE UNIQUE INDEX u ON t (n) WHERE a > 100",
        "the unique one lacks rows",
        tempting="x",
        worse=(FIND.format("n = 3"),),
    )
    yield pair(
        "expression twice",
        'CREATE INDEX x ON t (lower(s)); CREATE INDEX y ON t (LOWER( "s" ))',
        "the same expression",
        go=one("x", "y"),
        asks=(FIND.format("lower(s) = 'name 7'"),),
    )
    yield pair(
        "expression, prefix",
        "CREATE INDEX x ON t (lower(s)); CREATE INDEX y ON t (lower(s), a)",
        "the longer one begins with it",
        go=one("x"),
        asks=(FIND.format("lower(s) = 'name 7'"),),
    )
    yield pair(
        "collation",
        "x(s); CREATE INDEX y ON t (s COLLATE NOCASE)",
        "it compares otherwise",
        tempting="x",
        worse=(FIND.format("s = 'name 7'"),),
    )
    yield pair(
        "collation twice",
        "CREATE INDEX x ON t (s COLLATE NOCASE); CREATE INDEX y ON t (s COLLATE NOCASE, a)",
        "the same collation",
        go=one("x"),
        asks=(FIND.format("s = 'name 7' COLLATE NOCASE"),),
    )
    yield pair(
        "collation of the column",
        "CREATE TABLE r (id INTEGER PRIMARY KEY, s TEXT COLLATE NOCASE); CREATE INDEX x ON r (s);"
        " CREATE INDEX y ON r (s COLLATE NOCASE)",
        "the column's own collation",
        go=one("x", "y"),
        table="r",
        asks=("SELECT * FROM r WHERE s = 'a'",),
    )
    yield pair(
        "unique index beside a constraint",
        "CREATE TABLE r (id INTEGER PRIMARY KEY, n INT UNIQUE); CREATE UNIQUE INDEX u ON r (n)",
        "the constraint forbids as much",
        go=one("u"),
        table="r",
        asks=("SELECT * FROM r WHERE n = 3",),
    )
    yield pair(
        "primary key again", "x(id)", "the table itself is sorted by it", go=one("x"), asks=(FIND.format("id = 3"),)
    )
    yield pair(
        "table in the order of two columns",
        "CREATE TABLE r (a INT, b INT, s TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID; CREATE INDEX x ON r (a)",
        "the table itself is sorted by it",
        go=one("x"),
        table="r",
        asks=("SELECT * FROM r WHERE a = 3",),
    )
    yield pair(
        "rows in the order of the primary key",
        "x(a); y(a, b)",
        "each value's rows lie in the order of the primary key in it, and not in the longer one",
        tempting="x",
        worse=("SELECT * FROM t WHERE a = 3 ORDER BY id",),
        uses=(TableUse("t", "t", equal=("a",), order=(Sort("id"),)),),
        text="SELECT * FROM t WHERE a = ? ORDER BY id",
    )
    yield pair(
        "named by a statement",
        "x(a); y(a, b)",
        "the statement fails without it",
        tempting="x",
        fails=("SELECT * FROM t INDEXED BY x WHERE a = 3",),
        text="SELECT * FROM t INDEXED BY x WHERE a = ?",
    )


PAIRS = (
    *(pair for database in EVERYWHERE for pair in _plain(database)),
    *_mariadb(),
    *_postgresql(),
    *_sqlite(),
)
