"""Changes to the store's schema, applied by Alembic from `engine.open_store` and never by hand."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from tasks.core.errors import SpecError


def upgrade(connection: Connection) -> None:
    """Bring the store behind `connection` to the newest schema, inside the caller's transaction.

    Raises:
        SpecError: when the store was migrated by a newer version of this code.
    """
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as err:
        raise SpecError(
            "a store whose schema this code does not know",
            "a store of this version or older",
            "update the code, or point EVERGREEN_STORE at another store",
        ) from err


def head() -> str:
    """Return the newest revision among the migration files."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
