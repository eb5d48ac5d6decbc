"""Fresh stores for tests, on either database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.engine import Engine

from tasks.settings import Settings
from tasks.store.engine import close_stores, open_store

BOTH = ("sqlite", "postgres")


@contextmanager
def fresh_url(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of a store that does not exist yet, and clean up after it."""
    if kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.db'}"
        close_stores()
        return
    server = sa.make_url(request.getfixturevalue("postgres_server"))
    name = f"store_{uuid4().hex[:8]}"  # a schema of its own: made far quicker than a database
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    own = server.update_query_dict({"options": f"-csearch_path={name}"})
    yield own.render_as_string(hide_password=False)
    close_stores()
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")
    admin.dispose()


@contextmanager
def fresh_store(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Give an empty store."""
    with fresh_url(kind, request, tmp_path) as url:
        yield open_store(place(url, tmp_path))


def place(url: str, tmp_path: Path) -> Settings:
    """Return settings whose store is at `url`."""
    return Settings(state_dir=tmp_path / "state", store=SecretStr(url), threads=1)
