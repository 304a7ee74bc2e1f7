"""INSERT, UPDATE and DELETE, as the SELECT that finds their rows."""

from sqlglot import exp


def target_of(node: exp.Expr) -> exp.Table | None:
    """The table that the statement writes."""
    if isinstance(node, exp.Insert):
        target = node.this.this if isinstance(node.this, exp.Schema) else node.this
    elif isinstance(node, exp.Update):
        target = _target_of_update(node)
    elif isinstance(node, exp.Delete):
        target = _same_table(node.args["tables"][0], node.this) if node.args.get("tables") else node.this
    else:
        return None
    return target if isinstance(target, exp.Table) else None


def _target_of_update(node: exp.Update) -> exp.Expr | None:
    """Of several that are joined, the one of the first column that is set."""
    first = node.expressions[0].this if node.expressions else None
    if isinstance(first, exp.Column) and first.args.get("table") and node.this is not None:
        return _same_table(first.args["table"], node.this)
    return node.this  # type: ignore[no-any-return]  # SQLGlot's are untyped


def _same_table(name: exp.Expr, first: exp.Expr) -> exp.Expr:
    """Among a table and those joined to it, the one of this name or alias."""
    tables = [first, *(join.this for join in first.args.get("joins") or ())]
    return next((table for table in tables if table.alias_or_name == name.name), first)


def as_query(node: exp.Expr) -> exp.Query | None:
    """The SELECT that finds the rows which are written; None where no rows are looked for."""
    if isinstance(node, exp.Query):
        return node
    with_ = node.args.get("with_")
    if isinstance(node, exp.Insert):
        inner = node.args.get("expression")
        if not isinstance(inner, exp.Query):
            return None
        if with_ is not None and not inner.args.get("with_"):
            inner.set("with_", with_)
        return inner
    if isinstance(node, exp.Update):
        return _of_update(node)
    return _of_delete(node) if isinstance(node, exp.Delete) else None


def _of_update(node: exp.Update) -> exp.Select | None:
    if not isinstance(node.this, exp.Table):
        return None
    alias = node.this.args.get("alias")
    name = alias.this if alias else node.this.this
    for one in node.expressions:
        if isinstance(one.this, exp.Column) and not one.this.args.get("table") and not node.this.args.get("joins"):
            one.this.set("table", name.copy())
    from_ = node.args.get("from_")
    return _select(node, [node.this, *([from_.this] if from_ else [])], node.expressions)


def _of_delete(node: exp.Delete) -> exp.Select | None:
    using = node.args.get("using") or []
    if not isinstance(node.this, exp.Table):
        return None
    is_named_again = any(table.alias_or_name == node.this.alias_or_name for table in using)
    return _select(node, using if is_named_again else [node.this, *using], [])


def _select(node: exp.Expr, tables: list[exp.Expr], projected: list[exp.Expr]) -> exp.Select:
    """What is set stands where a SELECT answers columns: it is read, and chooses no rows."""
    found = exp.Select(expressions=projected or [exp.Literal.number(1)], from_=exp.From(this=tables[0]))
    found.set("joins", [exp.Join(this=table) for table in tables[1:]])
    for name in ("where", "order", "limit", "with_"):
        if node.args.get(name) is not None:
            found.set(name, node.args[name])
    return found
