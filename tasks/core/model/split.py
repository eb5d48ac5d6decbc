"""The time-ordered split of labelled rows into training rows and newest rows kept unseen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from tasks.core.errors import TrainingError
from tasks.core.model.columns import text_column
from tasks.core.spec import ModelSpec
from tasks.core.window import Window, parse_duration, utc

HOLDOUT_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Training rows older than `cut`, and holdout rows from `cut` on; both by rising time, with all columns.

    `dropped_for_group` counts training rows left out because their entity or key also stands in the holdout,
    `anchored` those left out because their key stands in the anchor.
    """

    train: pd.DataFrame
    holdout: pd.DataFrame
    cut: datetime
    dropped_for_group: int
    anchored: int = 0


def split_rows(
    frame: pd.DataFrame,
    spec: ModelSpec,
    as_of_end: datetime,
    *,
    anchor_keys: Iterable[Any] = (),  # Any: keys may be of any type
) -> Split:
    """Return the rows split at one moment: no model is judged on rows older than those it learnt from.

    The holdout is what falls in the last `spec.window.holdout` before `as_of_end`, or the newest fifth of the
    training window's rows when the spec names no length; the rows may reach back further than that window.
    Rows of one moment are never divided: at the edge they all go to the holdout. Rows of the anchor are never
    learnt from; where the rows are cut does not depend on them.

    Args:
        frame: Rows with aware timestamps, keys and, where the spec names one, groups. Not changed.
        spec: Names the columns and the length of the holdout.
        as_of_end: End of the training window and of the rows.
        anchor_keys: Keys of the frozen trusted rows.

    Raises:
        TrainingError: when there are fewer than two rows, a timestamp is missing, or one side would be empty.
    """
    time, key = spec.source.timestamp, spec.source.key
    if len(frame) < 2:
        raise _cannot(spec, f"{len(frame)} labelled rows", "at least two, to train on and to judge by")
    if frame[time].isna().any():
        raise _cannot(
            spec, f"{int(frame[time].isna().sum())} rows without a timestamp", "a time on every row"
        )
    ordered = frame.sort_values([time, key], kind="stable", ignore_index=True)
    cut = _cut(ordered[time], spec, as_of_end)
    is_new = ordered[time] >= cut
    train, holdout = ordered[~is_new], ordered[is_new]
    shared = train[key].isin(holdout[key])
    group = spec.source.group
    if group:
        shared |= train[group].notna() & train[group].isin(holdout[group])
    anchored = _among(train[key], anchor_keys) & ~shared
    kept = train[~(shared | anchored)].reset_index(drop=True)
    left_out = int(shared.sum()), int(anchored.sum())
    _check_sides(spec, kept, holdout, *left_out, cut=cut)
    return Split(kept, holdout.reset_index(drop=True), cut.to_pydatetime(), *left_out)


def all_rows(
    frame: pd.DataFrame,
    spec: ModelSpec,
    *,
    left_out: Iterable[Any] = (),  # Any: keys may be of any type
) -> pd.DataFrame:
    """Return all rows by rising time without those of these keys: what a refit learns from."""
    key = spec.source.key
    ordered = frame.sort_values([spec.source.timestamp, key], kind="stable", ignore_index=True)
    return ordered[~_among(ordered[key], left_out)].reset_index(drop=True)


def as_texts(column: pd.Series) -> pd.Series:
    """Return keys or entities as texts, alike for 7, 7.0 and "7": a source may change its types.

    Example:
        >>> as_texts(pd.Series([7.0, None])).tolist()
        ['7', nan]
    """
    return pd.Series(text_column(column, ""), index=column.index, dtype=object)


def _among(column: pd.Series, keys: Iterable[Any]) -> pd.Series:  # Any: keys may be of any type
    """Tell which keys are among these, whatever type a source gave them; a missing key is none of them."""
    known = as_texts(pd.Series(list(keys), dtype=object)).dropna()
    return as_texts(column).isin(known)


def _cut(times: pd.Series, spec: ModelSpec, as_of_end: datetime) -> pd.Timestamp:
    """Return the moment from which rows are kept unseen; `times` rise."""
    if spec.window.holdout is not None:
        return pd.Timestamp(utc(as_of_end) - parse_duration(spec.window.holdout))
    recent = times[times >= Window.ending(as_of_end, spec.window.training).start]
    if recent.empty:
        raise _cannot(spec, f"no row in the last {spec.window.training}", "rows to judge by")
    cut = recent.iloc[min(int(len(recent) * (1 - HOLDOUT_SHARE)), len(recent) - 1)]
    if cut > times.iloc[0]:
        return pd.Timestamp(cut)
    later = times[times > cut]  # so many rows share the first moment that the fifth begins there
    return pd.Timestamp(later.iloc[0] if len(later) else cut)


def _check_sides(
    spec: ModelSpec,
    train: pd.DataFrame,
    holdout: pd.DataFrame,
    shared: int,
    anchored: int,
    *,
    cut: pd.Timestamp,
) -> None:
    if holdout.empty:
        raise _cannot(spec, f"no row since {cut.isoformat()}", "rows to judge by", "lengthen window.holdout")
    if train.empty and anchored:
        raise _cannot(
            spec,
            f"all older rows left out: {anchored} of the anchor, {shared} of the holdout's entities",
            "rows to train on",
            "wait for more rows, or renew the anchor from newer ones",
        )
    if train.empty and shared:
        raise _cannot(
            spec,
            f"all {shared} older rows belong to entities of the holdout",
            "entities on one side only",
            "shorten window.holdout or choose another source.group",
        )
    if train.empty:
        raise _cannot(
            spec,
            f"no row before {cut.isoformat()}",
            "rows to train on",
            "lengthen window.training, or shorten window.holdout",
        )


def _cannot(
    spec: ModelSpec, found: str, expected: str, todo: str = "wait for more labelled rows"
) -> TrainingError:
    return TrainingError(found, expected, todo, model=spec.name)
