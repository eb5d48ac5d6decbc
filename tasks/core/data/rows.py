"""One row per key: which of several versions of a row counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.core.spec import ModelSpec
from tasks.core.window import utc

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
_NO_TIME = np.iinfo(np.int64).min
_MIX = np.uint64(0x9E3779B97F4A7C15)
_NULL_TEXT = "\x00null"


@dataclass(frozen=True)
class Resolution:
    """What was removed to get one row per key.

    `duplicates` are rows equal to another row of their key (the time of writing apart);
    `corrections` are versions that a newer one replaced.
    """

    duplicates: int = 0
    corrections: int = 0


def resolve(frame: pd.DataFrame, spec: ModelSpec) -> tuple[pd.DataFrame, Resolution]:
    """Return one row per key, sorted by timestamp and key, and what was removed.

    The newest version wins: by `source.updated` where declared, then by timestamp, then by a digest of the
    content, so that the result is the same in whatever order the rows arrived. Rows without a key are
    kept (the contract judges them); of equal ones, one. An empty frame comes back empty.

    Example:
        >>> from tasks.core.spec import parse_spec
        >>> spec = parse_spec({"name": "m", "source": {"url": "a.csv", "key": "id", "timestamp": "at"},
        ...     "label": {"column": "y"}, "features": {"numeric": ["x"]}})
        >>> at = pd.to_datetime(["2026-01-01", "2026-01-01", "2026-01-02"], utc=True)
        >>> rows, removed = resolve(pd.DataFrame({"id": [1, 1, 1], "at": at, "x": [5, 5, 6], "y": 0}), spec)
        >>> rows["x"].tolist(), removed
        ([6], Resolution(duplicates=1, corrections=1))
    """
    source = spec.source
    light = frame[[name for name in (source.key, source.timestamp, source.updated) if name in frame.columns]]
    kept, resolution = pick(light, spec, lambda positions: frame.iloc[positions])
    return frame.iloc[kept].reset_index(drop=True), resolution


def pick(
    light: pd.DataFrame, spec: ModelSpec, content: Callable[[Ints], pd.DataFrame]
) -> tuple[Ints, Resolution]:
    """Return the positions that `resolve` keeps, in its order, looking only at key and times.

    Keys may be ordered categories: then only their codes are used. `content` gives the whole rows at some
    positions; it is asked once, for the rows whose key is not unique, so that a large table need not be
    held as a frame.
    """
    times = _moments(light, spec.source.timestamp)
    key = light[spec.source.key]
    owner, without_key = _owners(key)
    shared = np.flatnonzero((np.bincount(owner, minlength=1)[owner] > 1) | without_key).astype(np.int64)
    if not len(shared):
        return _in_order(np.arange(len(light), dtype=np.int64), times, key), Resolution()
    rows = content(shared)
    writes = _moments(light.iloc[shared], spec.source.updated)
    ignored = {spec.source.updated}
    digest = _digest(rows, [name for name in spec.columns if name in rows.columns and name not in ignored])
    group = owner[shared].astype(np.uint64)
    group = np.where(without_key[shared], digest, group)
    order = np.lexsort((digest, times[shared], writes, group, without_key[shared]))
    last = _last_of_runs(group[order], without_key[shared][order])
    kept = np.ones(len(light), dtype=bool)
    kept[shared] = False
    kept[shared[order[last]]] = True
    versions = len(pd.DataFrame({"n": without_key[shared], "g": group, "d": digest}).drop_duplicates())
    resolution = Resolution(len(shared) - versions, versions - int(last.sum()))
    last_resort = np.zeros(
        len(light), dtype=np.uint64
    )  # rows of one moment without a key still need an order
    last_resort[shared] = np.where(without_key[shared], digest, np.uint64(0))
    return _in_order(np.flatnonzero(kept).astype(np.int64), times, key, last_resort), resolution


def _owners(key: pd.Series[Any]) -> tuple[Ints, npt.NDArray[np.bool_]]:
    if _is_ranked(key):
        codes, count = key.cat.codes.to_numpy(), len(key.cat.categories)
    else:
        codes, uniques = pd.factorize(key, use_na_sentinel=True)
        count = len(uniques)
    without_key = codes < 0
    return np.where(without_key, count, codes).astype(np.int64, copy=False), without_key


def _is_ranked(key: pd.Series[Any]) -> bool:
    """Whether the keys come as ordered categories: then their codes say all there is to know."""
    return isinstance(key.dtype, pd.CategoricalDtype) and bool(key.dtype.ordered)


def _moments(light: pd.DataFrame, column: str | None) -> Ints:
    if column is None or column not in light.columns:
        return np.full(len(light), _NO_TIME, dtype=np.int64)
    # In the column's own unit; NaT is the smallest int64, so a row never stamped loses to one that was.
    return np.asarray(light[column].dt.tz_localize(None).to_numpy().astype(np.int64))


def _last_of_runs(*keys: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    last = np.ones(len(keys[0]), dtype=bool)
    last[:-1] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return last


def _in_order(positions: Ints, times: Ints, key: pd.Series[Any], last_resort: Hashes | None = None) -> Ints:
    positions = positions[np.argsort(times[positions], kind="stable")]
    moments = times[positions]
    tied = np.zeros(len(positions), dtype=bool)
    same = moments[1:] == moments[:-1]
    tied[1:] |= same
    tied[:-1] |= same
    where = np.flatnonzero(tied)
    if len(where):  # only rows of one moment need their keys compared, which is what costs
        some = positions[where]
        rank = _rank(key.iloc[some])
        digest = np.zeros(len(some), dtype=np.uint64) if last_resort is None else last_resort[some]
        positions[where] = some[np.lexsort((digest, rank, moments[where]))]
    return positions


def _rank(key: pd.Series[Any]) -> npt.NDArray[np.intp]:
    if _is_ranked(key):
        return np.asarray(key.cat.codes, dtype=np.intp)
    values = key if pd.api.types.is_numeric_dtype(key.dtype) else key.astype(str)
    return pd.factorize(values.where(key.notna()), sort=True)[0]


def _digest(rows: pd.DataFrame, columns: Sequence[str]) -> Hashes:
    digest = np.zeros(len(rows), dtype=np.uint64)
    for name in columns:
        digest = (digest ^ (digest >> np.uint64(29))) * _MIX + _hashes(rows[name])
    return digest


def _hashes(values: pd.Series[Any]) -> Hashes:
    """Hash by value, not by dtype: 1, 1.0 and a nullable 1 are the same content."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        plain: npt.NDArray[Any] = values.to_numpy(dtype="datetime64[us]").astype(np.int64)
    elif pd.api.types.is_numeric_dtype(values.dtype):
        plain = values.to_numpy(dtype=np.float64, na_value=np.nan) + 0.0  # -0.0 becomes 0.0
        plain = np.where(np.isnan(plain), np.nan, plain)
    else:
        plain = values.astype(object).where(values.notna(), _NULL_TEXT).astype(str).to_numpy(dtype=object)
    return np.asarray(pd.util.hash_array(plain), dtype=np.uint64)


def joined_text(parts: Iterable[object]) -> str:
    """Return the key that a fetch makes of several columns, from the values of one row.

    Example:
        >>> joined_text([7.0, "ann"])
        '7|ann'
    """
    texts = [_part_text(part) for part in parts]
    return "|".join(text.rstrip(" ").replace("\\", "\\\\").replace("|", "\\|") for text in texts)


def _part_text(part: object) -> str:
    if isinstance(part, datetime):
        return f"{utc(part):%Y-%m-%d %H:%M:%S.%f}Z"
    return str(int(part)) if isinstance(part, float) and part.is_integer() else str(part)
