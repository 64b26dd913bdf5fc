"""Alembic runs this to take steps: on the connection, and in the transaction, of `storage/migrate.py`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
