"""What should keep happening to a model and has not, read from the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from sqlalchemy.engine import Engine

from tasks.core.health.staleness import PATIENCE, Stale, forgotten, judge_age, judge_gaps, judge_runs
from tasks.core.spec import ModelSpec
from tasks.core.window import parse_duration, utc
from tasks.store import alerts, checks, flow_runs, service, watermarks

PERIODIC = ("monitor", "detect_drift", "score")
"""Flows that run at intervals; the others run when something asks for them."""
_CHECKED_BY: dict[str, checks.Kind] = {"detect_drift": "drift", "monitor": "performance"}
_MOST_CHECKS = 1_000


def overdue(
    engine: Engine, spec: ModelSpec, as_of: datetime, *, trained: datetime | None = None, running: str = ""
) -> list[Stale]:
    """Return what was looked at, overdue or not, and what incidents call overdue and nobody expects any more.

    Args:
        engine: the store.
        spec: the model.
        as_of: now; what happened later is not seen.
        trained: when the champion was.
        running: the flow that asks, of which no run is missed.
    """
    moment, length = utc(as_of), parse_duration(spec.window.check)
    within = max(parse_duration(spec.slo.period), 12 * length)
    rhythms = flow_runs.rhythms(engine, spec.name, PERIODIC, moment, within=within)
    looked = [
        *_of_rows(engine, spec, moment),
        *_of_champion(spec, trained, moment),
        *_of_runs(engine, spec, moment, running, rhythms),
    ]
    told = [
        one.cause
        for one in alerts.history(engine, spec.name, open_only=True)
        if one.opened_at <= moment  # what opened later is not seen
    ]
    failing = [f"run of {one.flow}" for one in rhythms if one.failed_since]
    asking = [f"run of {running}", f"check of {_CHECKED_BY.get(running)}"]
    return [*looked, *forgotten(told, looked, [*failing, *asking])]


def _of_rows(engine: Engine, spec: ModelSpec, as_of: datetime) -> Iterator[Stale]:
    length, maturity = parse_duration(spec.window.check), parse_duration(spec.label.maturity)
    last = service.newest(engine, spec.name, as_of)
    limit = parse_duration(spec.slo.data_age) if spec.slo.data_age else PATIENCE * length
    data = _newest_row(engine, spec, last["event"], as_of)
    yield judge_age("data", data, limit, as_of, said="the newest row of the source")
    yield judge_age("predictions", last["prediction"], 2 * length, as_of, said="the last prediction")
    yield judge_age(
        "labels", last["label"], maturity + PATIENCE * length, as_of, said="the last label that was news"
    )


def _newest_row(
    engine: Engine, spec: ModelSpec, predicted: datetime | None, as_of: datetime
) -> datetime | None:
    """Return until when the source is known to have had rows.

    Of a window whose rows were checked only its end is known, up to a window too late.
    """
    known = [] if predicted is None else [predicted]
    mark = watermarks.get(engine, spec.name)
    if mark is not None and mark.moment <= as_of:
        known.append(mark.moment)
    for one in checks.recent(engine, spec.name, "data", _MOST_CHECKS, as_of):
        if one.summary.get("rows"):
            known.append(one.window.end)
    return max(known, default=None)


def _of_champion(spec: ModelSpec, trained: datetime | None, as_of: datetime) -> Iterator[Stale]:
    """A champion that is older than it may be says that the retraining for its age did not happen."""
    if spec.retrain.max_age not in (None, "never") and trained is not None:
        limit = parse_duration(spec.retrain.max_age) + parse_duration(spec.window.check)
        yield judge_age("champion", utc(trained), limit, as_of, said="the champion's training", tier="info")


def _of_runs(
    engine: Engine, spec: ModelSpec, as_of: datetime, running: str, rhythms: Iterable[flow_runs.Rhythm]
) -> Iterator[Stale]:
    length, maturity = parse_duration(spec.window.check), parse_duration(spec.label.maturity)
    period = parse_duration(spec.slo.period)
    judged = set()
    for one in rhythms:
        found = judge_runs(one.flow, one.succeeded, one.failed_since, as_of, least=length)
        if found is not None and one.flow != running:
            judged.add(one.flow)
            yield found
    for flow, kind in _CHECKED_BY.items():
        done = checks.recent(engine, spec.name, kind, _MOST_CHECKS, as_of)
        gaps = judge_gaps(kind, [one.window for one in done], length, as_of - period)
        if gaps is not None:
            yield gaps
        if flow in judged or flow == running:
            continue
        last = max((one.window.end for one in done), default=None)
        limit = PATIENCE * length + (maturity if kind == "performance" else 0 * length)
        yield judge_age(f"check of {kind}", last, limit, as_of, said=f"the last {kind} check")
