"""Where batch scores go besides the prediction log: a Parquet file per window, or a table of the source.

What is written is what the log holds, so a row that was scored before keeps its first answer here too.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any, Protocol, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.errors import SpecError, StoreError
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.sources.secrets import filled_url
from tasks.sources.sql import connection_to
from tasks.store.engine import insert_new, reading
from tasks.store.s3 import put_file
from tasks.store.schema import UtcDateTime, dump_json, predictions

_AT_ONCE = 5_000  # ids of one query, below the bound-parameter limits of both databases
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")
_COLUMNS = ("prediction_id", "row_key", "event_time", "version", "prediction", "score", "served_at")
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("prediction_id", "row_key")),
        *(("event_time", pa.timestamp("us", "UTC")), ("version", pa.int64())),
        *((name, pa.string()) for name in ("prediction", "score")),  # as JSON: labels may be of any type
        ("served_at", pa.timestamp("us", "UTC")),
    ]
)


class Output(Protocol):
    """Takes answers that stand in the log; what was added counts when the block ends without an error."""

    where: str

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None: ...

    def add(self, engine: Engine, rows: pd.DataFrame) -> None:
        """Write what the log holds of these rows."""


def output_of(spec: ModelSpec, window: Window, settings: Settings) -> Output:
    """Return where the answers of this window go besides the log: nowhere, unless `scoring.into` says so.

    Raises:
        SpecError: when `scoring.into` names neither a folder nor a table that could be.
    """
    into = spec.scoring.into
    if into is None:
        return _Nowhere()
    if not into.startswith("table:"):
        return _File(spec, window, settings)
    if not _NAME.match(into.removeprefix("table:")):
        raise SpecError(f"scoring.into {into!r}", "table:name, of letters, digits and _", model=spec.name)
    if not spec.source.url.startswith(("sqlite", "postgres")):
        raise SpecError(
            f"scoring.into {into!r} while the source is no database",
            "a source on SQLite or Postgres, or a folder of files",
            model=spec.name,
        )
    return _Table(spec)


class _Nowhere:
    where = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        del kind, rest

    def add(self, engine: Engine, rows: pd.DataFrame) -> None:
        del engine, rows


class _File:
    """One Parquet file per window, which appears whole or not at all."""

    def __init__(self, spec: ModelSpec, window: Window, settings: Settings):
        root = str(spec.scoring.into).rstrip("/")
        name = f"{spec.name}-{window.start:%Y%m%dT%H%M%S}-{window.end:%Y%m%dT%H%M%S}.parquet"
        self.where = f"{root}/{name}"
        self._model, self._settings = spec.name, settings
        self._part = settings.work_dir(spec.name) / f".{name}.{secrets.token_hex(4)}.part"
        self._writer: Any = None  # Any: pyarrow's writer

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(self._part, _SCHEMA)
        return self

    def add(self, engine: Engine, rows: pd.DataFrame) -> None:
        for records in _logged(engine, self._model, rows):
            self._writer.write_table(pa.Table.from_pylist(records, schema=_SCHEMA))

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        del rest
        self._writer.close()
        try:
            if kind is None:
                self._keep()
        finally:
            self._part.unlink(missing_ok=True)

    def _keep(self) -> None:
        if "://" in self.where:
            put_file(self._part, self.where, self._settings, content_type="application/vnd.apache.parquet")
            return
        target = Path(self.where).expanduser()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
            beside.write_bytes(self._part.read_bytes())
            beside.replace(target)
        except OSError as err:
            raise StoreError(
                f"scores that could not be written ({type(err).__name__})",
                "a folder that may be written",
                "check scoring.into; the prediction log has them all",
                model=self._model,
            ) from err


class _Table:
    """Rows of a table in the source's database; one that stands there already is left as it is."""

    def __init__(self, spec: ModelSpec):
        self.where = str(spec.scoring.into)
        self._spec = spec
        self._table = sa.Table(
            self.where.removeprefix("table:"),
            sa.MetaData(),
            sa.Column("prediction_id", sa.String, primary_key=True),
            sa.Column("row_key", sa.String, nullable=False),
            sa.Column("event_time", UtcDateTime, nullable=False),
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("prediction", sa.Text),  # as JSON, like the score: labels may be of any type
            sa.Column("score", sa.Text),
            sa.Column("served_at", UtcDateTime, nullable=False),
        )

    def __enter__(self) -> Self:
        with connection_to(self._spec, filled_url(self._spec)) as connection:
            self._table.create(connection, checkfirst=True)
        return self

    def add(self, engine: Engine, rows: pd.DataFrame) -> None:
        for records in _logged(engine, self._spec.name, rows):
            with connection_to(self._spec, filled_url(self._spec)) as connection:
                insert_new(connection, self._table, records)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        del kind, rest


def _logged(
    engine: Engine, model: str, rows: pd.DataFrame
) -> list[list[dict[str, Any]]]:  # Any: column values
    """Return what the log holds of these rows, in their order, a few thousand at once."""
    ids, found = rows["prediction_id"].tolist(), []
    for start in range(0, len(ids), _AT_ONCE):
        wanted = ids[start : start + _AT_ONCE]
        query = sa.select(*(predictions.c[name] for name in _COLUMNS)).where(
            predictions.c.model == model, predictions.c.prediction_id.in_(wanted)
        )
        with reading(engine) as connection:
            known = {row["prediction_id"]: _plain(row) for row in connection.execute(query).mappings()}
        found.append([known[one] for one in wanted if one in known])
    return found


def _plain(row: sa.RowMapping) -> dict[str, Any]:  # Any: column values
    as_text = {name: None if row[name] is None else dump_json(row[name]) for name in ("prediction", "score")}
    return {**row, **as_text}
