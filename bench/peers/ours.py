"""Our own side of a comparison, called as the flows call it: a reference once, then counts and a verdict."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from bench.draws import spec_for
from bench.peers.protocol import Columns
from tasks.core.drift.counting.sample import MOST_ROWS, pick, sample_codes
from tasks.core.drift.measures.base import Reading
from tasks.core.drift.past.calendar import Against, choose
from tasks.core.drift.profile import Reference, build_reference, profile_frame
from tasks.core.drift.rows.joint import joint_reading
from tasks.core.drift.verdict import DriftVerdict, judge
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.drifting.profile import profile_parquet
from tasks.drifting.sample import sample_rows


def spec_of(columns: Columns, false_alarms: float) -> ModelSpec:
    """Return a spec of these columns with this budget."""
    return spec_for(columns.numeric, columns.categorical, false_alarms=false_alarms)


def build(
    frame: pd.DataFrame, spec: ModelSpec, *, times: pd.Series | None = None, seed: int = 0
) -> Reference:
    """Return the reference with all that is learnt with it."""
    return build_reference(frame, spec, times=times, seed=seed, deep=True)


def check_frame(
    frame: pd.DataFrame,
    reference: Reference,
    spec: ModelSpec,
    *,
    window: Window | None = None,
    rows: bool = False,
) -> DriftVerdict:
    """Return the verdict on these rows; with `rows` the classifier over whole rows takes part.

    `window` is when they were, where the reference has times.
    """
    against = choose(reference, window, spec)
    profile = profile_frame(frame, reference)
    joint = None
    if rows:
        joint = _whole_rows(frame.iloc[pick(len(frame), MOST_ROWS, 0)], reference, against)
    return judge(reference, profile, spec, against=against, joint=joint)


def check_file(path: Path, reference: Reference, spec: ModelSpec, *, rows: bool = False) -> DriftVerdict:
    """Return the verdict on all rows of a Parquet file, read as it is counted; `rows` as above."""
    against = choose(reference, None, spec)
    profile = profile_parquet(str(path), reference)
    joint = None
    if rows:
        names = [cell.name for cell in reference.bins]
        joint = _whole_rows(sample_rows(str(path), names, MOST_ROWS), reference, against)
    return judge(reference, profile, spec, against=against, joint=joint)


def _whole_rows(sampled: pd.DataFrame, reference: Reference, against: Against) -> Reading:
    with threadpool_limits(1):  # as in the flow
        return joint_reading(reference, against, sample_codes(sampled, reference.bins))
