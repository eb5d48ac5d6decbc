"""References and profiles as JSON values, read back without trusting them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tasks.core.drift.counting.bins import Bins, Counts
from tasks.core.drift.counting.packed import pack, unpack
from tasks.core.drift.counting.sample import MOST_ROWS, Sample
from tasks.core.drift.past import history as histories
from tasks.core.drift.past.history import HEAD, History
from tasks.core.drift.profile import SCORE, Profile, Reference

FORMAT = 2
_READS = (1, FORMAT)  # of format 1: no history, calibration, insight, sample
_LONGEST = 2**28  # characters; ours stay below 2 MB, and far below this with ten thousand features


def reference_to_text(reference: Reference) -> str:
    """Return the reference as JSON text, readable by people but for the packed tables."""
    plain = {
        "format": FORMAT,
        "model": reference.model,
        "bins": [asdict(cell) for cell in reference.bins],
        "profile": asdict(reference.profile),
        "key_check": reference.key_check,
        "history": None if reference.history is None else histories.to_plain(reference.history),
        "calibration": None if reference.calibration is None else reference.calibration.to_plain(),
        "insight": None if reference.insight is None else reference.insight.to_plain(),
        "sample": None if reference.sample is None else reference.sample.to_plain(),
    }
    return json.dumps(plain, allow_nan=False, sort_keys=True)


def reference_from_text(text: str) -> Reference:
    """Return the reference of the text.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OverflowError: when it is something else, incomplete,
            or its parts contradict each other.
    """
    if len(text) > _LONGEST:
        raise ValueError("a text too long to be one of ours")
    raw = json.loads(text)
    if raw["format"] not in _READS:
        raise ValueError("another format")
    bins = tuple(Bins(**_tuples(item)) for item in raw["bins"])
    part = raw["profile"]
    counts = {name: Counts(**_tuples(item)) for name, item in part["features"].items()}
    profile = Profile(part["reference_id"], part["rows"], counts, tuple(part["absent"]))
    reference = Reference(raw["model"], bins, profile, raw["key_check"])
    if profile.reference_id != reference.id or {b.name for b in bins} != counts.keys():
        raise ValueError("cells and counts do not belong together")
    if any(len(counts[b.name].cells) != b.cells for b in bins):
        raise ValueError("cells and counts differ in number")
    return reference if raw["format"] == 1 else _with_depth(reference, raw)


def profile_to_plain(profile: Profile, reference: Reference) -> dict[str, Any]:  # Any: JSON values
    """Return the profile as compact JSON values: all its numbers in one packed table."""
    hidden = {cell.name for cell in reference.bins if cell.masked and cell.kind == "numeric"}
    numbers: list[int] = []
    for name, c in profile.features.items():
        sums = _evened(c, reference.profile.features[name]) if name in hidden else c.sums
        numbers += [c.rows, c.nulls, c.infinite, c.unreadable, c.unseen, *c.cells, *sums]
    return {
        "reference_id": profile.reference_id,
        "rows": profile.rows,
        "absent": list(profile.absent),
        "features": [[name, len(c.cells), len(c.sums)] for name, c in profile.features.items()],
        "numbers": pack(np.array(numbers, dtype=np.int64).reshape(1, -1)),
    }


def profile_from_plain(raw: dict[str, Any]) -> Profile:  # Any: JSON values
    """Return the profile that `profile_to_plain` wrote.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: when it is something else.
    """
    numbers = unpack(raw["numbers"], "<i8")[0].tolist()
    rows, at = _whole(raw["rows"]), 0
    features = {}
    for name, cells, sums in raw["features"]:
        if _whole(sums) not in {0, _whole(cells)} or not isinstance(name, str):
            raise ValueError("sums for other cells than there are")
        mine = numbers[at : at + HEAD + cells + sums]
        at += HEAD + cells + sums
        total, nulls, infinite, unreadable, unseen = mine[:HEAD]
        counts = Counts(
            total,
            nulls,
            infinite,
            unreadable,
            unseen,
            tuple(mine[HEAD : HEAD + cells]),
            tuple(mine[HEAD + cells :]),
        )
        if min(mine[: HEAD + cells]) < 0 or counts.rows != rows:
            raise ValueError("counts that cannot be")
        if counts.values + counts.nulls + counts.infinite + counts.unreadable != rows:
            raise ValueError("counts that do not add up")
        features[name] = counts
    if at != len(numbers) or len(features) != len(raw["features"]):
        raise ValueError("other numbers than the features need")
    if not isinstance(raw["reference_id"], str) or not all(isinstance(name, str) for name in raw["absent"]):
        raise ValueError("a profile of no reference")
    return Profile(raw["reference_id"], rows, features, tuple(raw["absent"]))


def _evened(counts: Counts, whole: Counts) -> tuple[int, ...]:
    means = (total / max(rows, 1) for total, rows in zip(whole.sums, whole.cells, strict=True))
    return tuple(round(rows * mean) for rows, mean in zip(counts.cells, means, strict=False))


def _with_depth(reference: Reference, raw: dict[str, Any]) -> Reference:  # Any: JSON values
    deep: dict[str, Any] = {}
    if raw["history"] is not None:
        deep["history"] = histories.from_plain(raw["history"])
        _check_history(deep["history"], reference)
    if raw["sample"] is not None:
        deep["sample"] = Sample.from_plain(raw["sample"])
        _check_sample(deep["sample"], reference)
    if raw["calibration"] is not None:
        from tasks.core.drift.chance.calibration import Calibration

        deep["calibration"] = Calibration.from_plain(raw["calibration"])
    if raw["insight"] is not None:
        from tasks.core.drift.matters.insight import from_plain

        deep["insight"] = from_plain(raw["insight"])
    return replace(reference, **deep)


def _check_history(history: History, reference: Reference) -> None:
    bins = {cell.name: cell for cell in reference.bins}
    inputs = {name for name in bins if not name.startswith(SCORE)}
    if history.reference_id != reference.id or not inputs <= history.features.keys() <= bins.keys():
        raise ValueError("a history of another reference")
    whole = int(history.rows.sum()) == reference.profile.rows
    for name, table in history.features.items():
        cell, held = bins[name], reference.profile.features[name]
        if history.widths[name] != cell.cells or table.shape[1] != HEAD + cell.cells + len(held.sums):
            raise ValueError("a history of other cells than the reference's")
        # Where the oldest blocks were left out, the rest holds less, and of the sums nothing can be said.
        total = table.sum(axis=0)
        mine = np.array([held.rows, held.nulls, held.infinite, held.unreadable, held.unseen, *held.cells])
        counted = total[: len(mine)]
        exact = bool((counted == mine).all()) and tuple(total[len(mine) :].tolist()) == held.sums
        if not (exact if whole else bool((counted <= mine).all())):
            raise ValueError("a history that does not add up to its reference")


def _check_sample(sample: Sample, reference: Reference) -> None:
    inputs = [cell for cell in reference.bins if not cell.name.startswith(SCORE)]
    if sample.names != tuple(cell.name for cell in inputs):
        raise ValueError("a sample of another reference")
    most = min(MOST_ROWS, reference.profile.rows)
    if len(sample) > most or (sample.codes >= np.array([cell.cells for cell in inputs])).any():
        raise ValueError("a sample of cells that the reference does not have")


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no count")
    return value


def _tuples(item: dict[str, Any]) -> dict[str, Any]:  # Any: JSON values
    return {name: tuple(value) if isinstance(value, list) else value for name, value in item.items()}
