"""Where batch scores go besides the prediction log: a Parquet file per window, or a table of the source.

What is written is what the log holds, so a row that was scored before keeps its first answer here too.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Protocol, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.errors import StoreError
from tasks.core.model.columns import category_text
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.settings import Settings
from tasks.sources.secrets import filled_url
from tasks.sources.sql import connection_to
from tasks.store.engine import insert_new, reading
from tasks.store.s3 import put_file
from tasks.store.schema import UtcDateTime, dump_json, predictions

_AT_ONCE = 5_000  # ids of one query, below the bound-parameter limits of both databases
_COLUMNS = (
    *("prediction_id", "row_key", "event_time", "version", "prediction", "score", "served_at"),
    "partner",  # last: files and tables of earlier releases end before it
)


def _schema(spec: ModelSpec) -> pa.Schema:
    """Return the columns of a file; a label is text, whatever its type, and `score` one number per class."""
    return pa.schema(
        [
            *((name, pa.string()) for name in ("prediction_id", "row_key")),
            *(("event_time", pa.timestamp("us", "UTC")), ("version", pa.int64())),
            ("prediction", pa.float64() if spec.task == "regression" else pa.string()),
            *(("score", pa.list_(pa.float64())), ("served_at", pa.timestamp("us", "UTC"))),
            ("partner", pa.int64()),  # the version that had half the vote
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
    """Return where the answers of this window go besides the log: nowhere, unless `scoring.into` says so."""
    into = spec.scoring.into
    if into is None:
        return _Nowhere()
    if not into.startswith("table:"):
        return _File(spec, window, settings)
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
        self._spec, self._settings = spec, settings
        self._schema = _schema(spec)
        self._part = settings.work_dir(spec.name) / f".{name}.{secrets.token_hex(4)}.part"
        self._writer: Any = None  # Any: pyarrow's writer

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(self._part, self._schema)
        return self

    def add(self, engine: Engine, rows: pd.DataFrame) -> None:
        for records in _logged(engine, self._spec, rows):
            self._writer.write_table(pa.Table.from_pylist(records, schema=self._schema))

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
                model=self._spec.name,
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
            sa.Column("prediction", sa.Float if spec.task == "regression" else sa.Text),
            sa.Column("score", sa.Text),  # a JSON list, one number per class
            sa.Column("served_at", UtcDateTime, nullable=False),
            sa.Column("partner", sa.Integer),  # the version that had half the vote
        )
        self._names = frozenset(_COLUMNS)

    def __enter__(self) -> Self:
        with connection_to(self._spec, filled_url(self._spec)) as connection:
            self._table.create(connection, checkfirst=True)
            there = {column["name"] for column in sa.inspect(connection).get_columns(self._table.name)}
        self._names = frozenset(_COLUMNS) - ({"partner"} - there)  # a table that an earlier release made
        return self

    def add(self, engine: Engine, rows: pd.DataFrame) -> None:
        for records in _logged(engine, self._spec, rows):
            as_text = [
                {name: value for name, value in row.items() if name in self._names}
                | {"score": None if row["score"] is None else dump_json(row["score"])}
                for row in records
            ]
            with connection_to(self._spec, filled_url(self._spec)) as connection:
                insert_new(connection, self._table, as_text)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        del kind, rest


def _logged(engine: Engine, spec: ModelSpec, rows: pd.DataFrame) -> list[list[dict[str, Any]]]:  # Any: values
    """Return what the log holds of these rows, in their order, a few thousand at once."""
    ids, found = rows["prediction_id"].tolist(), []
    for start in range(0, len(ids), _AT_ONCE):
        wanted = ids[start : start + _AT_ONCE]
        query = sa.select(*(predictions.c[name] for name in _COLUMNS)).where(
            predictions.c.model == spec.name, predictions.c.prediction_id.in_(wanted)
        )
        with reading(engine) as connection:
            known = {row["prediction_id"]: _plain(row, spec) for row in connection.execute(query).mappings()}
        found.append([known[one] for one in wanted if one in known])
    return found


def _plain(row: sa.RowMapping, spec: ModelSpec) -> dict[str, Any]:  # Any: column values
    said = row["prediction"]
    if said is not None and spec.task == "classification":
        said = category_text(said)
    return {**row, "prediction": said}
