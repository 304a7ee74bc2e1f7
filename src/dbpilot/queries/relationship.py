"""Which ORM relationship is being loaded lazily?"""

from typing import Any

from sqlalchemy.engine import ExecutionContext


def lazy_relationship(context: ExecutionContext) -> str | None:
    """``User.addresses`` when the statement loads that relationship of one object; None when it is no lazy load.

    SQLAlchemy says so in the options of the statement, under private names: where they change, there is no name.
    """
    options: Any = context.execution_options.get("_sa_orm_load_options")
    if getattr(options, "_lazy_loaded_from", None) is None:
        return None
    statement: Any = context.invoked_statement
    path = getattr(getattr(statement, "_compile_options", None), "_current_path", None)
    relationship = getattr(path, "prop", None) or (path[-1] if path else None)
    key, parent = getattr(relationship, "key", None), getattr(relationship, "parent", None)
    return f"{parent.class_.__name__}.{key}" if key and parent is not None else None
