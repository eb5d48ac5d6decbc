"""The verdict on a window: has it drifted from the reference, by how much, and could chance explain it?

A feature drifts when two things hold. *It is not chance*: one of its tests rejects by Benjamini and
Hochberg's procedure over all tests of the window, at the level that the reference's calibration found to
alarm in no more than `drift.false_alarms` of undrifted checks. *It matters*: one of its effect sizes passes
the measure's limit, so that a million rows do not make a hair's breadth an alarm. Between the limits `warn`
and `drift` the verdict is `warn`. A feature without alarm in a window too small to show one is `undecided`,
and says how many values it would take; so is one whose windows differ so much, and are so few, that not even
a complete change could be told from chance. An effect far beyond its limit that cannot be told from chance is
at least `warn`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.core.drift.explain import explain, explain_level
from tasks.core.drift.judging import has_moved, judge_features, overall
from tasks.core.drift.measures.base import Reading
from tasks.core.drift.profile import SCORE, Profile, Reference
from tasks.core.drift.readings import Dispersions, read_all
from tasks.core.drift.results import (
    JOINT,
    Comparison,
    DriftVerdict,
    FeatureVerdict,
    MeasureResult,
    Outcome,
    OuterTest,
)
from tasks.core.drift.strength import strength_of
from tasks.core.errors import DriftError

if TYPE_CHECKING:
    from tasks.core.drift.past.calendar import Against
    from tasks.core.spec import ModelSpec

__all__ = [
    "JOINT",
    "Comparison",
    "DriftVerdict",
    "FeatureVerdict",
    "MeasureResult",
    "Outcome",
    "OuterTest",
    "judge",
]


def judge(
    reference: Reference,
    profile: Profile,
    spec: ModelSpec,
    *,
    against: Against | None = None,
    joint: Reading | None = None,
    tests: Mapping[str, OuterTest] | None = None,
    detector: str = "tabular",
    compared: Sequence[Comparison] = (),
) -> DriftVerdict:
    """Return the verdict on the window that `profile` counted.

    Args:
        reference: The champion's.
        profile: The window's, counted in that reference's cells.
        spec: Of which `drift.false_alarms` and `drift.min_rows` are used.
        against: What the window is compared with; by default all rows of the reference.
        joint: What a classifier of whole rows read; it joins the tests.
        tests: By feature, a test made elsewhere, before which our own of its distribution give way.
        detector: Who made the tests.
        compared: Our tests beside another library's, passed through.

    Raises:
        DriftError: when one of the profiles was counted against another reference.
    """
    rows = reference.profile if against is None else against.profile
    if {profile.reference_id, rows.reference_id} != {reference.id}:
        raise DriftError(
            "a profile of another reference",
            "the profile and the reference of one version",
            "profile the window against the champion's reference",
            model=spec.name,
        )
    few = _too_few(rows.rows, profile.rows, spec.drift.min_rows)
    level = _level_of(reference, profile.rows, spec.drift.false_alarms)
    features: tuple[FeatureVerdict, ...] = ()
    if not few:
        of_slots = against is not None and against.kind == "calendar"
        found = read_all(
            reference, rows, profile, dispersions=_dispersions(reference, of_slots=of_slots), tests=tests
        )
        features = judge_features(found, joint, level, spec.drift.false_alarms)
    inputs = [f for f in features if not f.feature.startswith((SCORE, JOINT))]
    scores = [f for f in features if f.feature.startswith(SCORE)]
    return DriftVerdict(
        outcome="undecided" if few else overall(features),
        reason=few or explain(features, profile.absent),
        features=features,
        drifted=tuple(f.feature for f in inputs if f.outcome == "drift"),
        score_drifted=any(f.outcome == "drift" for f in scores),
        rows=profile.rows,
        false_alarms=spec.drift.false_alarms,
        reference_rows=rows.rows,
        detector=detector,
        level=level,
        needed=max((f.needed for f in features if f.needed is not None), default=None),
        against="the champion's reference rows" if against is None else against.reason,
        against_kind="champion" if against is None else against.kind,
        calibration=explain_level(reference.calibration, level, spec.drift.false_alarms, profile.rows),
        compared=tuple(compared),
        strength=strength_of(features, level, spec.drift.false_alarms),
        inputs_moved=has_moved([f for f in features if not f.feature.startswith(SCORE)]),
        scores_moved=has_moved(scores),
    )


def _too_few(n: int, m: int, needed: int) -> str:
    if m < needed:
        return f"{m} rows in the window; at least {needed} are needed for a verdict"
    if n < needed:
        return f"{n} rows in the reference; at least {needed} are needed for a verdict"
    return ""


def _level_of(reference: Reference, rows: int, budget: float) -> float:
    """Return the level learnt for the budget; where the spec's budget was changed since, in proportion."""
    learnt = reference.calibration
    return budget if learnt is None else learnt.level(rows) * budget / learnt.budget


def _dispersions(reference: Reference, *, of_slots: bool) -> Dispersions:
    learnt = reference.calibration
    if learnt is None:
        return {}
    return learnt.dispersions if of_slots or learnt.pattern == "none" else learnt.overall
