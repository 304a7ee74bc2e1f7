"""Alembic's entry: brings the history's tables to the version that this dbpilot needs, on the connection handed in."""

from alembic import context

from dbpilot.history.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="dbpilot_schema_version",  # the history may share a database with an application that uses Alembic
)
with context.begin_transaction():
    context.run_migrations()
