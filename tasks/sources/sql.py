"""Rows from any SQLAlchemy URL: projection and filters pushed down, every value bound, streamed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from tasks.core.errors import FetchError, SpecError
from tasks.core.spec import ModelSpec
from tasks.core.spec_parts import Scalar
from tasks.sources.endless import read_endless_times
from tasks.sources.query_text import bare_query
from tasks.sources.shape import Tally, first_key, needed, require_identity, shaped, time_columns
from tasks.sources.sql_errors import told
from tasks.sources.times import DATE_LIKE, Kind, is_exact, kind_of, pushed
from tasks.sources.where import Clause, Where
from tasks.sources.wrapped import count_streamed

BATCH_ROWS = 50_000
_CONNECT_SECONDS = 10


class SqlSource:
    """A table or query of a database. Each call opens its own connection and closes it."""

    incremental = True

    def __init__(self, spec: ModelSpec, url: str, parameters: Mapping[str, Scalar] | None = None):
        self._spec = spec
        self._parameters = dict(spec.source.parameters if parameters is None else parameters)
        self._url = _parsed(url, spec)
        self._engine = _engine(self._url, spec)

    @property
    def skipped(self) -> Mapping[str, int]:
        """Nothing: a database has no files."""
        return {}

    @property
    def dialect(self) -> Mapping[str, object]:
        """Nothing: a database has no CSV."""
        return {}

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.dispose()

    @cached_property
    def _names(self) -> list[str]:
        with self._connection() as connection:
            names = list(
                connection.execute(sa.select(sa.text("*")).select_from(self._from([])).limit(0)).keys()
            )
        doubled = _doubled(names) & set(self._spec.columns)
        if doubled:
            raise FetchError(
                f"columns that stand more than once in the query: {', '.join(map(repr, sorted(doubled)))}",
                "each column name once",
                "name the columns in source.query instead of *",
                model=self._spec.name,
            )
        require_identity(names, self._spec, "a table")
        return names

    def schema(self) -> list[str]:
        """Return the names of all columns of the table or query."""
        return list(self._names)

    @cached_property
    def _kinds(self) -> dict[str, Kind | None]:
        """How each time column is kept, judged by a value of it: queries and SQLite declare no types."""
        kinds: dict[str, Kind | None] = {}
        present = [name for name in time_columns(self._spec) if name in self._names]
        with self._connection() as connection:
            for name in present:
                column = sa.column(name)
                found = connection.execute(
                    sa.select(column).select_from(self._from([name])).where(column.is_not(None)).limit(1)
                ).scalar()
                kinds[name] = None if found is None else kind_of(_array([found]).type, name, self._spec)
        return kinds

    def batches(self, columns: Sequence[str], where: Where) -> Iterator[pa.RecordBatch]:
        """Yield the matching rows in batches of at most `BATCH_ROWS`, over a server-side cursor."""
        read = needed(columns, where, self._names)
        statement = (
            sa.select(*[sa.column(name) for name in read])
            .select_from(self._from(read))
            .where(self._condition(where))
        )
        with self._connection() as connection:
            result = connection.execution_options(stream_results=True, yield_per=BATCH_ROWS).execute(
                statement
            )
            tally = Tally(self._spec)
            for rows in result.partitions():
                arrays = [_array(list(values)) for values in zip(*rows, strict=True)]
                batch = pa.RecordBatch.from_arrays(arrays, names=read)
                yield shaped(batch, columns, where, self._spec, self._names, tally=tally)
        tally.judge(lambda: self.count(()))

    def count(self, where: Where, distinct: str | None = None) -> int:
        """Return how many rows match; counted in the database where its bounds are exact."""
        if not self._exact(where):
            key = first_key(self._spec)
            return count_streamed(self, where, distinct or key, distinct=distinct is not None)
        counted = sa.func.count() if distinct is None else sa.func.count(sa.distinct(sa.column(distinct)))
        with self._connection() as connection:
            names = [distinct] if distinct else []
            return int(
                connection.execute(
                    sa.select(counted).select_from(self._from(names)).where(self._condition(where))
                ).scalar_one()
            )

    def checksum(self, where: Where) -> str | None:
        """Return the row count with the sum of the rows' hashes, where the database can make it itself.

        A sum does not depend on row order. Only Postgres has a hash for whole rows; None elsewhere.
        """
        if self._engine.dialect.name != "postgresql" or not self._exact(where):
            return None
        columns = needed(self._spec.columns, where, self._names)
        row = sa.cast(sa.func.row(*[sa.column(name) for name in columns]), sa.Text)
        total = sa.func.sum(sa.func.hashtextextended(row, 0))
        statement = sa.select(sa.func.count(), total).select_from(self._from(columns))
        with self._connection() as connection:
            rows, hashes = connection.execute(statement.where(self._condition(where))).one()
        return f"{rows}:{hashes}"

    def _from(self, columns: Sequence[str]) -> sa.FromClause:
        source = self._spec.source
        if source.query is None:
            schema, _, table = str(source.table).rpartition(".")
            return sa.table(table, schema=schema or None)
        query = sa.text(bare_query(source.query)).bindparams(**self._parameters)
        return query.columns(*[sa.column(name) for name in columns]).subquery("source")

    def _exact(self, where: Where) -> bool:
        clauses = [clause for part in where for clause in part]
        if any(self._kinds[clause.column] == "text" for clause in clauses):
            return False
        kinds = [self._kinds[clause.column] for clause in clauses if clause.op not in ("null", "unreadable")]
        return all(kind is not None and is_exact(kind, self._spec) for kind in kinds)

    def _condition(self, where: Where) -> sa.ColumnElement[bool]:
        if not where:
            return sa.true()
        return sa.or_(*[sa.and_(*[self._clause(clause) for clause in part]) for part in where])

    def _clause(self, clause: Clause) -> sa.ColumnElement[bool]:
        column: sa.ColumnClause[Any] = sa.column(clause.column)
        kind = self._kinds[clause.column]
        if kind is None:
            return sa.true()  # nothing is stored there yet: the exact filter decides
        if clause.op in ("null", "unreadable"):
            return _undated(column) if kind == "text" else column.is_(None)
        bound = pushed(clause, kind, self._spec)
        value = sa.bindparam(None, bound, type_=sa.DateTime(timezone=True) if kind == "aware" else None)
        compared = column >= value if clause.op == "ge" else column < value
        # Text that is no date sorts anywhere: let it through, so that it is refused, not lost.
        return sa.or_(compared, column.not_like(DATE_LIKE)) if kind == "text" else compared

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as err:
            # The database's own text may show a value, and Prefect would log it with the chain of causes.
            raise told(err, self._url, self._spec, self._parameters) from None


def _doubled(names: Sequence[str]) -> set[str]:
    """Return the names that several columns have; SQLite calls the second one name:1."""
    again = {name.rsplit(":", 1)[0] for name in names if re.search(r":\d+$", name)}
    return {name for name in names if names.count(name) > 1 or name in again}


def _undated(column: sa.ColumnClause[Any]) -> sa.ColumnElement[bool]:
    """Rows with text that may be no time: a few too many, which costs nothing, and not one too few.

    Only a day that its month does not have (2026-02-30) is missed; such a row is in no window either way.
    """
    year, month, day = (sa.func.substr(column, start, size) for start, size in ((1, 4), (6, 2), (9, 2)))
    dated = sa.and_(
        column.like(DATE_LIKE),
        year.between("0001", "9999"),
        month.between("01", "12"),
        day.between("01", "31"),
    )
    return sa.or_(column.is_(None), sa.not_(dated))


@contextmanager
def connection_to(spec: ModelSpec, url: str) -> Iterator[sa.Connection]:
    """Give a connection to the source's database for writing; what was written stands when the block ends.

    Raises:
        SourceUnavailable: when the database does not answer.
        FetchError: when it refuses.
    """
    parsed = _parsed(url, spec)
    engine = _engine(parsed, spec)
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as err:
        raise told(err, parsed, spec, {}) from None
    finally:
        engine.dispose()


def _parsed(url: str, spec: ModelSpec) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise SpecError(
            "a source.url that is no SQLAlchemy URL", "dialect+driver://user@host/database", model=spec.name
        ) from None  # the original message may hold the password
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed


def _engine(url: URL, spec: ModelSpec) -> sa.Engine:
    options: dict[str, Any] = {}
    if url.get_backend_name() == "postgresql":
        options = {"connect_timeout": _CONNECT_SECONDS}
    elif url.get_backend_name() == "sqlite":
        path = url.database
        if path and path != ":memory:" and not path.startswith("file:") and not Path(path).is_file():
            raise FetchError(  # connecting would create it, and then miss the table
                f"no database file {Path(path).name!r}",
                "an existing SQLite file",
                "correct source.url; relative paths start where the flow runs",
                model=spec.name,
            )
    try:
        engine = sa.create_engine(url, poolclass=NullPool, connect_args=options, hide_parameters=True)
    except (NoSuchModuleError, ModuleNotFoundError) as err:
        raise SpecError(
            f"source.url of kind {url.drivername!r}", "an installed SQLAlchemy driver", model=spec.name
        ) from err
    if url.drivername == "postgresql+psycopg":
        sa.event.listen(engine, "connect", lambda connection, _: read_endless_times(connection))
    return engine


def _array(values: list[Any]) -> pa.Array:
    """Return the values in one type; text where the column mixes types, for the contract to judge."""
    try:
        return pa.array(values)
    except (pa.ArrowException, TypeError, OverflowError):
        pass
    known = [value for value in values if value is not None]
    if all(isinstance(value, float | Decimal) for value in known) and not _are_whole(known):
        return pa.array([None if value is None else float(value) for value in values])
    texts = [None if value is None else _plain_text(value) for value in values]
    return pa.array(texts, pa.string())


def _are_whole(values: list[Any]) -> bool:
    return all(math.isfinite(value) and value == int(value) for value in values)


def _plain_text(value: Any) -> str:  # Any: a value of a database
    """Return the value as text, a whole number digit by digit."""
    is_number = isinstance(value, float | Decimal) and math.isfinite(value) and value == int(value)
    return str(int(value)) if is_number else str(value)
