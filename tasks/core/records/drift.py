"""What a drift check found, the features that moved most first, and how they look now."""

from __future__ import annotations

import re

from tasks.core.drift.results import DriftVerdict, FeatureVerdict
from tasks.core.drift.shape import Shape, excess, loudest, worst_first
from tasks.core.records.drawing import gauge, image, shape_svg
from tasks.core.records.drift_story import drift_story
from tasks.core.records.drift_words import named, told
from tasks.core.records.text import Ready, bullets, code, folded, link, number, said, table, title
from tasks.core.spec import ModelSpec
from tasks.core.window import Window

MOST = 10  # rows of the first table; our choice: what one reads without scrolling
_FIRST = {"drift": 0, "warn": 1, "undecided": 2, "ok": 3}
_DETAILED = 50  # features whose measures are listed; an artifact of many thousands opens in no browser


def drift_markdown(
    spec: ModelSpec, verdict: DriftVerdict, window: Window | None = None, *, report: str = ""
) -> str:
    """Return the verdict in words, the features that moved most, drawn before and after, and every measure.

    Args:
        spec: The model.
        verdict: Of the window.
        window: The window, where it is known.
        report: Where the whole report stands, a path or an address.
    """
    lines = [title(spec, verdict.outcome), "", said(" ".join(drift_story(spec, verdict, window))), ""]
    if verdict.features:
        lines += [*_features(verdict), ""]
    lines += [*_report(report), *bullets(_numbers(verdict)), ""]
    for shape in verdict.shapes:
        lines += [f"### {said(named(shape.feature))}", "", image(shape_svg(shape), _alt(shape)), ""]
    if verdict.compared:
        lines += [*folded("Beside alibi-detect", _compared(verdict)), ""]
    if verdict.features:
        lines += folded("Every measure of every feature", _measures(verdict))
    return "\n".join(lines)


def _report(report: str) -> list[str]:
    if not report:
        return []
    shown = link("The whole report", report) if re.match(r"https?://", report) else None
    return [shown or f"The whole report: {code(report)}", ""]


def _numbers(verdict: DriftVerdict) -> list[str]:
    rows = f"{verdict.rows:,} rows against {verdict.reference_rows:,} of {verdict.against}"
    enough = verdict.needed is not None and all(feature.resolvable for feature in verdict.features)
    needed = f"; {verdict.needed:,} would do for every feature" if enough else ""
    level = f", reached at a level of {number(verdict.level)}" if verdict.level is not None else ""
    budget = (
        f"detector {verdict.detector}, false alarms budgeted at {verdict.false_alarms:g} per check{level}"
    )
    lines = [rows + needed, budget]
    if verdict.calibration:
        lines.append(verdict.calibration)
    if verdict.reason:
        lines.append(told(verdict.reason))
    if verdict.harm is not None and verdict.harm.limit:
        lines.append(f"of the estimate: {verdict.harm.limit}")
    return lines


def _features(verdict: DriftVerdict) -> list[str]:
    shown = worst_first(verdict)
    impacts = {one.feature: one for one in verdict.impacts}
    head = ["feature", "verdict", "measure", "value", "limit", "rows", "against its limit"]
    rows = [_feature(one) for one in shown[:MOST]]
    if impacts:
        head += ["importance", "impact"]
        found = [impacts.get(one.feature) for one in shown[:MOST]]
        more = [(number(one.importance), number(one.impact)) if one else ("–", "–") for one in found]
        rows = [(*row, *two) for row, two in zip(rows, more, strict=True)]
    left = len(shown) - MOST
    return [*table(head, rows), *(["", f"and {left:,} more, none of them further out"] if left > 0 else [])]


def _feature(feature: FeatureVerdict) -> tuple[object, ...]:
    found = loudest(feature)
    if found is None:
        return (named(feature.feature), feature.outcome, "–", "–", "–", "–", told(feature.reason))
    drawn = Ready(f"`{gauge(excess(found))}`")
    value, limit = number(found.value), number(found.threshold)
    name = named(feature.feature)
    return (name, feature.outcome, found.measure, value, limit, f"{found.n_current:,}", drawn)


def _alt(shape: Shape) -> str:
    """Return the largest change in words, for a reader whose page shows no image."""
    changes = [new - old for old, new in zip(shape.reference, shape.current, strict=True)]
    if not changes:
        return named(shape.feature)
    place = max(range(len(changes)), key=lambda at: abs(changes[at]))
    return (
        f"{named(shape.feature)}, largest change: {shape.labels[place]}, "
        f"{shape.reference[place]:.1%} before, {shape.current[place]:.1%} now"
    )


def _compared(verdict: DriftVerdict) -> list[str]:
    rows = [
        (named(c.feature), c.measure, number(c.ours), number(c.theirs), "yes" if c.agree else Ready("**no**"))
        for c in verdict.compared[:_DETAILED]
    ]
    return table(("feature", "test", "our p-value", "theirs", "same conclusion"), rows)


def _measures(verdict: DriftVerdict) -> list[str]:
    shown = worst_first(verdict)[:_DETAILED]
    results = [(result, feature) for feature in shown for result in feature.measures]
    results.sort(key=lambda pair: (_FIRST[pair[0].outcome], pair[0].feature, pair[0].measure))
    rows = [
        (
            *(named(r.feature), r.measure, r.outcome, number(r.value), number(r.threshold)),
            *(number(r.p_value), number(r.alpha), f"{r.n_current:,}", number(r.dispersion)),
            "–" if feature.needed is None else f"{feature.needed:,}",
            told(r.reason),
        )
        for r, feature in results
    ]
    head = (
        *("feature", "measure", "outcome", "value", "threshold", "p-value", "level", "rows", "dispersion"),
        *("rows needed", "reason"),
    )
    left = len(verdict.features) - len(shown)
    more = ["", f"of the {len(shown)} worst features; {left:,} more are in the store"] if left > 0 else []
    return [*table(head, rows), *more]
