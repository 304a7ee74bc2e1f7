"""What a parsed statement asks of each table."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from sqlglot import exp

from dbpilot.sql import defeats
from dbpilot.sql.blocks import Base, Block, Names, Query, Ref, Source, Statement, bare, own_nodes
from dbpilot.sql.predicates import Defeat, Join, Predicates, Sort, TableUse, Trouble, Written
from dbpilot.sql.reading import mark_of
from dbpilot.sql.writes import as_query, target_of

RANGES: Final = (exp.GT, exp.GTE, exp.LT, exp.LTE)
EQUALS: Final = (exp.EQ, exp.NullSafeEQ)
COMPARISONS: Final = (*EQUALS, *RANGES, exp.NEQ, exp.NullSafeNEQ)
LIKES: Final = (exp.Like, exp.ILike, exp.Glob)
EXCLUDING: Final = (*EQUALS, *LIKES, exp.In, exp.Between, exp.Escape, exp.Is)
AROUND_VALUES: Final = (
    exp.Paren,
    exp.Cast,
    exp.Tuple,
    exp.Concat,
    exp.DPipe,
    exp.Lower,
    exp.Upper,
    exp.Any,
    exp.Array,
    exp.Neg,
)
"""What may stand around a value without changing which column it belongs to."""
OPPOSITES: Final[dict[type[exp.Expr], type[exp.Expr]]] = {
    exp.GT: exp.LTE,
    exp.GTE: exp.LT,
    exp.LT: exp.GTE,
    exp.LTE: exp.GT,
    exp.NEQ: exp.EQ,
}


@dataclass(eq=False, slots=True)
class _Use:
    """Collects; a dictionary keeps each once, in order of appearance."""

    table: str
    alias: str
    equal: dict[str, None] = field(default_factory=dict)
    joins: dict[Join, None] = field(default_factory=dict)
    ranges: dict[str, None] = field(default_factory=dict)
    present: dict[str, None] = field(default_factory=dict)
    """Columns that must not be NULL: the widest ranges, so they are told last."""
    prefixes: dict[str, None] = field(default_factory=dict)
    group: tuple[str, ...] = ()
    order: tuple[Sort, ...] = ()
    limited: bool = False
    distinct: tuple[str, ...] = ()
    arms: dict[tuple[str, ...], None] = field(default_factory=dict)
    all: dict[str, None] = field(default_factory=dict)
    defeats: dict[Defeat, None] = field(default_factory=dict)

    def done(self, in_order: Iterable[str]) -> TableUse:
        """``in_order``: the table's columns; all that are named are told in this order."""
        return TableUse(
            table=self.table,
            alias=self.alias,
            equal=tuple(self.equal),
            joins=tuple(self.joins),
            ranges=tuple({**self.ranges, **self.present}),
            group=self.group,
            order=self.order,
            limited=self.limited,
            distinct=self.distinct,
            arms=tuple(self.arms),
            all=tuple(name for name in in_order if name in self.all),
            defeats=tuple(self.defeats),
            prefixes=tuple(self.prefixes),
        )


class Reader:
    """Reads one statement, SELECT by SELECT."""

    def __init__(self, tree: exp.Expr, names: Names) -> None:
        self._names = names
        self._dialect = names.dialect
        self._tree = tree
        self._uses: dict[Source, _Use] = {}
        query = as_query(tree)
        self._all = Statement(query if query is not None else exp.select("1"), names)
        self._block: Block
        """The one that is being read."""
        self._only: frozenset[Source] | None = None
        """The sources whose rows the present condition chooses; None for all."""

    def predicates(self) -> Predicates:
        """What the statement asks of each table that it names, and which it writes."""
        blocks = self._all.blocks
        sources = [source for block in blocks for source in block.sources.values()]
        self._uses = {source: _Use(source.table, source.alias) for source in sources if source.table is not None}
        for block in blocks:
            self._read(block)
        written = (found for found in map(self._written, [self._tree, *self._all.writes]) if found is not None)
        uses = tuple(use.done(self._names.types[use.table]) for use in self._uses.values())
        return Predicates(uses, next(written, None))

    def targets(self) -> dict[int, tuple[str, str]]:
        """Table and column that the value of each mark is compared with, or stored in."""
        found = {}
        for literal in self._tree.find_all(exp.Literal):
            mark = mark_of(literal)
            base = self._target(literal) if mark is not None else None
            if mark is not None and base is not None:
                found[mark] = base
        return found

    def _target(self, literal: exp.Literal) -> tuple[str, str] | None:
        inner: exp.Expr = literal
        outer = literal.parent
        while isinstance(outer, AROUND_VALUES):
            inner, outer = outer, outer.parent
        if isinstance(outer, exp.Values):
            return self._stored(literal, inner, outer)
        if isinstance(outer, exp.Escape) or not isinstance(outer, (*COMPARISONS, *LIKES, exp.In, exp.Between, exp.Is)):
            return None
        opposite = outer.expression if outer.this is inner else outer.this
        return self._opposite(opposite, literal, inner)

    def _opposite(self, node: exp.Expr, literal: exp.Expr, inner: exp.Expr) -> tuple[str, str] | None:
        """The table and column on the other side; of rows, in the same place."""
        node = bare(node)
        if isinstance(node, exp.Tuple):
            place = _place_in(inner, literal)
            if place is None or place >= len(node.expressions):
                return None
            node = bare(node.expressions[place])
        while isinstance(node, exp.Lower | exp.Upper | exp.Cast | exp.Collate | exp.Paren | exp.Date):
            node = node.this
        base = next(iter(self._all.bases(node, "name")), None)
        return (str(base.source.table), base.column) if base is not None else None

    def _stored(self, literal: exp.Expr, row: exp.Expr, values: exp.Values) -> tuple[str, str] | None:
        """The column of an INSERT's row."""
        insert = values.parent
        target = target_of(insert) if insert is not None else None
        table = self._names.table(target) if target is not None else None
        place = _place_in(row, literal)
        if table is None or place is None or insert is None:
            return None
        named = insert.this.expressions if isinstance(insert.this, exp.Schema) else None
        folded = [self._names.fold(one) for one in named] if named else list(self._names.columns(table))
        column = self._names.column(table, folded[place]) if place < len(folded) else None
        return (table, column) if column is not None else None

    def _read(self, block: Block) -> None:
        self._block = block
        self._name_columns()
        for pair in block.pairs:
            self._only = pair.only
            self._joined(pair.one, pair.other)
        for condition in block.conditions:
            self._only = condition.only
            self._condition(condition.node)
        self._group()
        self._distinct()
        self._order()
        self._extreme()

    # Which columns are named at all.

    def _name_columns(self) -> None:
        for column in self._all.columns_of(self._block):
            self._name(self._all.resolve(column))
        for pair in self._block.pairs:
            self._name(pair.one)
            self._name(pair.other)
        for expression in () if self._block.is_existence_test else self._block.node.expressions:
            for source in self._all.starred(expression, self._block) or ():
                if source.table is not None:
                    self._uses[source].all.update(dict.fromkeys(self._names.types[source.table]))

    def _name(self, ref: Ref | None) -> None:
        if ref is not None and ref.source.table is not None:
            column = self._names.column(ref.source.table, ref.name)
            if column is not None:
                self._uses[ref.source].all[column] = None

    # Conditions that have to hold.

    def _condition(self, node: exp.Expr) -> None:
        node = bare(node)
        if isinstance(node, exp.And):
            for side in _flat(node, exp.And):
                self._condition(side)
        elif isinstance(node, exp.Or):
            self._either(node)
        elif isinstance(node, exp.Not):
            self._negated(bare(node.this))
        elif _is_negated(node):
            self._excluded(node)
        else:
            self._test(node)

    def _test(self, node: exp.Expr) -> None:
        if isinstance(node, exp.Escape):
            self._condition(node.this)
        elif isinstance(node, COMPARISONS):
            self._comparison(node)
        elif isinstance(node, exp.In):
            self._in(node)
        elif isinstance(node, exp.Between):
            self._sides(node, exp.GTE, bare(node.this), bare(node.args["low"]))
            self._sides(node, exp.LTE, bare(node.this), bare(node.args["high"]))
        elif isinstance(node, LIKES):
            self._like(node)
        elif isinstance(node, exp.Is):
            self._is(node)
        elif isinstance(node, exp.Column):
            self._flag(node)

    def _flag(self, node: exp.Expr, *, is_true: bool = True) -> None:
        """A bare column: a boolean, or a number that must not be zero."""
        if self._dialect == "postgresql":
            self._note("equal", node)
        elif self._dialect != "sqlite":
            self._note("ranges" if is_true else "equal", node)

    def _negated(self, inner: exp.Expr) -> None:
        opposite = OPPOSITES.get(type(inner))
        if opposite is not None and self._dialect == "sqlite":  # which does not turn them around
            self._excluded(inner)
        elif opposite is not None:
            self._sides(inner, opposite, bare(inner.this), bare(inner.expression))
        elif isinstance(inner, exp.Not):
            self._condition(inner.this)
        elif isinstance(inner, exp.Or):
            for side in _flat(inner, exp.Or):
                self._negated(side)
        elif isinstance(inner, exp.Column):
            self._flag(inner, is_true=False)
        elif isinstance(inner, EXCLUDING):
            self._excluded(inner)

    def _excluded(self, node: exp.Expr) -> None:
        """A condition that says what is not wanted."""
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            self._note("present", node.this)
            return
        side = bare(node.this.this if isinstance(node, exp.Escape) else node.this)
        if isinstance(side, exp.Column):
            self._defeat(side, node.parent if isinstance(node.parent, exp.Not) else node, "negation", None)
        if isinstance(node, exp.In) and node.args.get("query") and self._dialect != "postgresql":
            self._look_up_answers(node)

    def _comparison(self, node: exp.Expr) -> None:
        left, right = bare(node.this), bare(node.expression)
        if isinstance(node, exp.NEQ | exp.NullSafeNEQ):
            if not self._all.read_by(right, self._block):
                self._excluded(node)
        elif isinstance(left, exp.Tuple) and isinstance(right, exp.Tuple):
            self._rows(node, left, right)
        elif not (isinstance(node, exp.NullSafeEQ) and self._dialect == "postgresql"):
            self._sides(node, type(node), left, right)

    def _sides(self, node: exp.Expr, operator: type[exp.Expr], left: exp.Expr, right: exp.Expr) -> None:
        """Either side may be the one that an index finds."""
        is_equal = issubclass(operator, EQUALS)
        if is_equal and isinstance(left, exp.Column) and isinstance(right, exp.Column):
            self._joined(left, right, node)
            return
        for side, other in ((left, right), (right, left)):
            is_one_of = isinstance(other, exp.Any) and is_equal
            if is_one_of or not isinstance(other, exp.Any | exp.All):
                self._side(node, is_equal, side, other, self._all.read_by(other, self._block))

    def _side(
        self, node: exp.Expr, is_equal: bool, side: exp.Expr, other: exp.Expr, read_by_other: set[Source]
    ) -> None:
        if not isinstance(side, exp.Column):
            self._hidden(node, side, read_by_other)
            return
        ref = self._all.resolve(side)
        if ref is None or ref.source in read_by_other:
            return
        if not read_by_other:
            self._note("equal" if is_equal else "ranges", side, other, node)
        elif not _holds_query(other):  # what depends on other rows and on a query is known too late
            if is_equal:
                self._add_joins(side, None)
            else:
                self._note("ranges", side)

    def _joined(self, one: exp.Expr | Ref, other: exp.Expr | Ref, node: exp.Expr | None = None) -> None:
        """Each side may be looked up by the other."""
        refs = [self._all.ref(side) for side in (one, other)]
        if refs[0] is not None and refs[1] is not None and refs[0].source is refs[1].source:
            return
        for side, opposite in ((one, other), (other, one)):
            self._add_joins(side, next(iter(self._all.bases(opposite, "name")), None), node)

    def _add_joins(self, side: exp.Expr | Ref, other: Base | None, node: exp.Expr | None = None) -> None:
        if not self._is_chosen(self._all.ref(side)):
            return
        for base in self._all.bases(side, "join"):
            if node is not None and other is not None and self._is_converted(base, other):
                self._add_defeat(base, node, "cast", defeats.of_joined(base.column, other.column))
            else:
                self._join(base, other)

    def _join(self, base: Base, other: Base | None) -> None:
        table = self._uses[other.source].table if other else ""
        self._uses[base.source].joins[Join(base.column, table, other.column if other else "")] = None

    def _is_chosen(self, ref: Ref | None) -> bool:
        """Whether the present condition chooses rows of this source: one of the SELECT's own that no outer join keeps,
        or one around it to which only the existence of these rows matters."""
        if ref is None:
            return False
        block = self._block
        while ref.source.block is not block:
            if not block.is_semi or block.parent is None:
                return False
            block = block.parent
        return self._only is None or ref.source in self._only or block is not self._block

    def _is_converted(self, base: Base, other: Base) -> bool:
        own, its = (defeats.kind_of(self._type(side)) for side in (base, other))
        return defeats.is_converted(own, its, self._dialect)

    def _type(self, base: Base) -> str:
        return self._names.types[self._uses[base.source].table][base.column]

    def _rows(self, node: exp.Expr, left: exp.Tuple, right: exp.Tuple) -> None:
        pairs = [(bare(one), bare(other)) for one, other in zip(left.expressions, right.expressions, strict=False)]
        if isinstance(node, EQUALS) or self._dialect in ("postgresql", "sqlite"):
            for one, other in pairs:
                self._sides(node, type(node), one, other)
        elif pairs and isinstance(pairs[0][0], exp.Column):
            first = pairs[0][0].name
            advice = f"compare {first} alone, too: {first} at or beyond its bound, AND the rows as they are"
            self._defeat(pairs[0][0], node, "row values", advice)

    def _in(self, node: exp.In) -> None:
        if node.args.get("query"):
            self._look_up_column(node)
            self._look_up_answers(node)
            return
        side = bare(node.this)
        read = set[Source]().union(*(self._all.read_by(value, self._block) for value in node.expressions))
        first = bare(node.expressions[0]) if node.expressions else exp.Null()
        for place, one in enumerate(_of_tuple(side)):
            values = _of_tuple(first)
            value = values[place] if place < len(values) else first
            self._side(node, True, bare(one), exp.Null() if isinstance(side, exp.Tuple) else bare(value), read)

    def _look_up_column(self, node: exp.In) -> None:
        """``a IN (SELECT b ...)``: rows are found by what the query answers, if that does not depend on them."""
        inner = self._inner(node)
        if inner is None or any(self._all.read_from_outside(one.node, self._block) for one in inner.blocks):
            return
        for place, side in enumerate(_of_tuple(bare(node.this))):
            named = next(iter(self._all.answered(inner, place, "name")), None)
            if isinstance(bare(side), exp.Column):
                self._add_joins(bare(side), named)
            else:
                self._hidden(node, side, set())

    def _look_up_answers(self, node: exp.In) -> None:
        """``a IN (SELECT b ...)``: whether there is such a row is looked up."""
        inner = self._inner(node)
        for place, side in enumerate(_of_tuple(bare(node.this)) if inner is not None else ()):
            other = next(iter(self._all.bases(bare(side), "name")), None)
            for base in self._all.answered(inner, place, "join"):  # type: ignore[arg-type]  # no inner, no sides
                self._join(base, other)

    def _inner(self, node: exp.In) -> Query | None:
        query = node.args["query"]
        while isinstance(query, exp.Subquery | exp.Paren):
            query = query.this
        return self._block.nested.get(id(query))

    def _is(self, node: exp.Is) -> None:
        if isinstance(node.expression, exp.Null):
            self._side(node, True, bare(node.this), node.expression, set())
        elif isinstance(node.expression, exp.Boolean):
            if self._dialect == "postgresql":
                self._note("equal", node.this)
        elif self._dialect == "sqlite":
            self._sides(node, exp.EQ, bare(node.this), bare(node.expression))

    def _like(self, node: exp.Expr) -> None:
        side, pattern = bare(node.this), bare(node.expression)
        if isinstance(pattern, exp.Any | exp.All) or self._all.read_by(pattern, self._block):
            return
        begins = defeats.starts_with(pattern, "*?[" if isinstance(node, exp.Glob) else "%_")
        whole = node.parent if isinstance(node.parent, exp.Escape) else node
        if begins is False:
            for column in [found for found in own_nodes(side) if isinstance(found, exp.Column)][:1]:
                self._defeat(column, whole, "leading wildcard", defeats.of_contained(self._dialect))
        elif not isinstance(side, exp.Column):
            self._hidden(whole, side, set())
        elif isinstance(node, exp.ILike):
            self._defeat(side, whole, "function", defeats.of_ilike(side.name))
        else:
            self._note("ranges", side)
            if isinstance(node, exp.Like):
                self._note("prefixes", side)

    # What is noted of a column.

    def _note(self, what: str, column: exp.Expr, value: exp.Expr | None = None, node: exp.Expr | None = None) -> None:
        """The column is among the ``what`` of its table, unless comparing it with the value converts it."""
        column = bare(column)
        if not isinstance(column, exp.Column) or not self._is_chosen(self._all.resolve(column)):
            return
        kind = defeats.kind_of_value(value) if value is not None else None
        for base in self._all.bases(column, "filter"):
            if node is not None and defeats.is_converted(defeats.kind_of(self._type(base)), kind, self._dialect):
                self._convert(base, node)
            else:
                getattr(self._uses[base.source], what)[base.column] = None

    def _convert(self, base: Base, node: exp.Expr) -> None:
        advice = defeats.of_converted(base.column, defeats.kind_of(self._type(base)), self._dialect)
        self._add_defeat(base, node, "cast", advice)

    def _hidden(self, node: exp.Expr, side: exp.Expr, read_by_other: set[Source]) -> None:
        """A column under a function, a conversion or arithmetic, all of whose columns are one table's."""
        columns = [found for found in own_nodes(side) if isinstance(found, exp.Column)]
        bases = [self._all.bases(column, "filter") for column in columns]
        sources = {base.source for found in bases for base in found}
        if len(sources) != 1 or not all(bases) or sources & read_by_other or not _is_plain_expression(side):
            return
        if not all(self._is_chosen(self._all.resolve(column)) for column in columns):
            return
        names = {self._names.fold(column.this): found[0].column for column, found in zip(columns, bases, strict=True)}
        base = bases[0][0]
        prefix = isinstance(node, exp.Like | exp.Escape)
        expression = None
        if not (prefix and self._dialect == "sqlite"):  # which looks up the beginnings of columns only
            expression = defeats.expression_of(side, self._uses[base.source].table, self._names, names)
        rewrite = defeats.rewrite_of(side, base.column, self._dialect, prefix=prefix)
        if rewrite is None and expression is not None:
            rewrite = f"an index on the expression {expression}"
        self._add_defeat(base, node, defeats.trouble_of(side), rewrite, expression, prefix=prefix)

    def _defeat(self, column: exp.Expr, node: exp.Expr, trouble: Trouble, rewrite: str | None) -> None:
        for base in self._all.bases(column, "filter"):
            self._add_defeat(base, node, trouble, rewrite)

    def _add_defeat(
        self,
        base: Base,
        node: exp.Expr,
        trouble: Trouble,
        rewrite: str | None,
        expression: str | None = None,
        *,
        prefix: bool = False,
    ) -> None:
        found = Defeat(base.column, trouble, defeats.hidden(node, self._dialect), rewrite, expression, prefix)
        self._uses[base.source].defeats[found] = None

    # OR.

    def _either(self, node: exp.Or) -> None:
        """What all arms have in common has to hold; of the rest each arm needs an index of its own."""
        arms = [_flat(arm, exp.And) for arm in _flat(node, exp.Or)]
        common = [part for part in arms[0] if all(part in arm for arm in arms[1:])]
        for part in common:
            self._condition(part)
        rests = [[part for part in arm if part not in common] for arm in arms]
        if all(rests):
            self._arms(rests, node)

    def _arms(self, arms: list[list[exp.Expr]], node: exp.Or) -> None:
        asked = [self._asked(arm) for arm in arms]
        read = set[Source]().union(*(self._all.read_by(part, self._block) for arm in arms for part in arm))
        may = len(read) == 1 or self._dialect == "postgresql"  # which takes from mixed arms what one table can answer
        for source in dict.fromkeys(source for arm in asked for source in arm):
            own = [arm[source] for arm in asked if source in arm]
            if may and len(own) == len(asked):
                self._serve(self._uses[source], own)
            else:
                self._cannot(source, own, node, is_alone=len(read) == 1)

    def _serve(self, use: _Use, arms: list[_Use]) -> None:
        """Every arm has columns for an index; the same single one in all of them is a list, or a range."""
        columns = [tuple({**arm.equal, **arm.ranges}) for arm in arms]
        if len(set(columns)) == 1 and len(columns[0]) == 1:
            is_list = not any(arm.ranges for arm in arms)
            (use.equal if is_list else use.ranges)[columns[0][0]] = None
        else:
            use.arms.update(dict.fromkeys(columns))

    def _cannot(self, source: Source, own: list[_Use], node: exp.Or, is_alone: bool) -> None:
        advice = defeats.ONE_SIDE_BARE if is_alone else defeats.SIDES_APART
        for column in dict.fromkeys(name for use in own for name in (*use.equal, *use.ranges)):
            self._add_defeat(Base(source, column), node, "or", advice)

    def _asked(self, arm: Iterable[exp.Expr]) -> dict[Source, _Use]:
        """What one arm asks on its own; conditions in it that no index serves are noted as ever."""
        with self._apart() as found:
            for part in arm:
                self._condition(part)
        for source, use in found.items():
            self._uses[source].defeats.update(use.defeats)
        return {source: use for source, use in found.items() if use.equal or use.ranges}

    @contextmanager
    def _apart(self) -> Iterator[dict[Source, _Use]]:
        """What is noted meanwhile is kept from the rest."""
        kept = self._uses
        self._uses = {source: _Use(use.table, use.alias) for source, use in kept.items()}
        try:
            yield self._uses
        finally:
            self._uses = kept

    # Order.

    def _sorted(self, nodes: Iterable[exp.Expr | Ref | None]) -> list[Base]:
        """The columns, if all are one table's where it is named once; otherwise none."""
        found = []
        for node in nodes:
            bases = self._all.bases(node, "sort")
            if len(bases) != 1:
                return []
            found += bases
        return found if len({base.source for base in found}) == 1 else []

    def _meaning(self, node: exp.Expr, column_first: bool) -> exp.Expr | Ref | None:
        """What a key of GROUP BY or ORDER BY stands for."""
        node = bare(node)
        if column_first and isinstance(node, exp.Column) and self._all.resolve(node) is not None:
            return node
        return self._block.at_position(node) or self._all.named_output(self._block, node) or node

    def _group(self) -> None:
        group = self._block.node.args.get("group")
        if group and not any(group.args.get(kind) for kind in ("rollup", "cube", "grouping_sets")):
            bases = self._sorted(self._meaning(key, column_first=True) for key in group.expressions)
            if bases:
                self._uses[bases[0].source].group = _columns(bases)

    def _distinct(self) -> None:
        distinct, node = self._block.distinct, self._block.node
        if distinct is None or node.args.get("group"):
            return
        on = distinct.args.get("on")
        keys = _of_tuple(on) if on is not None else [expression.unalias() for expression in node.expressions]
        bases = self._sorted(bare(key) for key in keys)
        if bases:
            self._uses[bases[0].source].distinct = _columns(bases)

    def _order(self) -> None:
        order = self._block.node.args.get("order")
        ordered = order.expressions if order else self._window_order()
        bases = self._sorted(self._meaning(one.this, column_first=False) for one in ordered)
        sorts = [self._sort(base, one) for base, one in zip(bases, ordered, strict=False)]
        known = dict.fromkeys(sort for sort in sorts if sort is not None)
        if not bases or None in sorts or (self._block.is_grouped and not self._is_by_group(bases)):
            return
        use = self._uses[bases[0].source]
        use.order = tuple(known)
        use.limited = order is not None and self._block.is_limited

    def _is_by_group(self, bases: list[Base]) -> bool:
        return {base.column for base in bases} <= set(self._uses[bases[0].source].group)

    def _sort(self, base: Base, ordered: exp.Ordered) -> Sort | None:
        """None for an order that no index of this database has."""
        descending, nulls_first = bool(ordered.args.get("desc")), bool(ordered.args.get("nulls_first"))
        usual = descending if self._dialect == "postgresql" else not descending
        if nulls_first == usual:
            return Sort(base.column, descending)
        return Sort(base.column, descending, nulls_first) if self._dialect == "postgresql" else None

    def _window_order(self) -> list[exp.Ordered]:
        """The order that the only window of a SELECT wants its rows in, where the database makes use of one."""
        windows = [node for node in self._block.projected() if isinstance(node, exp.Window)]
        if len(windows) != 1 or self._dialect in ("mysql", "mariadb"):
            return []
        nulls_first = self._dialect != "postgresql"
        keys = [exp.Ordered(this=key, nulls_first=nulls_first) for key in windows[0].args.get("partition_by") or ()]
        order = windows[0].args.get("order")
        return [*keys, *(order.expressions if order else ())]

    def _extreme(self) -> None:
        """The least or greatest of a column is the first in its order."""
        node = self._block.node
        outputs = [bare(expression.unalias()) for expression in node.expressions]
        if node.args.get("group") or not outputs or not all(isinstance(one, exp.Min | exp.Max) for one in outputs):
            return
        bases = self._sorted(bare(one.this) for one in outputs)
        if len(set(bases)) == 1:
            use = self._uses[bases[0].source]
            use.order, use.limited = (Sort(bases[0].column, isinstance(outputs[0], exp.Max)),), True

    # What is written.

    def _written(self, node: exp.Expr) -> Written | None:
        target = target_of(node)
        table = self._names.table(target) if target is not None else None
        if table is None:
            return None
        if isinstance(node, exp.Update):
            return Written(table, "UPDATE", tuple(self._set_by(node, table)))
        return Written(table, "INSERT" if isinstance(node, exp.Insert) else "DELETE", tuple(self._names.types[table]))

    def _set_by(self, node: exp.Update, table: str) -> Iterator[str]:
        for one in node.expressions:
            column = self._names.column(table, self._names.fold(bare(one.this).this)) if _sets(one) else None
            if column is not None:
                yield column


def _sets(node: exp.Expr) -> bool:
    return isinstance(node, exp.EQ) and isinstance(bare(node.this), exp.Column)


def _place_in(row: exp.Expr, literal: exp.Expr) -> int | None:
    """Where in a row, or in the first of a list of rows, the value stands."""
    node: exp.Expr | None = literal
    while node is not None and not isinstance(node.parent, exp.Tuple):
        if node is row:
            return None
        node = node.parent
    return node.index if node is not None else None


def _of_tuple(node: exp.Expr) -> Sequence[exp.Expr]:
    return node.expressions if isinstance(node, exp.Tuple) else [node]


def _flat(node: exp.Expr, kind: type[exp.Expr]) -> list[exp.Expr]:
    """The operands of a chain of ANDs, or ORs."""
    found: list[exp.Expr] = []
    stack = [node]
    while stack:
        node = bare(stack.pop())
        if isinstance(node, kind):
            stack += [node.expression, node.this]
        else:
            found.append(node)
    return found


def _is_negated(node: exp.Expr) -> bool:
    inner = node.this if isinstance(node, exp.Escape) else node
    return bool(inner.args.get("negate"))


def _holds_query(node: exp.Expr) -> bool:
    return any(isinstance(found, exp.Select | exp.SetOperation) for found in own_nodes(node))


def _is_plain_expression(node: exp.Expr) -> bool:
    return not any(isinstance(found, exp.Select | exp.SetOperation | exp.AggFunc) for found in own_nodes(node))


def _columns(bases: Iterable[Base]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(base.column for base in bases))
