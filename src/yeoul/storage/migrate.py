"""Bringing the tables up to date, by Alembic: `migrations/versions` has one file per step, forward only."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from ..errors import UnusableDatabase

__all__ = ["bring_up_to_date"]


def bring_up_to_date(connection: Connection) -> None:
    """All steps that are missing, in the connection's transaction: all of them are taken, or none.

    Raises UnusableDatabase for tables that a newer version of Yeoul has made.
    """
    config = Config()
    config.set_main_option("script_location", "yeoul.storage:migrations")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise UnusableDatabase(
            f"the database comes from a newer version of Yeoul (its tables are at step {current}): "
            "install that version, or set YEOUL_DATA_DIR to another folder"
        )
    command.upgrade(config, "head")
