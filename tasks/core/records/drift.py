"""What a drift check found, the features that moved most first, and how they look now."""

from __future__ import annotations

import re

from tasks.core.drift.profile import SCORE
from tasks.core.drift.shape import Shape, excess, loudest, worst_first
from tasks.core.drift.verdict import DriftVerdict, FeatureVerdict
from tasks.core.records.drawing import gauge, image, shape_svg
from tasks.core.records.text import Ready, folded, number, said, table, title
from tasks.core.spec import ModelSpec

MOST = 10  # rows of the first table; our choice: what one reads without scrolling
_FIRST = {"drift": 0, "warn": 1, "undecided": 2, "ok": 3}


def drift_markdown(spec: ModelSpec, verdict: DriftVerdict) -> str:
    """Return the verdict, the features that moved most, drawn before and after, and every measure, folded."""
    budget = f"{verdict.rows:,} rows against {verdict.reference_rows:,} of the reference; "
    budget += f"detector {verdict.detector}, false alarms budgeted at {verdict.false_alarms:g} per check."
    lines = [title(spec, verdict.outcome), "", said(_told(verdict.reason)), "", said(budget), ""]
    if verdict.features:
        lines += [*_features(verdict), ""]
    for shape in verdict.shapes:
        lines += [f"### {said(_named(shape.feature))}", "", image(shape_svg(shape), _alt(shape)), ""]
    if verdict.features:
        lines += folded("Every measure of every feature", _measures(verdict))
    return "\n".join(lines)


def _features(verdict: DriftVerdict) -> list[str]:
    shown = worst_first(verdict)
    rows = [_feature(one) for one in shown[:MOST]]
    head = ("feature", "verdict", "measure", "value", "limit", "against its limit")
    left = len(shown) - MOST
    more = [f"and {left} more, none of them further out"] if left > 0 else []
    return [*table(head, rows), *(["", *more] if more else [])]


def _feature(feature: FeatureVerdict) -> tuple[object, ...]:
    found = loudest(feature)
    if found is None:
        return (_named(feature.feature), feature.outcome, "–", "–", "–", feature.reason)
    drawn = Ready(f"`{gauge(excess(found))}`")
    value, limit = number(found.value), number(found.threshold)
    return (_named(feature.feature), feature.outcome, found.measure, value, limit, drawn)


def _alt(shape: Shape) -> str:
    """Return the largest change in words, for a reader whose page shows no image."""
    changes = [new - old for old, new in zip(shape.reference, shape.current, strict=True)]
    if not changes:
        return _named(shape.feature)
    place = max(range(len(changes)), key=lambda at: abs(changes[at]))
    return (
        f"{_named(shape.feature)}, largest change: {shape.labels[place]}, "
        f"{shape.reference[place]:.1%} before, {shape.current[place]:.1%} now"
    )


def _measures(verdict: DriftVerdict) -> list[str]:
    results = [result for feature in verdict.features for result in feature.measures]
    results.sort(key=lambda r: (_FIRST[r.outcome], r.feature, r.measure))
    rows = [
        (
            _named(r.feature),
            r.measure,
            r.outcome,
            number(r.value),
            number(r.threshold),
            number(r.p_value),
            r.reason,
        )
        for r in results
    ]
    return table(("feature", "measure", "outcome", "value", "threshold", "p-value", "reason"), rows)


def _named(feature: str) -> str:
    """Return the feature as a reader knows it: the champion's own scores are no column of theirs."""
    if not feature.startswith(SCORE):
        return feature
    place = feature.removeprefix(SCORE)
    return f"the model's score of class {int(place) + 1}" if place.isdigit() else "the model's score"


def _told(reason: str) -> str:
    return re.sub(rf"{SCORE}\d*", lambda found: _named(found[0]), reason)
