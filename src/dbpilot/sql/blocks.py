"""Which table does a column belong to? Every SELECT of a statement, what it reads from, and how names are looked up.

A column may come through derived tables and common table expressions; it is followed to the table that it is from as
long as it is passed on unchanged.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from string import ascii_lowercase, ascii_uppercase
from typing import Final, Literal, NamedTuple

from sqlglot import exp

from dbpilot.sql.predicates import DialectName
from dbpilot.sql.reading import Unreadable
from dbpilot.sql.writes import as_query

ASCII_FOLDED: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
MAX_OUTPUTS: Final = 5_000
MAX_STEPS: Final = 50_000
"""Of following columns through derived tables: some statements, not longer than others, double that at every step."""
DEFAULT_SCHEMAS: Final = {"postgresql": "public", "sqlite": "main"}

Errand = Literal["filter", "join", "sort", "name"]
"""What a column is followed for. A database moves a filter into more kinds of subqueries than a join or an order; its
name comes from anywhere."""


class Names:
    """The tables and columns that there are, found as this database compares names."""

    def __init__(
        self, dialect: DialectName, columns: Mapping[str, Mapping[str, str]], schema: str | None = None
    ) -> None:
        self.dialect = dialect
        self.types = columns
        self._schema = schema or DEFAULT_SCHEMAS.get(dialect)
        folded = {self._plain(name): name for name in columns}
        self._case_matters = len(folded) < len(columns)
        """Two tables whose names differ in case only are kept apart, as MySQL does on most file systems."""
        self._tables = {name: name for name in columns} if self._case_matters else folded
        self._columns = {table: {self._plain(name): name for name in names} for table, names in columns.items()}

    def _plain(self, name: str) -> str:
        if self.dialect == "postgresql":
            return name
        return name.translate(ASCII_FOLDED) if self.dialect == "sqlite" else name.lower()

    def fold(self, identifier: exp.Expr | None) -> str:
        """As names are compared; empty for no name at all."""
        if not isinstance(identifier, exp.Identifier):
            return identifier.name if identifier is not None else ""
        name: str = identifier.this
        if self.dialect == "postgresql" and not identifier.args.get("quoted"):
            return name.translate(ASCII_FOLDED)
        return self._plain(name)

    def table(self, node: exp.Table) -> str | None:
        """The table that is named; None for a view, a function, one of another schema, or one that is not known."""
        if not isinstance(node.this, exp.Identifier) or not self._is_here(node):
            return None
        return self._tables.get(node.this.this if self._case_matters else self.fold(node.this))

    def _is_here(self, node: exp.Table) -> bool:
        schema = node.args.get("db")
        return not schema or self._schema is None or self.fold(schema) == self._plain(self._schema)

    def column(self, table: str, folded: str) -> str | None:
        """The table's column of this name; None where there is none."""
        return self._columns[table].get(folded)

    def columns(self, table: str) -> Mapping[str, str]:
        """The columns by their folded names."""
        return self._columns[table]


@dataclass(eq=False, slots=True)
class Source:
    """What a SELECT reads rows from, under one name."""

    alias: str
    block: "Block"
    table: str | None = None
    query: "Query | None" = None
    """Neither where nothing is known of it: a view, a function, values."""

    @property
    def is_open(self) -> bool:
        """Whether any column may be one of its own."""
        return self.table is None and (self.query is None or self.query.is_open)


class Ref(NamedTuple):
    """A column of a source, its name folded."""

    source: Source
    name: str


class Base(NamedTuple):
    """A column of a table, where a SELECT reads from it."""

    source: Source
    column: str


@dataclass(eq=False, slots=True)
class Query:
    """A SELECT, or several that are united."""

    blocks: list["Block"] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """What its columns are called from outside, where that is said."""
    is_open: bool = False
    is_limited: bool = False
    """Whether only some of the rows of all SELECTs together are taken."""
    is_all: bool = True
    """Whether rows that SELECTs have in common come several times."""
    is_recursive: bool = False
    is_fenced: bool = False
    """Whether it was asked to be computed on its own."""
    references: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that rows have to fulfil."""

    node: exp.Expr
    only: frozenset[Source] | None = None
    """The sources whose rows it chooses; of an outer join the other side's rows stay whether it holds or not."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two columns that a join makes equal by their names."""

    one: Ref
    other: Ref
    only: frozenset[Source] | None


class Block:
    """One SELECT."""

    def __init__(self, node: exp.Select, parent: "Block | None", is_semi: bool) -> None:
        self.node = node
        self.parent = parent
        self.is_semi = is_semi
        """Whether only the existence of its rows matters to the SELECT around it."""
        self.sources: dict[str, Source] = {}
        self.conditions: list[Condition] = []
        self.pairs: list[Pair] = []
        self.nested: dict[int, Query] = {}
        """Queries in its expressions, by the identity of their nodes."""

    @property
    def is_existence_test(self) -> bool:
        """Whether nobody looks at what it answers."""
        return isinstance(self.node.parent, exp.Exists)

    @property
    def is_grouped(self) -> bool:
        """Whether its rows stand for several each."""
        if self.node.args.get("group") or self.node.args.get("having"):
            return True
        return any(isinstance(node, exp.AggFunc) and not _in_window(node) for node in self.projected())

    @property
    def is_limited(self) -> bool:
        """Whether only its first rows are taken."""
        return bool(self.node.args.get("limit") or self.node.args.get("offset"))

    @property
    def has_windows(self) -> bool:
        """Whether a row's columns depend on other rows."""
        return any(isinstance(node, exp.Window) for node in self.projected())

    @property
    def distinct(self) -> exp.Distinct | None:
        """Its DISTINCT."""
        found: exp.Distinct | None = self.node.args.get("distinct")
        return found

    def projected(self) -> Iterator[exp.Expr]:
        """The nodes of what it answers."""
        for expression in self.node.expressions:
            yield from own_nodes(expression)

    @property
    def group_keys(self) -> list[exp.Expr]:
        """What it groups by, a position or another name replaced by what it stands for."""
        group = self.node.args.get("group")
        return [self._meant(key) for key in group.expressions] if group else []

    def _meant(self, key: exp.Expr) -> exp.Expr:
        return self.at_position(key) or key

    def at_position(self, node: exp.Expr) -> exp.Expr | None:
        """What ``ORDER BY 2`` means; None where it is no position."""
        if isinstance(node, exp.Literal) and not node.is_string and node.name.isdecimal():
            place = int(node.name) - 1
            if 0 <= place < len(self.node.expressions):
                return bare(self.node.expressions[place].unalias())
        return None


def _in_window(node: exp.Expr) -> bool:
    return isinstance(node.parent, exp.Window) or isinstance(getattr(node.parent, "parent", None), exp.Window)


def bare(node: exp.Expr) -> exp.Expr:
    """Without brackets around it."""
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def own_nodes(root: exp.Expr) -> Iterator[exp.Expr]:
    """The nodes from here downwards, inner queries not entered (but named)."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, exp.Select | exp.SetOperation):
            stack.extend(reversed(list(node.iter_expressions())))


class Statement:
    """A statement's SELECTs; UPDATE and DELETE are given as the SELECT that finds their rows."""

    def __init__(self, tree: exp.Query, names: Names) -> None:
        self.names = names
        self.blocks: list[Block] = []
        """The outer ones first."""
        self._owners: dict[int, Block] = {}
        """By the identity of columns' nodes."""
        self._columns: dict[Block, list[exp.Column]] = {}
        self._ctes: dict[Block, dict[str, Query]] = {}
        self._answers: dict[Block, list[tuple[str, exp.Expr | Ref | None]]] = {}
        self._steps = 0
        self.writes: list[exp.Expr] = []
        """Statements within WITH that write."""
        self._query(tree, None, {})

    # Building.

    def _query(
        self,
        node: exp.Expr,
        parent: Block | None,
        ctes: dict[str, Query],
        is_semi: bool = False,
        names: tuple[str, ...] = (),
    ) -> Query:
        ctes = self._with(node, parent, ctes)
        query = Query(names=list(names))
        query.is_limited = not isinstance(node, exp.Select) and bool(node.args.get("limit") or node.args.get("offset"))
        if isinstance(node, exp.Subquery):
            inner = self._query(node.this, parent, ctes, is_semi)
            query.blocks, query.is_open = inner.blocks, inner.is_open
            query.is_limited |= inner.is_limited
            query.is_all = inner.is_all
        elif isinstance(node, exp.SetOperation):
            query.is_all = isinstance(node, exp.Union) and not node.args.get("distinct")
            for side in (node.this, node.expression):
                inner = self._query(side, parent, ctes)
                query.blocks += inner.blocks
                query.is_limited |= inner.is_limited
                query.is_all &= inner.is_all
        elif isinstance(node, exp.Select):
            query.blocks.append(self._block(node, parent, ctes, is_semi))
        else:
            query.is_open = True
            self._write(node, parent, ctes)
        return query

    def _write(self, node: exp.Expr, parent: Block | None, ctes: dict[str, Query]) -> None:
        if isinstance(node, exp.Insert | exp.Update | exp.Delete):
            self.writes.append(node)
            inner = as_query(node)
            if inner is not None:
                self._query(inner, parent, ctes)

    def _with(self, node: exp.Expr, parent: Block | None, ctes: dict[str, Query]) -> dict[str, Query]:
        """Those that are visible within the node."""
        with_ = node.args.get("with_")
        if with_ is None:
            return ctes
        for cte in with_.expressions:
            name = self.names.fold(cte.args["alias"].this)
            columns = tuple(self.names.fold(column) for column in cte.args["alias"].columns)
            within = {**ctes, name: Query(is_open=True)} if with_.recursive else ctes
            made = self._query(cte.this, parent, within, names=columns)
            made.is_recursive = with_.recursive and within[name].references > 0
            made.is_fenced = bool(cte.args.get("materialized"))
            ctes = {**ctes, name: made}
        return ctes

    def _block(self, node: exp.Select, parent: Block | None, ctes: dict[str, Query], is_semi: bool) -> Block:
        block = Block(node, parent, is_semi)
        self.blocks.append(block)
        self._ctes[block] = ctes
        from_ = node.args.get("from_")
        if from_:
            self._relation(from_.this, block)
        for join in node.args.get("joins") or ():
            self._join(join, block)
        for lateral in node.args.get("laterals") or ():
            self._relation(lateral, block)
        where = node.args.get("where")
        if where:
            block.conditions.append(Condition(where.this))
        self._columns[block] = []
        for name in ("expressions", "group", "having", "order", "windows", "distinct", "limit"):
            for part in _listed(node.args.get(name)):
                self._own(part, block)
        for condition in block.conditions:
            self._own(condition.node, block)
        return block

    def _own(self, root: exp.Expr, block: Block) -> None:
        """The columns under this node are looked up from the block; queries there are its own."""
        for node in own_nodes(root):
            if isinstance(node, exp.Column):
                self._owners[id(node)] = block
                self._columns[block].append(node)
            elif isinstance(node, exp.Select | exp.SetOperation) and id(node) not in block.nested:
                is_semi = _is_positive_test(node)
                block.nested[id(node)] = self._query(node, block, self._ctes[block], is_semi)

    def _relation(self, node: exp.Expr, block: Block) -> None:
        """What stands in FROM or JOIN is one of the block's sources, or several in brackets."""
        alias_node = node.args.get("alias")
        alias = self.names.fold(alias_node.this) if alias_node and alias_node.this else ""
        columns = tuple(self.names.fold(column) for column in alias_node.columns) if alias_node else ()
        inner = node.this if isinstance(node, exp.Lateral) else node
        if isinstance(node, exp.Table):
            self._table(node, alias, columns, block)
        elif isinstance(inner, exp.Subquery) and isinstance(inner.this, exp.Query):
            seen_from = block if isinstance(node, exp.Lateral) else block.parent
            query = self._query(inner, seen_from, self._ctes[block], names=columns)
            query.references = 1
            self._source(block, Source(alias, block, query=query))
        elif isinstance(inner, exp.Subquery | exp.Paren):
            self._relation(inner.this, block)
        else:
            self._source(block, Source(alias, block))
        for join in node.args.get("joins") or ():
            self._join(join, block)

    def _table(self, node: exp.Table, alias: str, columns: tuple[str, ...], block: Block) -> None:
        name = self.names.fold(node.this)
        source = Source(alias or name, block)
        cte = self._ctes[block].get(name) if not node.args.get("db") else None
        if cte is not None:
            cte.references += 1
            source.query = cte
        elif not columns:
            source.table = self.names.table(node)
        self._source(block, source)

    def _source(self, block: Block, source: Source) -> None:
        key = source.alias
        while key in block.sources:  # the same name in two schemas, or none: reachable without a name only
            key += "\0"
        block.sources[key] = source

    def _join(self, join: exp.Join, block: Block) -> None:
        before = list(block.sources.values())
        self._relation(join.this, block)
        right = list(block.sources.values())[len(before) :]
        chosen = {"LEFT": right, "RIGHT": before, "FULL": []}.get(str(join.side).upper())
        only = None if chosen is None else frozenset(chosen)
        if join.args.get("on"):
            block.conditions.append(Condition(join.args["on"], only))
        for name in self._shared(join, before, right):
            one, other = self._among(before, name), self._among(right, name)
            if one and other:
                block.pairs.append(Pair(one, other, only))

    def _shared(self, join: exp.Join, before: list[Source], right: list[Source]) -> list[str]:
        """The columns of USING, or of NATURAL."""
        if str(join.method).upper() != "NATURAL":
            return [self.names.fold(column.this if isinstance(column, exp.Column) else column) for column in
                    join.args.get("using") or ()]  # fmt: skip
        left_names = {name for source in before for name in self._names_of(source)}
        return [name for source in right for name in self._names_of(source) if name in left_names]

    # Looking up.

    def columns_of(self, block: Block) -> list[exp.Column]:
        """Those that the block names itself, whosever they are."""
        return self._columns[block]

    def ref(self, node: exp.Expr | Ref) -> Ref | None:
        """The column that this is; None for anything else."""
        return self.resolve(node) if isinstance(node, exp.Column) else node if isinstance(node, Ref) else None

    def resolve(self, column: exp.Column) -> Ref | None:
        """The source that this column is one of; None where it cannot be told."""
        block = self._owners.get(id(column))
        name, qualifier = self.names.fold(column.this), self.names.fold(column.args.get("table"))
        while block is not None:
            if qualifier:
                source = block.sources.get(qualifier)
                if source is not None:
                    return Ref(source, name) if self._has(source, name) else None
            else:
                found = self._among(block.sources.values(), name)
                if found is not None:
                    return found
                if any(source.is_open for source in block.sources.values()):
                    return None
            block = block.parent
        return None

    def _among(self, sources: Iterable[Source], name: str) -> Ref | None:
        for source in sources:
            if not source.is_open and self._has(source, name):
                return Ref(source, name)
        return None

    def _has(self, source: Source, name: str) -> bool:
        if source.table is not None:
            return self.names.column(source.table, name) is not None
        return source.is_open or name in self._names_of(source)

    def _names_of(self, source: Source) -> list[str]:
        if source.table is not None:
            return list(self.names.columns(source.table))
        if source.query is None or not source.query.blocks:
            return []
        return self._named(source.query, [name for name, _ in self._outputs(source.query.blocks[0])])

    def _named(self, query: Query, inner: list[str]) -> list[str]:
        return query.names + inner[len(query.names) :]

    def _outputs(self, block: Block) -> list[tuple[str, exp.Expr | Ref | None]]:
        """What the block answers, column by column.

        Raises:
            Unreadable: it is far more than a table has.
        """
        if block not in self._answers:
            self._answers[block] = self._listed(block)
        return self._answers[block]

    def _listed(self, block: Block) -> list[tuple[str, exp.Expr | Ref | None]]:
        found: list[tuple[str, exp.Expr | Ref | None]] = []
        for expression in block.node.expressions:
            star = self.starred(expression, block)
            if star is None:
                inner = expression.unalias()
                found.append((self._output_name(expression), bare(inner)))
            for source in star or ():
                found += [(name, Ref(source, name)) for name in self._names_of(source)]
            if len(found) > MAX_OUTPUTS:
                raise Unreadable
        return found

    def _output_name(self, expression: exp.Expr) -> str:
        if isinstance(expression, exp.Alias):
            return self.names.fold(expression.args["alias"])
        return self.names.fold(expression.this) if isinstance(expression, exp.Column) else ""

    def starred(self, expression: exp.Expr, block: Block) -> list[Source] | None:
        """The sources whose columns ``*`` or ``t.*`` means; None where it is something else."""
        if isinstance(expression, exp.Star):
            return list(block.sources.values())
        if isinstance(expression, exp.Column) and isinstance(expression.this, exp.Star):
            source = block.sources.get(self.names.fold(expression.args.get("table")))
            return [source] if source is not None else []
        return None

    def named_output(self, block: Block, column: exp.Expr) -> exp.Expr | Ref | None:
        """What the block calls by this name among its answers; None where it is no name of one."""
        if not isinstance(column, exp.Column) or column.args.get("table"):
            return None
        name = self.names.fold(column.this)
        for expression in block.node.expressions:
            if isinstance(expression, exp.Alias) and self.names.fold(expression.args["alias"]) == name:
                return bare(expression.this)
        return None

    # Following a column to its table.

    def bases(self, node: exp.Expr | Ref | None, errand: Errand) -> list[Base]:
        """The columns of tables that this is, unchanged; several where SELECTs are united, none where it is not."""
        ref = self.ref(node) if node is not None else None
        return self._follow(ref, errand) if ref is not None else []

    def answered(self, query: Query, place: int, errand: Errand) -> list[Base]:
        """The columns of tables that a query answers in this place."""
        if query.is_recursive or not _lets_through(query, errand, self.names.dialect):
            return []
        if errand != "name" and not query.is_all and self.names.dialect == "sqlite":  # which moves nothing into these
            return []
        found = [base for block in query.blocks for base in self._through(block, place, errand)]
        return [] if errand != "name" and self._are_converted(found) else found

    def _are_converted(self, bases: list[Base]) -> bool:
        """Whether columns that are united are of several types: PostgreSQL hides them under a conversion then."""
        types = {self.names.types[str(base.source.table)][base.column] for base in bases}
        return self.names.dialect == "postgresql" and len(types) > 1

    def _follow(self, ref: Ref, errand: Errand) -> list[Base]:
        if ref.source.table is not None:
            column = self.names.column(ref.source.table, ref.name)
            return [Base(ref.source, column)] if column is not None else []
        names = self._names_of(ref.source)
        if ref.source.query is None or ref.name not in names:
            return []
        return self.answered(ref.source.query, names.index(ref.name), errand)

    def _through(self, block: Block, place: int, errand: Errand) -> list[Base]:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise Unreadable
        outputs = self._outputs(block)
        inner = outputs[place][1] if place < len(outputs) else None
        if isinstance(inner, exp.Column):
            inner = self.resolve(inner)
        if not isinstance(inner, Ref) or inner.source.block is not block:
            return []
        return self._follow(inner, errand) if self._passes(block, inner, errand) else []

    def _passes(self, block: Block, ref: Ref, errand: Errand) -> bool:
        """Whether the database may do the errand within the block rather than on what it answers."""
        if errand == "name":
            return True
        if block.is_limited or block.has_windows or (block.distinct and block.distinct.args.get("on")):
            return False
        if errand != "filter":
            return not block.is_grouped and not block.distinct
        return not block.is_grouped or any(self._same(key, ref) for key in block.group_keys)

    def _same(self, node: exp.Expr, ref: Ref) -> bool:
        return isinstance(node, exp.Column) and self.resolve(node) == ref

    def read_by(self, root: exp.Expr, block: Block) -> set[Source]:
        """The sources whose columns are named under this node, in inner queries, too."""
        found = set()
        for node in own_nodes(root):
            if isinstance(node, exp.Column):
                ref = self.resolve(node)
                found |= {ref.source} if ref else {Source("", block)}
            elif isinstance(node, exp.Select | exp.SetOperation):
                found |= self.read_from_outside(node, block)
        return found

    def read_from_outside(self, node: exp.Expr, block: Block) -> set[Source]:
        """Of an inner query: the sources of the block, or around it, that it names."""
        visible = set()
        seen: Block | None = block
        while seen is not None:
            visible |= set(seen.sources.values())
            seen = seen.parent
        columns = (self.resolve(column) for column in node.find_all(exp.Column))
        return {ref.source for ref in columns if ref is not None and ref.source in visible}


def _lets_through(query: Query, errand: Errand, dialect: DialectName) -> bool:
    """Whether the query as a whole is merged, or filters are moved into it."""
    if errand == "name":
        return True
    is_shared = query.references > 1 and dialect in ("postgresql", "mysql")
    if query.is_limited or query.is_fenced or is_shared:
        return False
    return errand == "filter" or len(query.blocks) == 1


def _is_positive_test(node: exp.Expr) -> bool:
    """Whether the query stands in EXISTS or IN that has to hold."""
    parent = node.parent
    while isinstance(parent, exp.Subquery | exp.Paren):
        parent = parent.parent
    if not isinstance(parent, exp.Exists | exp.In):
        return False
    above = parent.parent
    while isinstance(above, exp.Paren | exp.And):
        above = above.parent
    return isinstance(above, exp.Where | exp.Join)


def _listed(part: object) -> list[exp.Expr]:
    found = part if isinstance(part, list) else [part]
    return [node for node in found if isinstance(node, exp.Expr)]
