"""Bringing a store's schema to the newest, by the migrations in `db/migrations/versions`."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

from db._engine import Database
from searchspaces import StoreError

_LOCK = 7_236_190_485


def migrate(database: Database) -> None:
    """Run the migrations that are missing, in one transaction; of several starting at once one does it.

    Raises:
        StoreError: the store's schema is of a newer version than this software.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    if _current(database) == scripts.get_current_head():
        return
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        context = MigrationContext.configure(connection)
        current = context.get_current_revision()
        try:
            missing = list(scripts.iterate_revisions("head", current or "base"))
        except (CommandError, RevisionError) as error:
            raise StoreError(
                f"the store's schema is {current}, which this version does not know: run a newer version, "
                "or give another folder"
            ) from error
        with Operations.context(context):
            for script in reversed(missing):
                script.module.upgrade()
                context.stamp(scripts, script.revision)


def _current(database: Database) -> str | None:
    """The schema's revision, without taking the writers' lock."""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()
