"""What Alembic runs: the pending migrations, on the connection that `migrations.upgrade` gives it."""

from alembic import context

from tasks.store import schema_drift, schema_serving, schema_versions  # noqa: F401 -- tables of the metadata
from tasks.store.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
context.run_migrations()
