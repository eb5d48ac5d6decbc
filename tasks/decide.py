"""From what a check found to a decision on record."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.states import State

from tasks.clock import now_or
from tasks.core.dataset import Dataset
from tasks.core.drift.results import DriftVerdict
from tasks.core.errors import ContractError
from tasks.core.labels.late import LOOK_BACK, Judged, reopened
from tasks.core.policy.decision import Decision, Evidence, decide
from tasks.core.records.drift_rows import feature_rows
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.log import task_logger
from tasks.run_state import completed
from tasks.settings import Settings
from tasks.store import checks, ledger, service
from tasks.store.coverage import heard_of
from tasks.store.engine import open_store
from tasks.store.labels import labels_record


class Verdict(Protocol):
    """What every verdict has: an outcome with its reason, and a summary that JSON can hold."""

    @property
    def outcome(self) -> str: ...  # noqa: D102
    def summary(self) -> dict[str, Any]: ...  # noqa: D102 -- Any: JSON


@dataclass(frozen=True)
class CheckResult:
    """What one check run came to; `value` is the realised score where one was measured."""

    window: Window
    outcome: str
    decision: Decision
    launched: Any = None  # Any: tasks.launch.Launched, which tasks may not import from each other
    value: float | None = None
    drifted: tuple[str, ...] = ()
    note: str = ""

    def state(self) -> State[Any]:
        """Return a completed state with verdict and decision, e.g. `Drift: TRAIN, promoted`."""
        name = f"{self.outcome.capitalize()}: {self.decision.kind}"
        if self.launched:
            name += f", {self.launched.outcome}"
        sentence = "; ".join(filter(None, (self.decision.sentence(), self.note)))
        return completed(name[:60], sentence, self)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def record_check(
    spec: ModelSpec,
    kind: checks.Kind,
    window: Window,
    verdict: Any,  # Any: a Verdict, or a contract report
    *,
    version: int | None,
    as_of: datetime,
    settings: Settings | None = None,
) -> checks.Check:
    """Return the check as it stands in the store; a re-run that concludes the same writes nothing.

    What a drift check found of each feature becomes a row of its own, not part of the check's summary. A
    decided check stands as it is when predictions of its window have moved to files since: from what is left
    another look would conclude less.
    """
    engine = open_store(settings)
    if stands := service.settled(engine, spec.name, kind, window):
        task_logger(__name__).info("%s: %s over %s stands: its predictions moved", spec.name, kind, window)
        return stands
    summary = verdict.summary() if hasattr(verdict, "summary") else asdict(verdict)
    if hasattr(verdict, "sentence"):
        summary = {**summary, "sentence": verdict.sentence()}
    if kind == "performance":  # by this a later run knows that labels came since
        heard = heard_of(engine, spec.name, [window], version=version, as_of=as_of)
        summary = {**summary, "labels_heard": heard[0]}
    features = feature_rows(verdict) if isinstance(verdict, DriftVerdict) else ()
    if features:
        summary = {name: value for name, value in summary.items() if name not in {"features", "shapes"}}
    return checks.record(
        engine,
        model=spec.name,
        kind=kind,
        window=window,
        version=version,
        outcome=verdict.outcome,
        summary=summary,
        features=features,
        run_id=str(flow_run.id) if flow_run.id else None,
        at=as_of,
    )


@task(retries=2, retry_delay_seconds=5, timeout_seconds=600, cache_policy=NO_CACHE)
def record_labels(
    spec: ModelSpec, dataset: Dataset, *, as_of: datetime, settings: Settings | None = None
) -> int:
    """Return how many labels were new or corrected; a label that stands already is not written again.

    Takes rows of the model's source, and labels of a source of their own.
    """
    frame = pd.read_parquet(dataset.path)
    if spec.label.source is not None and {"row_key", "label"} <= set(dataset.columns):
        count = labels_record(open_store(settings), spec.name, frame, known_at=as_of)
        task_logger(__name__).info("%s: %d of %d labels were news", spec.name, count, len(frame))
        return count
    if spec.label.column not in frame:
        raise ContractError(
            f"no column {spec.label.column!r} in the source",
            "the label column",
            "correct label.column, or the column's name in the data",
            model=spec.name,
            window=str(dataset.window),
        )
    rows = pd.DataFrame(
        {"row_key": frame[spec.source.key].astype(str), "label": frame[spec.label.column].astype(object)}
    )
    count = labels_record(open_store(settings), spec.name, rows, known_at=as_of)
    task_logger(__name__).info("%s: %d of %d labels were news", spec.name, count, len(rows))
    return count


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def windows_to_judge(
    spec: ModelSpec, window: Window, version: int, *, as_of: datetime, settings: Settings | None = None
) -> list[Window]:
    """Return the window, after those before it that still count and may have new labels, oldest first.

    Before these come windows of this version that no decision rests on any more, where labels arrived since
    they were judged: a few at a time, each once for the labels that came, so that the history is right.
    """
    engine, counts = open_store(settings), spec.drift.windows[1]
    found = checks.recent(engine, spec.name, "performance", counts + LOOK_BACK, as_of)
    moved = service.moved_from(engine, spec.name, Window(found[0].window.start, window.end)) if found else []
    earlier = [
        check
        for check in found
        if check.version == version and check.window.end <= window.start
        # What is left of a window in the database says nothing more of it.
        if not any(check.window.start < day.end and day.start < check.window.end for day in moved)
    ]
    again = [check.window for check in found[-counts:] if check in earlier]
    past = [check for check in found[:-counts] if check in earlier]
    now = heard_of(engine, spec.name, [check.window for check in past], version=version, as_of=as_of)
    late = [
        Judged(check.window, check.summary.get("labels_heard"), heard)
        for check, heard in zip(past, now, strict=True)
    ]
    return [*reopened(late), *again, window]


@task(retries=2, retry_delay_seconds=5, timeout_seconds=120, cache_policy=NO_CACHE)
def reach_decision(
    spec: ModelSpec, evidence: Evidence, *, dry_run: bool = False, settings: Settings | None = None
) -> Decision:
    """Return what the policy concludes; written to the history of decisions unless it is a dry run."""
    decision = decide(evidence, spec)
    if not dry_run:
        ledger.record_decision(
            open_store(settings),
            decision,
            model=spec.name,
            at=evidence.as_of,
            run_id=str(flow_run.id) if flow_run.id else None,
            now=now_or(None),
        )
    task_logger(__name__).info("%s: decision %s: %s", spec.name, decision.id, decision.sentence())
    return decision
