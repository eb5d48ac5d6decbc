"""Labels kept in a second place: read there, one per key, and put beside the rows they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks.core.errors import ContractError
from tasks.core.spec import ModelSpec
from tasks.core.spec_label import LabelSource
from tasks.settings import Settings
from tasks.sources import Source, opened
from tasks.sources.spelling import key_texts, roles_of, unite
from tasks.sources.where import Clause, Where, between, just_after
from tasks.sources.wrapped import Wrapped


def as_source(spec: ModelSpec, where: LabelSource) -> ModelSpec:
    """Return a spec whose rows are the labels: the one kind of thing that sources can open."""
    source = spec.source.model_copy(
        update={
            **{"url": where.url, "table": where.table, "query": None, "parameters": {}},
            **{
                "identity": where.identity,
                "timestamp": where.timestamp or "",
                "updated": None,
                "group": None,
            },
        }
    )
    return spec.model_copy(update={"source": source}).reading(None)


def require_label(source: Source, where: LabelSource, spec: ModelSpec, *, window: str = "") -> None:
    """Return nothing when the column of labels is there.

    Raises:
        ContractError: when it is not.
    """
    names = set(source.schema())
    if names and where.column not in names:
        raise ContractError(
            f"no column {where.column!r} in the source of labels",
            "the label column",
            "correct label.source.column, or the column's name in the data",
            model=spec.name,
            window=window,
        )


def known_by(where: LabelSource, since: datetime | None, as_of: datetime) -> Where:
    """Return the filter for labels that became known by `as_of`; those without a time count as known."""
    if where.timestamp is None:
        return ()
    after = just_after(as_of)
    known = (Clause(where.timestamp, "lt", after),)
    if since is not None:
        known = between(where.timestamp, since, after)  # type: ignore[assignment]
    return known, (Clause(where.timestamp, "null"),)


def united(found: Sequence[pa.Table], spec: ModelSpec) -> pa.Table:
    """Return labels as one table, each class in one spelling whatever type a part of the source gave.

    Raises:
        ContractError: when their types cannot be one.
    """
    role = roles_of(spec).get(spec.label.column)
    labels, fits = unite([table.column("label") for table in found], role, positive=spec.label.positive)
    if not fits:
        kinds = sorted({str(table.schema.field("label").type) for table in found})
        raise ContractError(
            f"labels of types that cannot be one: {', '.join(kinds)}",
            "one type in all of the source of labels",
            "write them alike, or convert them in the source",
            model=spec.name,
        )
    rest = pa.concat_tables([table.drop_columns("label") for table in found], promote_options="permissive")
    whole = pa.chunked_array([chunk for column in labels for chunk in column.chunks], labels[0].type)
    return rest.append_column("label", whole)


def newest_labels(
    spec: ModelSpec, as_of: datetime, settings: Settings, *, row_keys: Mapping[str, str] | None = None
) -> pa.Table:
    """Return columns row_key and label, one per key: of several labels the one that became known last.

    Without a time of its own the last label of a key counts. `row_keys` leads from the ids of predictions,
    where the source of labels goes by them, to keys of rows.

    Raises:
        ContractError: when key, label or time column is not there, or the types cannot be one.
        FetchError: when the source cannot be read.
    """
    where = spec.label.source
    if where is None:
        raise ValueError("the spec names no source of labels")
    found: list[pa.Table] = []
    with opened(as_source(spec, where), settings) as source:
        require_label(source, where, spec)
        names = [where.key, where.column, *([where.timestamp] if where.timestamp else [])]
        for batch in source.batches(list(dict.fromkeys(names)), known_by(where, None, as_of)):
            given = ~pc.is_null(batch.column(where.column), nan_is_null=True).to_numpy(zero_copy_only=False)
            keys = key_texts(batch.column(where.key))
            columns = {"row_key": keys, "label": batch.column(where.column)}
            if where.timestamp:
                columns["known_at"] = batch.column(where.timestamp)
            found.append(pa.table(columns).filter(pa.array(given)))
    if not found:
        return pa.table({"row_key": pa.array([], pa.string()), "label": pa.array([], pa.null())})
    table = united(found, spec)
    keys = table.column("row_key").to_pandas()
    if row_keys is not None:
        keys = keys.map(row_keys)
    order = pd.DataFrame({"key": keys, "at": table.column("known_at").to_pandas() if where.timestamp else 0})
    order = order[order["key"].notna()].sort_values("at", kind="stable", na_position="first")
    last = order[~order["key"].duplicated(keep="last")]
    chosen = table.column("label").take(pa.array(last.index))
    return pa.table({"row_key": pa.array(last["key"], pa.string()), "label": chosen})


class WithLabels(Wrapped):
    """A source of rows beside each of which its label stands; rows without a known label are left out.

    Nothing is kept from one fetch to the next, because labels of old rows come and are corrected without the
    rows being written again.
    """

    def __init__(self, rows: Source, labels: pa.Table, spec: ModelSpec):
        super().__init__(rows, spec.label.column)
        self._key = spec.source.key
        self._keys = labels.column("row_key").combine_chunks()
        self._labels = labels.column("label").combine_chunks()

    def needs(self) -> Sequence[str]:
        """Return the key, which leads to the label."""
        return (self._key,)

    def added(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows whose label is known, with it."""
        places = pc.index_in(key_texts(batch.column(self._key)), self._keys)
        known = pc.is_valid(places)
        return batch.filter(known).append_column(self._column, self._labels.take(places.filter(known)))

    def checksum(self, where: Where) -> str | None:
        """Return None: the labels are not among what a checksum of the rows would be of."""
        del where
        return None
