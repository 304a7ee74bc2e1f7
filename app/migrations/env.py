"""What Alembic runs: the steps, on the connection that :mod:`app.migrate` hands over, or on the configured database."""

from alembic import context
from sqlalchemy import Connection

from app import migrate
from app.common.infra.database.config.database_config import engine
from app.market.models import Symbol


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Symbol.metadata,
        render_as_batch=True,  # SQLite changes a constraint only by copying its table
        transactional_ddl=connection.dialect.name in ("sqlite", "postgresql"),
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:  # the `alembic` command itself, when a developer writes the next step
    with migrate.migrating(engine) as connection:
        run(connection)
