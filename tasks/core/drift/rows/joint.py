"""What a domain classifier says of a window, fed with the right rows of a reference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.counting.sample import Sample, pick
from tasks.core.drift.measures.base import Reading
from tasks.core.drift.rows.domain import FEWEST, LEANT_FROM, domain_reading

if TYPE_CHECKING:
    from tasks.core.drift.chance.calibration import Dispersions
    from tasks.core.drift.past.calendar import Against
    from tasks.core.drift.profile import Reference

Blocks = NDArray[np.int64]
_CHECKED = 50  # features on which the blocks of the sampled rows are tried


def joint_reading(reference: Reference, against: Against, current: Sample, *, seed: int = 0) -> Reading:
    """Return how well the window's whole rows can be told from those compared with.

    A value of None says, in the note, why that cannot be told: too few rows, a reference of an older format,
    or earlier windows as the reference, of which no rows are kept. Where rows depend on each other the window
    is held against single blocks of the reference (see `blockwise_reading`).

    Args:
        reference: The champion's.
        against: What is compared with.
        current: Rows of the window, in the reference's cells.
        seed: Of every draw.
    """
    found = rows_compared(reference, against)
    if isinstance(found, str):
        return Reading(None, note=found)
    codes, blocks = found
    if min(len(codes), len(current)) < FEWEST:
        sides = f"{len(codes)} rows of the reference and {len(current)} of the window"
        return Reading(None, note=f"{sides}; {FEWEST} of each are needed to tell whole rows apart")
    dependent = rows_depend(reference, against)
    reading, names = domain_reading(
        codes, current.codes, current.names, seed=seed, blocks=blocks if dependent else None
    )
    if dependent and blocks is None and (reading.p_value or 0) < LEANT_FROM:
        return Reading(None, note="rows depend on each other, and which were together is not known")
    leaning = f"by {', '.join(names)}" if names else ""
    return replace(reading, note="; ".join(filter(None, [reading.note, leaning])))


def rows_compared(reference: Reference, against: Against) -> tuple[NDArray[np.int16], Blocks | None] | str:
    """Return the sampled rows compared with, and their blocks where known; else why there are none."""
    sample = reference.sample
    if sample is None:
        return "the reference keeps no rows; it was made by an earlier release"
    if against.kind == "rolling":
        return "of earlier windows no rows are kept"
    blocks = sample_blocks(reference)
    if against.kind == "champion":
        return sample.codes, blocks
    if blocks is None:
        return "which rows of the reference are of that slot is not known"
    of_slot = np.isin(blocks, against.blocks)
    return sample.codes[of_slot], blocks[of_slot]


def rows_depend(reference: Reference, against: Against) -> bool:
    """Return whether rows compared like this were found to depend on each other."""
    return bool(dispersions_used(reference, against))


def dispersions_used(reference: Reference, against: Against) -> Dispersions:
    """Return how much more windows compared like this differ than independent rows; empty: not at all."""
    learnt = reference.calibration
    if learnt is None:
        return {}
    return learnt.dispersions if against.kind == "calendar" or learnt.pattern == "none" else learnt.overall


def sample_blocks(reference: Reference) -> Blocks | None:
    """Return the block of the history that each sampled row is of, -1 for none; None where that is not known.

    Sampled rows were picked by a seed from rows in the order of time, so their places are known. Rows in
    another order are noticed: some block's sample would then hold more of a cell than the block does.
    """
    history, sample, learnt = reference.history, reference.sample, reference.calibration
    if history is None or sample is None:
        return None
    rows = reference.profile.rows
    places = pick(rows, len(sample), 0 if learnt is None else learnt.seed)
    if len(places) != len(sample):
        return None
    ends = np.cumsum(history.rows)
    before = rows - int(ends[-1])  # older than the history goes back, or without a time
    blocks = np.where(places < before, -1, np.searchsorted(ends, places - before, side="right"))
    known = [at for at, name in enumerate(sample.names) if name in history.features][:_CHECKED]
    for at in known:
        cells = history.cells(sample.names[at])
        codes = sample.codes[:, at].astype(np.int64)
        held = (blocks >= 0) & (codes >= 0) & (codes < cells.shape[1])
        found = np.bincount(blocks[held] * cells.shape[1] + codes[held], minlength=cells.size)
        if (found > cells.ravel()).any():
            return None
    return blocks
