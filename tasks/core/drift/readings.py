"""Every measure read on every feature of a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.chance.many import MIN_VALUES
from tasks.core.drift.counting.bins import Bins
from tasks.core.drift.measures.base import Aspect, Measure, Pair, Reading
from tasks.core.drift.measures.registry import MEASURES
from tasks.core.drift.profile import Profile, Reference
from tasks.core.drift.results import OuterTest

ASPECTS = {measure.name: measure.aspect for measure in MEASURES}
Row = Mapping[str, Reading]
Dispersions = Mapping[str, Mapping[Aspect, Dispersion]]


@dataclass(frozen=True)
class Read:
    """One feature's counts and what every measure of its kind read there, by the measure's name."""

    pair: Pair
    row: Row


def read_all(
    reference: Reference,
    against: Profile,
    profile: Profile,
    *,
    dispersions: Dispersions,
    tests: Mapping[str, OuterTest] | None,
) -> dict[str, Read]:
    """Return what is read of every feature that the profile knows; scores it may not know.

    Args:
        reference: The champion's.
        against: The counts compared with.
        profile: The window's.
        dispersions: By feature and aspect.
        tests: By feature, tests made elsewhere.
    """
    found = {}
    for bins in reference.bins:
        if bins.name not in profile.features:  # the window was not scored
            continue
        pair = _pair(bins, reference, against, profile, dispersions.get(bins.name, {}))
        row = {m.name: _read(m, pair) for m in MEASURES if bins.kind in m.kinds}
        found[bins.name] = Read(pair, row if tests is None else _with_outer(row, tests.get(bins.name)))
    return found


def _pair(
    bins: Bins,
    reference: Reference,
    against: Profile,
    profile: Profile,
    dispersions: Mapping[Aspect, Dispersion],
) -> Pair:
    origin = reference.profile.features[bins.name]
    before = against.features.get(bins.name, origin)
    return Pair(bins, before, profile.features[bins.name], dispersions, origin)


def _read(measure: Measure, pair: Pair) -> Reading:
    for where, counts in (("reference", pair.reference), ("window", pair.current)):
        if measure.aspect in {"distribution", "unseen"} and counts.values < MIN_VALUES:
            return Reading(None, note=f"{counts.values} values in the {where}, {MIN_VALUES} are needed")
    return measure.read(pair)


def _with_outer(row: dict[str, Reading], test: OuterTest | None) -> dict[str, Reading]:
    if test is None:
        return row
    kept = {n: replace(r, p_value=None) if ASPECTS[n] == "distribution" else r for n, r in row.items()}
    if not 0 <= test.p_value <= 1:  # NaN is not
        note = f"the detector gave p = {test.p_value}"
        return {n: Reading(None, note=note) if ASPECTS[n] == "distribution" else r for n, r in kept.items()}
    ours = kept[test.measure]
    return {**kept, test.measure: replace(ours, p_value=test.p_value, statistic=test.statistic)}
