"""What stands on the page of a drift report, chosen and ranked: numbers and words, no markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.core.drift.results import DriftVerdict, FeatureVerdict, MeasureResult
from tasks.core.drift.shape import excess, loudest, worst_first
from tasks.core.records.drift_calendar import Calendar, calendar_of
from tasks.core.records.drift_chart import MOST as LINES
from tasks.core.records.drift_chart import Trend, trends
from tasks.core.records.drift_rows import FeatureCheck, PastVerdict, feature_rows
from tasks.core.records.drift_story import drift_story
from tasks.core.records.drift_words import changes_of, inputs_of, named, told, when
from tasks.core.spec import ModelSpec
from tasks.core.window import Window

if TYPE_CHECKING:
    from tasks.core.drift.matters.harm import Harm, Impact

MOST = 50  # features on the page; our choice: more is a database's work, and the store has them all
_RANK = {"drift": 0, "warn": 1, "undecided": 2, "ok": 3}


@dataclass(frozen=True)
class Bar:
    """One label of a distribution: shares of the rows before and now, and lengths of the bars (0 to 100)."""

    label: str
    before: float
    now: float
    length_before: float
    length_now: float


@dataclass(frozen=True)
class Picture:
    """A feature's distribution before and now, with what changed in words."""

    name: str
    words: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class FeatureLine:
    """A feature in the ranking; `times` is the measure's value as a multiple of its limit."""

    name: str
    outcome: str
    measure: str
    value: float | None
    limit: float | None
    times: float | None
    importance: float | None
    moved: float | None
    effect: float | None
    impact: float | None
    reason: str


@dataclass(frozen=True)
class MeasureLine:
    """One measure of one feature; `needed` counts the rows from which a change at the limit is found."""

    name: str
    result: MeasureResult
    needed: int | None
    reason: str


@dataclass(frozen=True)
class Gauge:
    """Where an estimate and its promise stand on one scale, from 0 to 100."""

    low: float
    expected: float
    high: float
    promised: float | None


@dataclass(frozen=True)
class DriftPage:
    """Everything the page shows; `hidden` counts the features that it leaves out."""

    model: str
    span: str
    verdict: DriftVerdict
    story: tuple[str, ...]
    inputs: int
    pictures: tuple[Picture, ...]
    features: tuple[FeatureLine, ...]
    measures: tuple[MeasureLine, ...]
    hidden: int
    trends: tuple[Trend, ...]
    calendar: Calendar
    gauge: Gauge | None
    ranked: bool  # by impact on the model, where any is known


def drift_page(
    spec: ModelSpec,
    verdict: DriftVerdict,
    window: Window,
    *,
    past: Sequence[PastVerdict] = (),
    history: Sequence[FeatureCheck] = (),
    version: int | None = None,
) -> DriftPage:
    """Return what the page of this verdict shows.

    Args:
        spec: The model.
        verdict: Of the window.
        window: That was checked.
        past: Verdicts of earlier windows, oldest first; one of this window gives way to the verdict.
        history: Rows of features in those windows.
        version: Whose reference this is; windows of others are shown, and do not count for what is next.
    """
    mine = PastVerdict(window, version, verdict.outcome, verdict.reason, verdict.drifted)
    earlier = [one for one in past if one.window != window]
    rows = [one for one in history if one.window != window]
    rows += [FeatureCheck(window, version, row) for row in feature_rows(verdict)]
    worst = worst_first(verdict)
    shown = worst[:MOST]
    lines = _ranked(verdict, shown)
    return DriftPage(
        model=spec.name,
        span=when(window),
        verdict=verdict,
        story=drift_story(spec, verdict, window, past=[one for one in earlier if one.version == version]),
        inputs=len(inputs_of(verdict)),
        pictures=_pictures(verdict),
        features=lines,
        measures=_measures(shown),
        hidden=len(worst) - len(shown),
        trends=trends(rows, [one.feature for one in worst[:LINES]]),
        calendar=calendar_of([*earlier, mine]),
        gauge=_gauge(verdict.harm),
        ranked=any(line.impact is not None for line in lines),
    )


def watched(verdict: DriftVerdict) -> list[str]:
    """Return the features whose history the page draws, so that no more than theirs need be read."""
    return [one.feature for one in worst_first(verdict)[:LINES]]


def _ranked(verdict: DriftVerdict, shown: Sequence[FeatureVerdict]) -> tuple[FeatureLine, ...]:
    """Return the features by impact, then as they came: the loudest first."""
    impacts = {one.feature: one for one in verdict.impacts}
    lines = [_line(one, impacts.get(one.feature)) for one in shown]
    return tuple(sorted(lines, key=lambda line: -(line.impact if line.impact is not None else -1.0)))


def _line(feature: FeatureVerdict, impact: Impact | None) -> FeatureLine:
    found = loudest(feature)
    return FeatureLine(
        name=named(feature.feature),
        outcome=feature.outcome,
        measure=found.measure if found else "",
        value=found.value if found else None,
        limit=found.threshold if found else None,
        times=excess(found) if found else None,
        importance=impact.importance if impact else None,
        moved=impact.moved if impact else None,
        effect=impact.effect if impact else None,
        impact=impact.impact if impact else None,
        reason=told(feature.reason),
    )


def _measures(shown: Sequence[FeatureVerdict]) -> tuple[MeasureLine, ...]:
    lines = [
        MeasureLine(named(one.feature), one, feature.needed, told(one.reason))
        for feature in shown
        for one in feature.measures
    ]
    return tuple(sorted(lines, key=lambda line: (_RANK[line.result.outcome], -excess(line.result))))


def _pictures(verdict: DriftVerdict) -> tuple[Picture, ...]:
    words = changes_of(verdict)
    pictures = []
    for shape in verdict.shapes:
        most = max((*shape.reference, *shape.current), default=0.0) or 1.0
        bars = tuple(
            Bar(label, old, new, round(100 * old / most, 1), round(100 * new / most, 1))
            for label, old, new in zip(shape.labels, shape.reference, shape.current, strict=True)
        )
        pictures.append(Picture(named(shape.feature), words[shape.feature], bars))
    return tuple(pictures)


def _gauge(harm: Harm | None) -> Gauge | None:
    if harm is None or harm.expected is None or harm.low is None or harm.high is None:
        return None
    ends = [harm.low, harm.high, *([harm.promised] if harm.promised is not None else [])]
    pad = 0.15 * (max(ends) - min(ends)) or 1.0
    first, room = min(ends) - pad, max(ends) - min(ends) + 2 * pad

    def place(x: float) -> float:
        return round(100 * (x - first) / room, 1)

    promised = None if harm.promised is None else place(harm.promised)
    return Gauge(place(harm.low), place(harm.expected), place(harm.high), promised)
