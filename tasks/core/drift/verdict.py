"""The verdict on a window: has it drifted from the reference, by how much, and could chance explain it?

A feature drifts when two things hold. *It is not chance*: one of its tests rejects at `drift.false_alarms`
shared among all tests of the window by Holm's step-down procedure, so that an undrifted window alarms no
more often than that, whatever the number of features and however they depend on each other. *It matters*:
one of its effect sizes passes the measure's limit, so that a million rows do not make a hair's breadth an
alarm. Between the limits `warn` and `drift` the verdict is `warn`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tasks.core.drift.bins import Bins
from tasks.core.drift.holm import Level, share_budget
from tasks.core.drift.measures.base import Measure, Pair, Reading
from tasks.core.drift.measures.registry import MEASURES
from tasks.core.drift.profile import SCORE, Profile, Reference
from tasks.core.drift.shape import Shape
from tasks.core.errors import DriftError
from tasks.core.spec import ModelSpec

Outcome = Literal["ok", "warn", "drift", "undecided"]
MIN_VALUES = 20  # of a feature in either sample; our choice: four groups that expect five rows each
_RANK = {"ok": 0, "undecided": 1, "warn": 2, "drift": 3}


@dataclass(frozen=True)
class MeasureResult:
    """What one measure says about one feature.

    Attributes:
        measure: Name in the registry.
        feature: Column, or `__score__`.
        value: Effect size in the measure's own unit; None when it cannot be told.
        direction: Which values mean drift.
        threshold: Effect size from which a significant difference is drift.
        p_value: Of the measures that are tests.
        alpha: Level the p-value was held against: the budget's share after Holm.
        statistic: The test's own, uncorrected.
        n_reference: Rows behind the reference side.
        n_current: Rows behind the current side.
        outcome: ok, warn, drift or undecided.
        reason: One clause on how the outcome came about.
    """

    measure: str
    feature: str
    value: float | None
    direction: Literal["higher"]
    threshold: float
    p_value: float | None
    alpha: float | None
    statistic: float | None
    n_reference: int
    n_current: int
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class FeatureVerdict:
    """What all measures together say about one feature."""

    feature: str
    outcome: Outcome
    reason: str
    measures: tuple[MeasureResult, ...]


@dataclass(frozen=True)
class DriftVerdict:
    """Whether a window drifted from the champion's reference.

    `drifted` names features only; the model's own scores are told apart in `score_drifted`, and
    `score_outcome` says whether they could be judged at all. `features` holds both, `shapes` what moved most.
    """

    outcome: Outcome
    reason: str
    features: tuple[FeatureVerdict, ...]
    drifted: tuple[str, ...]
    score_drifted: bool
    rows: int
    false_alarms: float
    reference_rows: int = 0
    detector: str = "tabular"
    shapes: tuple[Shape, ...] = ()

    @property
    def score_outcome(self) -> Outcome:
        """The verdict on the scores alone; undecided when the window was not scored."""
        return _worst([f.outcome for f in self.features if f.feature.startswith(SCORE)])

    def to_dict(self) -> dict[str, Any]:  # Any: JSON values
        """Return the verdict as values that JSON can hold."""
        return asdict(self)


@dataclass(frozen=True)
class OuterTest:
    """A test of one feature that was made elsewhere and replaces our own of that name."""

    measure: str
    statistic: float
    p_value: float


def judge(
    reference: Reference,
    profile: Profile,
    spec: ModelSpec,
    *,
    tests: Mapping[str, OuterTest] | None = None,
    detector: str = "tabular",
) -> DriftVerdict:
    """Return the verdict on the window that `profile` counted.

    Args:
        reference: The champion's.
        profile: The window's, counted in that reference's cells.
        spec: Of which `drift.false_alarms` and `drift.min_rows` are used.
        tests: By feature, a test made elsewhere, before which our own of its distribution give way.
        detector: Who made the tests.

    Raises:
        DriftError: when the profile was counted against another reference.
    """
    if profile.reference_id != reference.id:
        raise DriftError(
            "a profile of another reference",
            "the profile and the reference of one version",
            "profile the window against the champion's reference",
            model=spec.name,
        )
    few = _too_few(reference.profile.rows, profile.rows, spec.drift.min_rows)
    readings = {} if few else _read_all(reference, profile, tests)
    levels = share_budget(
        {(f, m): r.p_value for f, row in readings.items() for m, r in row.items() if r.p_value is not None},
        spec.drift.false_alarms,
    )
    pairs = {b.name: _pair(b, reference, profile) for b in reference.bins if b.name in readings}
    features = tuple(_judge_feature(pairs[name], row, levels) for name, row in readings.items())
    inputs = [f for f in features if not f.feature.startswith(SCORE)]
    scores = [f for f in features if f.feature.startswith(SCORE)]
    return DriftVerdict(
        outcome="undecided" if few else _overall(features),
        reason=few or _explain(features, profile.absent),
        features=features,
        drifted=tuple(f.feature for f in inputs if f.outcome == "drift"),
        score_drifted=any(f.outcome == "drift" for f in scores),
        rows=profile.rows,
        false_alarms=spec.drift.false_alarms,
        reference_rows=reference.profile.rows,
        detector=detector,
    )


def _too_few(n: int, m: int, needed: int) -> str:
    if m < needed:
        return f"{m} rows in the window; at least {needed} are needed for a verdict"
    if n < needed:
        return f"{n} rows in the reference; at least {needed} are needed for a verdict"
    return ""


def _pair(bins: Bins, reference: Reference, profile: Profile) -> Pair:
    return Pair(bins, reference.profile.features[bins.name], profile.features[bins.name])


def _read_all(
    reference: Reference, profile: Profile, tests: Mapping[str, OuterTest] | None
) -> dict[str, dict[str, Reading]]:
    readings = {}
    for bins in reference.bins:
        if bins.name not in profile.features:  # the window was not scored
            continue
        pair = _pair(bins, reference, profile)
        row = {m.name: _read(m, pair) for m in MEASURES if bins.kind in m.kinds}
        readings[bins.name] = row if tests is None else _with_outer(row, tests.get(bins.name))
    return readings


def _read(measure: Measure, pair: Pair) -> Reading:
    for where, counts in (("reference", pair.reference), ("window", pair.current)):
        if measure.aspect in {"distribution", "unseen"} and counts.values < MIN_VALUES:
            return Reading(None, note=f"{counts.values} values in the {where}, {MIN_VALUES} are needed")
    return measure.read(pair)


def _with_outer(row: dict[str, Reading], test: OuterTest | None) -> dict[str, Reading]:
    aspects = {m.name: m.aspect for m in MEASURES}
    if test is None:
        return row
    kept = {n: replace(r, p_value=None) if aspects[n] == "distribution" else r for n, r in row.items()}
    if not 0 <= test.p_value <= 1:  # NaN is not
        note = f"the detector gave p = {test.p_value}"
        return {n: Reading(None, note=note) if aspects[n] == "distribution" else r for n, r in kept.items()}
    ours = kept[test.measure]
    return {**kept, test.measure: replace(ours, p_value=test.p_value, statistic=test.statistic)}


def _judge_feature(
    pair: Pair, row: Mapping[str, Reading], levels: Mapping[tuple[str, str], Level]
) -> FeatureVerdict:
    name = pair.bins.name
    used = [m for m in MEASURES if m.name in row]
    mine = {m.name: levels[name, m.name] for m in used if (name, m.name) in levels}
    proven = {m.aspect for m in used if m.name in mine and mine[m.name].rejects}
    untested = _differs(row) and not any(m.name in mine for m in used if m.aspect == "distribution")
    results = []
    for measure in used:
        reading = row[measure.name]
        outcome, reason = _level(measure, reading, proven=measure.aspect in proven)
        if untested and measure.aspect == "distribution" and outcome == "ok":
            outcome, reason = "undecided", reading.note or "it differs, and no test could be made of it"
        level = mine.get(measure.name)
        results.append(_result(pair, measure, reading, level, (outcome, reason)))
    return _sum_up(name, tuple(results))


def _result(
    pair: Pair, measure: Measure, reading: Reading, level: Level | None, said: tuple[Outcome, str]
) -> MeasureResult:
    of_rows = measure.aspect in {"missing", "invalid"}
    return MeasureResult(
        measure=measure.name,
        feature=pair.bins.name,
        value=reading.value,
        direction="higher",
        threshold=measure.drift,
        p_value=reading.p_value,
        alpha=level.alpha if level else None,
        statistic=reading.statistic,
        n_reference=pair.reference.rows if of_rows else pair.reference.values,
        n_current=pair.current.rows if of_rows else pair.current.values,
        outcome=said[0],
        reason=said[1],
    )


def _differs(row: Mapping[str, Reading]) -> bool:
    """Whether any distribution measure saw a difference at all: two equal constants need no test."""
    distribution = [m.name for m in MEASURES if m.aspect == "distribution" and m.name in row]
    return any((row[name].value or 0) > 0 for name in distribution)


def _level(measure: Measure, reading: Reading, *, proven: bool) -> tuple[Outcome, str]:
    if reading.value is None:
        return "undecided", reading.note
    size = f"{measure.name} {reading.value:.3g}" + (f" ({reading.note})" if reading.note else "")
    if reading.value < measure.warn:
        return "ok", f"{size} is below {measure.warn:g}"
    if not proven:
        return "ok", f"{size} may be chance"
    if reading.value < measure.drift:
        return "warn", f"{size} is between {measure.warn:g} and {measure.drift:g}"
    return "drift", f"{size} is at least {measure.drift:g}"


def _sum_up(name: str, results: tuple[MeasureResult, ...]) -> FeatureVerdict:
    aspects = {m.name: m.aspect for m in MEASURES}
    loud = [r for r in results if r.outcome in {"drift", "warn"}]
    if loud:
        outcome = _worst([r.outcome for r in loud])
        reason = next(r.reason for r in loud if r.outcome == outcome)
        return FeatureVerdict(name, outcome, reason, results)
    distribution = [r for r in results if aspects[r.measure] == "distribution"]
    silent = [r for r in distribution if r.outcome == "undecided"]
    if len(silent) == len(distribution):
        return FeatureVerdict(name, "undecided", silent[0].reason, results)
    return FeatureVerdict(name, "ok", "no difference that matters and is not chance", results)


def _overall(features: tuple[FeatureVerdict, ...]) -> Outcome:
    """Return the worst outcome; a feature that cannot be judged speaks only when none can be.

    It is named in the reason all the same. A column that vanished is no such case: its missing share drifts.
    """
    judged = [f.outcome for f in features if f.outcome != "undecided"]
    return _worst(judged)


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    return max(outcomes, key=lambda outcome: _RANK[outcome], default="undecided")


_SAYS = {"drift": "drifted", "warn": "changed", "undecided": "could not be judged"}


def _explain(features: tuple[FeatureVerdict, ...], absent: tuple[str, ...]) -> str:
    parts = []
    inputs = [f for f in features if not f.feature.startswith(SCORE)]
    for outcome, says in _SAYS.items():
        found = [f for f in inputs if f.outcome == outcome]
        if found:
            named = "; ".join(f"{f.feature}: {f.reason}" for f in found[:3])
            more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
            parts.append(f"{len(found)} of {len(inputs)} features {says} ({named}{more})")
    scores = [f for f in features if f.feature.startswith(SCORE) and f.outcome in _SAYS]
    parts += [f"the model's score {_SAYS[f.outcome]} ({f.reason})" for f in scores[:1]]
    if absent:
        parts.append(f"columns absent from the window: {', '.join(absent[:5])}")
    return ". ".join(parts) or f"none of {len(inputs)} features differs by more than chance and matters"
