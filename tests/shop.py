"""A shop's tables, and some hundred statements about them as SQLAlchemy writes them for each kind of database."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

METADATA = sa.MetaData()


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(name, METADATA, sa.Column("id", sa.Integer, primary_key=True), *columns)


countries = _table("countries", sa.Column("code", sa.CHAR(2), unique=True), sa.Column("name", sa.String(60)))
customers = _table(
    "customers",
    sa.Column("email", sa.String(120), unique=True, nullable=False),
    sa.Column("name", sa.String(80)),
    sa.Column("country_id", sa.ForeignKey("countries.id")),
    sa.Column("active", sa.Boolean),
    sa.Column("created", sa.DateTime),
    sa.Column("note", sa.Text),
    sa.Column("referred_by", sa.ForeignKey("customers.id")),
)
products = _table(
    "products",
    sa.Column("sku", sa.String(30), unique=True),
    sa.Column("title", sa.String(200)),
    sa.Column("price", sa.Numeric(10, 2)),
    sa.Column("details", sa.JSON),
)
orders = _table(
    "orders",
    sa.Column("customer_id", sa.ForeignKey("customers.id")),
    sa.Column("status", sa.String(20)),
    sa.Column("total", sa.Numeric(10, 2)),
    sa.Column("placed", sa.DateTime),
    sa.Column("Shipped On", sa.Date),
)
lines = sa.Table(
    "order_lines",
    METADATA,
    sa.Column("order_id", sa.ForeignKey("orders.id"), primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("product_id", sa.ForeignKey("products.id")),
    sa.Column("quantity", sa.Integer),
    sa.Column("price", sa.Numeric(10, 2)),
)
reviews = _table(
    "reviews",
    sa.Column("product_id", sa.ForeignKey("products.id")),
    sa.Column("customer_id", sa.ForeignKey("customers.id")),
    sa.Column("stars", sa.SmallInteger),
    sa.Column("body", sa.Text),
    sa.Column("written", sa.DateTime),
)
categories = _table(
    "categories", sa.Column("parent_id", sa.ForeignKey("categories.id")), sa.Column("name", sa.String(60))
)
product_categories = sa.Table(
    "product_categories",
    METADATA,
    sa.Column("product_id", sa.ForeignKey("products.id"), primary_key=True),
    sa.Column("category_id", sa.ForeignKey("categories.id"), primary_key=True),
)

DIALECTS: dict[str, sa.Dialect] = {
    "postgresql": postgresql.psycopg.dialect(),
    "mariadb": mysql.pymysql.dialect(),
    "sqlite": sqlite.pysqlite.dialect(),
}


def columns(dialect: str) -> dict[str, dict[str, str]]:
    """Types by column by table, as this database would write them."""
    made = DIALECTS[dialect]
    return {
        table.name: {column.name: column.type.compile(made) for column in table.columns}
        for table in METADATA.sorted_tables
    }


def compiled(statement: sa.Executable, dialect: str) -> str:
    """The text that goes to the driver."""
    return str(statement.compile(dialect=DIALECTS[dialect]))  # type: ignore[attr-defined]  # all of ours can


def statements() -> Iterator[sa.Executable]:
    """More than 200, each of another shape."""
    yield from _listings()
    yield from _joins()
    yield from _subqueries()
    yield from _derived()
    yield from _writes()


def _listings() -> Iterator[sa.Select[Any]]:
    """One table: conditions, orders and bounds of every kind, combined."""
    o = orders.c
    conditions: list[list[sa.ColumnElement[bool]]] = [
        [o.customer_id == 5],
        [o.status.in_(["new", "paid"]), o.placed > sa.func.now()],
        [o.status == "new", o.total.between(1, 2)],
        [sa.or_(o.status == "new", o.customer_id == 5)],
        [sa.or_(sa.and_(o.status == "new", o.total > 5), o["Shipped On"].is_(None))],
        [o.status.like("ne%"), o.customer_id.is_not(None)],
        [o.status != "new", sa.not_(o.total > 7)],
        [sa.tuple_(o.placed, o.id) > sa.tuple_(sa.literal(1), sa.literal(2))],
        [sa.func.lower(o.status) == "new", o.total + 1 < 5],
        [o.status.notin_(["a"]), o.status.contains("x"), o.status.startswith("y")],
    ]
    orders_by: list[list[Any]] = [
        [],
        [o.placed.desc(), o.id],
        [o.placed.desc(), o.id.desc()],
        [sa.func.lower(o.status)],
    ]
    for where, order, limited in product(conditions, orders_by, [False, True]):
        made = sa.select(orders).where(*where).order_by(*order)
        yield made.limit(20).offset(40) if limited else made
    for keys, counted in product([[o.status], [o.customer_id, o.status], [sa.func.lower(o.status)]], [o.id, o.total]):
        grouped = sa.select(*keys, sa.func.count(counted)).where(o.placed > sa.func.now()).group_by(*keys)
        yield grouped
        yield grouped.having(sa.func.count(counted) > 5).order_by(sa.func.count(counted).desc())
        yield grouped.order_by(keys[0]).limit(3)
        yield sa.select(*keys).distinct().where(o.total > 5)
    yield sa.select(sa.func.max(o.placed)).where(o.customer_id == 5)
    yield sa.select(sa.func.min(o.placed), sa.func.max(o.total))
    yield sa.select(o.id, sa.func.row_number().over(partition_by=o.customer_id, order_by=o.placed.desc()))
    yield sa.select(customers).where(customers.c.active).order_by(customers.c.created.desc().nulls_last())


def _joins() -> Iterator[sa.Select[Any]]:
    o, c, p = orders.c, customers.c, products.c
    joined = [
        orders.join(customers),
        orders.outerjoin(customers),
        lines.join(products).join(orders),
        lines.join(orders).join(customers).outerjoin(countries),
    ]
    for source, filtered, grouped in product(joined, range(4), [False, True]):
        tables = set(source._from_objects)
        table = orders if orders in tables else lines
        conditions = [
            [],
            [table.c[table.primary_key.columns.keys()[0]] == 4],
            [o.placed > sa.func.now()],
            [c.email == "x", sa.or_(o.status == "a", c.name == "b")],
        ][filtered]
        needed = {column.table for condition in conditions for column in _columns(condition)}
        if not needed <= tables:
            continue
        if grouped:
            yield (
                sa.select(o.status, sa.func.sum(o.total)).select_from(source).where(*conditions).group_by(o.status)
                if orders in tables
                else sa.select(sa.func.count()).select_from(source)
            )
        else:
            yield (
                sa.select(*sorted(tables, key=str)).select_from(source).where(*conditions).order_by(*table.primary_key)
            )
    parent, child = categories.alias("parent"), categories.alias()
    yield sa.select(child.c.name, parent.c.name).join_from(child, parent, child.c.parent_id == parent.c.id)
    yield (
        sa.select(child.c.name)
        .join_from(child, parent, child.c.parent_id == parent.c.id, isouter=True)
        .where(parent.c.name == "x")
    )
    friend = customers.alias("friend")
    for name in ("name", "email", "note"):
        yield (
            sa.select(friend.c.id)
            .join_from(customers, friend, friend.c.referred_by == c.id)
            .where(c[name] == friend.c[name], sa.func.upper(c.name) == "X")
            .order_by(friend.c.created)
            .limit(5)
        )
    yield sa.select(p.title).where(p.id == lines.c.product_id, lines.c.order_id == o.id, o.customer_id == 7)


def _columns(condition: Any) -> Iterator[sa.Column[Any]]:
    return (part for part in sa.sql.visitors.iterate(condition) if isinstance(part, sa.Column))


def _subqueries() -> Iterator[sa.Select[Any]]:
    o, c, r = orders.c, customers.c, reviews.c
    of_customer = sa.select(o.id).where(o.customer_id == c.id, o.status == "new")
    newest = sa.select(sa.func.max(o.placed)).where(o.customer_id == c.id).scalar_subquery()
    rich = sa.select(o.customer_id).group_by(o.customer_id).having(sa.func.sum(o.total) > 5)
    for test in (
        of_customer.exists(),
        ~of_customer.exists(),
        c.id.in_(sa.select(o.customer_id).where(o.total > 100)),
        c.id.notin_(sa.select(o.customer_id).where(o.total > 100)),
        c.id.in_(rich),
        c.created > newest,
        c.created == sa.select(sa.func.max(c.created)).scalar_subquery(),
        sa.or_(of_customer.exists(), c.name == "x"),
        sa.and_(of_customer.exists(), c.id.in_(sa.select(r.customer_id).where(r.stars == 5))),
    ):
        for order in ([], [c.created.desc()], [c.name, c.id]):
            yield sa.select(customers).where(test).order_by(*order)
            yield sa.select(sa.func.count(c.id)).where(test, c.country_id == 3)
    yield sa.select(c.id, newest.label("newest")).where(c.active.is_(True))


def _derived() -> Iterator[sa.Select[Any] | sa.CompoundSelect[Any]]:
    o, c, p = orders.c, customers.c, products.c
    recent = sa.select(o.id, o.customer_id, o.total.label("amount")).where(o.status == "new")
    summed = sa.select(o.customer_id, sa.func.sum(o.total).label("amount")).group_by(o.customer_id)
    for inner in (recent, summed, recent.limit(10), recent.distinct()):
        for made in (inner.subquery("inner_rows"), inner.cte("inner_rows"), inner.subquery()):
            yield sa.select(made).where(made.c.customer_id == 5)
            yield sa.select(c.name, made.c.amount).join(made, made.c.customer_id == c.id).where(made.c.amount > 5)
            yield sa.select(made).order_by(made.c.customer_id).limit(3)
    twice = recent.cte("twice")
    other = twice.alias()
    yield sa.select(twice.c.id).join(other, other.c.customer_id == twice.c.customer_id).where(twice.c.id == 5)
    tree = sa.select(categories.c.id).where(categories.c.parent_id.is_(None)).cte("tree", recursive=True)
    below = categories.alias("below")
    tree = tree.union_all(sa.select(below.c.id).join(tree, below.c.parent_id == tree.c.id))
    yield sa.select(tree)
    yield sa.select(o.id).where(o.status == "a").union(sa.select(lines.c.order_id).where(lines.c.product_id == 3))
    both = sa.union_all(sa.select(o.customer_id), sa.select(reviews.c.customer_id)).subquery()
    yield sa.select(both).where(both.c.customer_id == 3)
    tagged = sa.select(product_categories.c.product_id).join(categories).where(categories.c.name == "x").subquery()
    yield sa.select(p.title, p.price).where(p.id.in_(sa.select(tagged.c.product_id))).order_by(p.price)
    ranked = sa.select(
        o.id, sa.func.rank().over(partition_by=o.customer_id, order_by=o.placed).label("place")
    ).subquery()
    yield sa.select(ranked.c.id).where(ranked.c.place == 1)


def _writes() -> Iterator[sa.Executable]:
    o, c, v = orders.c, customers.c, reviews.c
    yield sa.insert(orders).values(customer_id=1, status="new", total=5)
    yield sa.insert(reviews).values([{"product_id": 1, "stars": 5}, {"product_id": 2, "stars": 4}])
    archived = sa.select(o.customer_id, o.status).where(o.placed < sa.func.now())
    yield sa.insert(orders).from_select(["customer_id", "status"], archived)
    for where in ([o.id == 5], [o.status == "new", o.placed < sa.func.now()], [o.customer_id.in_(sa.select(c.id))]):
        yield sa.update(orders).where(*where).values(status="old", total=o.total + 1)
        yield sa.delete(orders).where(*where)
    yield sa.update(orders).values(status=sa.select(c.name).where(c.id == o.customer_id).scalar_subquery())
    yield sa.delete(reviews).where(~sa.exists().where(c.id == v.customer_id))
