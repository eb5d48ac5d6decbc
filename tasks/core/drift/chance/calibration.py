"""The level at which a whole check alarms as often as budgeted, learnt from the reference by resampling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from tasks.core.drift.chance.benjamini_hochberg import adjusted
from tasks.core.drift.chance.between import dispersions
from tasks.core.drift.chance.dispersion import Dispersion
from tasks.core.drift.chance.leave_out import left_out
from tasks.core.drift.chance.many import Many
from tasks.core.drift.chance.resample import Urn
from tasks.core.drift.measures.base import Aspect
from tasks.core.drift.measures.registry import MEASURES
from tasks.core.drift.past.calendar import Pattern, slot_of

if TYPE_CHECKING:
    from tasks.core.drift.counting.bins import Bins
    from tasks.core.drift.past.history import History
    from tasks.core.drift.profile import Reference

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Dispersions = Mapping[str, Mapping[Aspect, Dispersion]]

SIZES = (50, 150, 500, 1_500, 5_000, 20_000, 100_000, 1_000_000)
RESAMPLES = 300  # our choice: the level is then the third smallest of them at a budget of 0.01
LOWEST = 0.01  # of the budget: one odd day in the reference must not blind every later check
MOST_FEATURES = 40  # that are drawn; further ones take part with the draws of the most similar of them
MOST_ALIKE = 160  # features more that take part with the draws of one that is like them
MOST_BLOCKWISE = 300  # features, the most dispersed, of which blocks are left out
_ASPECT = {measure.name: measure.aspect for measure in MEASURES}


@dataclass(frozen=True)
class Calibration:
    """What was learnt from a reference about windows without drift.

    Attributes:
        budget: Share of undrifted checks that may alarm.
        sizes: Rows of a window, rising.
        levels: The level for each, between a hundredth of the budget and the budget.
        dispersions: By feature and aspect; within the calendar's slots where there is a pattern. A feature or
            aspect that is not here has independent rows.
        pattern: none, weekday, hour or weekday_hour.
        pattern_reason: For people.
        resamples: How many checks without drift a level was learnt from.
        blockwise: Whether blocks of the history were left out as well, because rows are not independent.
        seed: Of the draws.
        overall: The dispersions across all slots, where there is a pattern and a window is compared with
            everything all the same.
    """

    budget: float
    sizes: tuple[int, ...]
    levels: tuple[float, ...]
    dispersions: Dispersions = field(default_factory=dict)
    pattern: str = "none"
    pattern_reason: str = ""
    resamples: int = 0
    blockwise: bool = False
    seed: int = 0
    overall: Dispersions = field(default_factory=dict)

    def level(self, n: int) -> float:
        """Return the level for a window of n rows: between two sizes the stricter.

        Example:
            >>> Calibration(0.01, (50, 500), (0.004, 0.008)).level(100)
            0.004
        """
        above = int(np.searchsorted(self.sizes, n))
        near = self.levels[max(above - 1, 0) : above + 1] if n not in self.sizes else (self.levels[above],)
        return min(near)

    def to_plain(self) -> dict[str, Any]:  # Any: JSON values
        """Return the calibration as JSON values."""
        return {
            "budget": self.budget,
            "sizes": list(self.sizes),
            "levels": list(self.levels),
            "dispersions": _to_plain(self.dispersions),
            "pattern": self.pattern,
            "pattern_reason": self.pattern_reason,
            "resamples": self.resamples,
            "blockwise": self.blockwise,
            "seed": self.seed,
            "overall": _to_plain(self.overall),
        }

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Calibration:  # Any: JSON values
        """Return the calibration that `to_plain` wrote.

        Raises:
            ValueError: when it is something else.
        """
        sizes, levels, budget = tuple(raw["sizes"]), tuple(raw["levels"]), raw["budget"]
        rising = all(isinstance(size, int) and size > 0 for size in sizes) and list(sizes) == sorted({*sizes})
        fit = len(sizes) == len(levels) > 0 and all(0 < level <= budget < 1 for level in levels)
        if not rising or not fit:
            raise ValueError("levels that no calibration has")
        return cls(
            float(budget),
            sizes,
            levels,
            _from_plain(raw["dispersions"]),
            str(raw["pattern"]),
            str(raw["pattern_reason"]),
            int(raw["resamples"]),
            bool(raw["blockwise"]),
            int(raw["seed"]),
            _from_plain(raw["overall"]),
        )


def calibrate(
    reference: Reference,
    history: History | None,
    *,
    budget: float,
    pattern: Pattern = "none",
    pattern_reason: str = "",
    seed: int = 0,
) -> Calibration:
    """Return what the reference teaches about windows without drift.

    References and windows of eight sizes are drawn from the reference's cells, rows independently. Where the
    history shows that they are not, each of its blocks is also left out once and compared with the others.
    Of every such check the level is noted from which it would alarm: by a test of Benjamini and Hochberg's
    that rejects, in an aspect whose effect is large enough to matter. The level learnt is the
    floor(budget (checks + 1))-th smallest, at least the smallest, and never above the budget itself, which
    holds already for exact independent tests.

    Args:
        reference: Its cells and their counts are used.
        history: Of the reference; None where it has none.
        budget: Share of undrifted checks that may alarm.
        pattern: In which blocks are compared within their slot of the calendar.
        pattern_reason: Kept, for people.
        seed: Of the draws.
    """
    slots = _slots(history, pattern)
    within = _dispersions(reference, history, slots)
    overall = {} if slots is None else _dispersions(reference, history, None)
    rng = np.random.default_rng(seed)
    drawn = _drawn(reference, budget, rng)
    blockwise = history is not None and bool(within)
    if history is not None and blockwise:
        blocks = _block_level(reference, history, slots, within, budget)
        drawn = [min(level, blocks) for level in drawn]
    levels = tuple(float(np.clip(level, LOWEST * budget, budget)) for level in drawn)
    checks = RESAMPLES + (len(history) if history is not None and blockwise else 0)
    return Calibration(
        budget, SIZES, levels, within, pattern, pattern_reason, checks, blockwise, seed, overall
    )


def alarm_levels(checks: Sequence[Many], budget: float) -> Floats:
    """Return, per check, the level from which it alarms, and 1 where that is above the budget.

    Args:
        checks: One per feature, of equally many pairs each: pair i of every feature is check i.
        budget: Levels above it are of no interest.
    """
    tests, columns = [], []
    for place, many in enumerate(checks):
        for name, p_values in many.p_values().items():
            tests.append((place, name))
            columns.append(p_values)
    levels = adjusted(np.stack(columns, axis=1))
    found = np.ones(len(levels))
    loud: dict[tuple[int, int, Aspect], bool] = {}
    for check, test in zip(*np.nonzero(levels <= budget), strict=True):
        place, name = tests[test]
        case = (int(check), place, _ASPECT[name])
        if case not in loud:
            loud[case] = _matters(checks[place], case[0], case[2])
        if loud[case]:
            found[check] = min(found[check], levels[check, test])
    return found


def _matters(many: Many, place: int, aspect: Aspect) -> bool:
    pair = many.pair(place)
    mine = [m for m in MEASURES if m.aspect == aspect and pair.bins.kind in m.kinds]
    found = [(m.read(pair).value, m.warn) for m in mine]
    return any(value is not None and value >= warn for value, warn in found)


def _drawn(reference: Reference, budget: float, rng: np.random.Generator) -> list[float]:
    kept, others = _most_different(reference)
    urns = [Urn(bins, reference.profile.features[bins.name], RESAMPLES, rng) for bins in kept]
    levels = []
    for size in SIZES:
        checks = [urn.window(size) for urn in urns]
        checks += [checks[place].shuffled(rng) for place in others]
        levels.append(_smallest(alarm_levels(checks, budget), budget))
    return levels


def _most_different(reference: Reference) -> tuple[list[Bins], list[int]]:
    """Return the features that are drawn, and for each of the others the place of one that is like it."""
    cells = sorted(reference.bins, key=lambda b: (b.kind, bool(b.values), b.cells, b.name))
    step = max(len(cells) / MOST_FEATURES, 1.0)
    picked = sorted({int(place * step) for place in range(min(len(cells), MOST_FEATURES))})
    nearest = np.searchsorted(picked, np.arange(len(cells)), side="right") - 1
    drawn = set(picked)
    others = [int(nearest[place]) for place in range(len(cells)) if place not in drawn]
    # How low the level of the worst of many tests lies hardly depends on how many there are.
    return [cells[place] for place in picked], others[:: max(math.ceil(len(others) / MOST_ALIKE), 1)]


def _block_level(
    reference: Reference, history: History, slots: Ints | None, within: Dispersions, budget: float
) -> float:
    slots = np.zeros(len(history), dtype=np.int64) if slots is None else slots
    known = [bins for bins in reference.bins if bins.name in history.features]
    known.sort(key=lambda b: -max((d.factor for d in within.get(b.name, {}).values()), default=1.0))
    checks = [left_out(b, history, slots, within.get(b.name)) for b in known[:MOST_BLOCKWISE]]
    return _smallest(alarm_levels(checks, budget), budget)


def _smallest(levels: Floats, budget: float) -> float:
    place = max(int(budget * (len(levels) + 1)), 1)
    return float(np.sort(levels)[place - 1])


def _slots(history: History | None, pattern: Pattern) -> Ints | None:
    if history is None or history.length is None or pattern == "none":
        return None
    length = history.length
    return np.array([slot_of(start, length, pattern) for start in history.starts], dtype=np.int64)


def _dispersions(reference: Reference, history: History | None, slots: Ints | None) -> Dispersions:
    """Return the dispersions; scores of unknown blocks are taken as dispersed as the worst feature."""
    if history is None:
        return {}
    found: dict[str, Mapping[Aspect, Dispersion]] = {**dispersions(reference, history, slots)}
    worst = max(
        (row["distribution"] for row in found.values() if "distribution" in row),
        key=lambda one: one.factor,
        default=None,
    )
    if worst is not None:
        for bins in reference.bins:
            if bins.name not in history.features:
                found[bins.name] = {"distribution": worst, "unseen": replace(worst, factor=worst.top)}
    return found


def _to_plain(found: Dispersions) -> dict[str, dict[str, dict[str, float]]]:
    return {name: {a: one.to_plain() for a, one in row.items()} for name, row in found.items()}


def _from_plain(raw: dict[str, Any]) -> Dispersions:  # Any: JSON values
    if not all(aspect in get_args(Aspect) for row in raw.values() for aspect in row):
        raise ValueError("a dispersion of something else")
    return {name: {a: Dispersion.from_plain(one) for a, one in row.items()} for name, row in raw.items()}
