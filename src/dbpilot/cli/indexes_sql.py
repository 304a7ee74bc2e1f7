"""Steps as text to be reviewed and executed by somebody else: statements, or an Alembic revision."""

from collections.abc import Iterable, Iterator, Sequence

from dbpilot.dialects.catalog import Key
from dbpilot.dialects.whatif import NewIndex
from dbpilot.indexes.suggestions import Suggestion


def statements(steps: Iterable[Suggestion]) -> Iterator[str]:
    """Each step with its reason before it and its undo after it, as comments; so are the statements that somebody has
    to look at first."""
    for step in steps:
        yield from _comment(f"{step.id}: {step.reason}")
        yield from (line for one in step.evidence for line in _comment(one))
        if step.waits_for:
            yield from _comment(f"only once {step.waits_for} is there")
        if step.safe:
            yield f"{step.ddl};"
        else:
            yield from _comment(f"look at it first: {step.ddl};")
        yield from _comment(_undo(step))
        yield ""


def _undo(step: Suggestion) -> str:
    if step.act == "rebuild":
        return "there is nothing to undo: the index stays what it is"
    return f"undo: {step.undo};" if step.undo else "there is no undo: its definition is not known"


def _comment(text: str) -> Iterator[str]:
    """Nothing of it is executed, whatever lines it has."""
    return (f"-- {line}" for line in text.splitlines())


def alembic(steps: Sequence[Suggestion], dialect: str, schema: str | None) -> Iterator[str]:
    """The body of a revision that takes the safe steps, and goes back."""
    taken = [step for step in steps if step.safe and step.undo is not None and step.act != "rebuild"]
    yield "from alembic import op"
    yield ""
    yield ""
    yield "def upgrade() -> None:"
    yield from _body([_forth(step, dialect, schema) for step in taken], dialect)
    yield ""
    yield ""
    yield "def downgrade() -> None:"
    yield from _body([_back(step, dialect, schema) for step in reversed(taken)], dialect)
    left = [step for step in steps if step not in taken]
    if left:
        yield ""
        yield ""
        yield from (f"# {line.removeprefix('-- ')}" for line in statements(left) if line)


def _body(calls: Sequence[tuple[str, str]], dialect: str) -> Iterator[str]:
    """CONCURRENTLY cannot be inside of a transaction."""
    indent = "    "
    if dialect == "postgresql" and calls:
        yield f"{indent}with op.get_context().autocommit_block():"
        indent *= 2
    for reason, call in calls:
        yield from (f"{indent}# {line}" for line in reason.splitlines())
        yield f"{indent}{call}"
    if not calls:
        yield f"{indent}pass"


def _forth(step: Suggestion, dialect: str, schema: str | None) -> tuple[str, str]:
    if step.act == "create" and step.new is not None and _is_plain(step.new):
        return step.reason, _created(step.new, step.name, dialect, schema)
    return step.reason, _executed(step.ddl) if step.act != "drop" else _dropped(step, dialect, schema)


def _back(step: Suggestion, dialect: str, schema: str | None) -> tuple[str, str]:
    reason = f"back: {step.act} {step.name}"
    return reason, _dropped(step, dialect, schema) if step.act == "create" else _executed(step.undo or "")


def _is_plain(index: NewIndex) -> bool:
    return all(key == Key(key.column) for key in index.keys)


def _created(index: NewIndex, name: str, dialect: str, schema: str | None) -> str:
    options = _options(dialect, schema)
    options += [f"postgresql_include={list(index.include)!r}"] if index.include else []
    options += ["unique=True"] if index.unique else []
    return f"op.create_index({', '.join([repr(name), repr(index.table), repr(list(index.columns)), *options])})"


def _dropped(step: Suggestion, dialect: str, schema: str | None) -> str:
    return f"op.drop_index({', '.join([repr(step.name), f'table_name={step.table!r}', *_options(dialect, schema)])})"


def _options(dialect: str, schema: str | None) -> list[str]:
    options = [f"schema={schema!r}"] if schema is not None else []
    return [*options, *(["postgresql_concurrently=True"] if dialect == "postgresql" else [])]


def _executed(statement: str) -> str:
    """Alembic would read a colon before a word as a parameter."""
    escaped = statement.replace(":", r"\:")
    return f"op.execute({escaped!r})"
