"""Realised performance of the champion, and the evidence a decision rests on, read from the store."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.clock import now_or
from tasks.core.drift.matters.label_mix import LabelMix
from tasks.core.drift.profile import Reference
from tasks.core.errors import DriftError
from tasks.core.evaluation.performance import PerformanceVerdict, judge
from tasks.core.policy.evidence import Evidence
from tasks.core.policy.label_shift import LabelShift, label_shift
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import evidence
from tasks.store.engine import open_store
from tasks.store.evidence import Around
from tasks.store.labels import matured


@task(retries=2, retry_delay_seconds=5, timeout_seconds=900, cache_policy=NO_CACHE)
def realised_performance(
    spec: ModelSpec,
    window: Window,
    promise: float,
    classes: Sequence[Any] | None,
    *,
    promise_low: float | None = None,
    learnt_until: datetime | None = None,
    version: int | None = None,
    reference_path: str | None = None,
    as_of: datetime | None = None,
    settings: Settings | None = None,
) -> PerformanceVerdict:
    """Return whether the predictions of this window, as far as their labels are known, keep the promise.

    The verdict also tells how far the labels moved from those of training, or, where the reference does not
    say how those were, from the six windows before.

    Args:
        spec: The model.
        window: When the predicted events happened.
        promise: The champion's score when it was promoted.
        classes: The champion's classes in the order of its scores; None for regression.
        promise_low: Lower end of the interval of that score.
        learnt_until: Leave out what happened before: the champion may have learnt it by heart.
        version: Judge only what this version predicted. Give the champion's: right after a promotion a window
            still holds predictions of the version before, which must not be held against the new one.
        reference_path: reference.json of the champion, which knows the labels of training.
        as_of: Leave out what became known later; default: nothing.
        settings: Where the store is.
    """
    started = time.monotonic()
    engine = open_store(settings)
    rows = matured(engine, spec.name, window, as_of=as_of)
    if version is not None:
        rows = rows[rows["version"] == version]
    if learnt_until is not None:
        rows = rows[rows["event_time"] >= learnt_until]
    verdict = judge(
        rows["label"].tolist(),
        rows["prediction"].tolist(),
        rows["score"].tolist(),
        classes,
        spec,
        promise,
        promise_low=promise_low,
    )
    known = evidence.around(engine, spec, window, now_or(as_of))
    verdict = replace(verdict, labels=_label_shift(spec, verdict, rows["label"], known, reference_path))
    task_logger(__name__).info(
        "%s: performance %s over %s on %d labelled predictions in %.1f s: %s",
        spec.name, verdict.outcome, window, verdict.rows, time.monotonic() - started, verdict.reason,
    )  # fmt: skip
    return verdict


@task(retries=2, retry_delay_seconds=5, timeout_seconds=300, cache_policy=NO_CACHE)
def gather_evidence(
    spec: ModelSpec,
    as_of: datetime,
    window: Window,
    *,
    version: int | None,
    champion_trained: datetime | None = None,
    new_rows: int | None = None,
    data_ok: bool | None = None,
    data_reason: str = "",
    settings: Settings | None = None,
) -> Evidence:
    """Return the evidence about the champion `version` as the store had it at `as_of`.

    `version` is None where nothing serves yet. Without `data_ok` the newest data check in the store counts.
    """
    found = evidence.gather(
        open_store(settings),
        spec,
        as_of,
        window,
        version=version,
        champion_trained=champion_trained,
        new_rows=new_rows,
        data_ok=data_ok,
        data_reason=data_reason,
    )
    task_logger(__name__).info(
        "%s: evidence at %s: %d drift and %d performance checks, %d retrainings, %d futile",
        spec.name, window, len(found.drift), len(found.performance), len(found.retrainings), found.futile,
    )  # fmt: skip
    return found


def _label_shift(
    spec: ModelSpec, verdict: PerformanceVerdict, labels: pd.Series, known: Around, reference_path: str | None
) -> LabelShift:
    trained = _training_labels(reference_path) if reference_path else None
    mix = trained or known.usual
    return label_shift(
        mix.counts,
        mix.of(labels),
        scores_moved=known.scores_moved,
        inputs_moved=known.inputs_moved,
        fell=math.isfinite(verdict.value) and verdict.value < verdict.limit,
        alpha=spec.drift.false_alarms,
        numbers=spec.task == "regression",
        against="the labels of training" if trained else "the six windows before",
    )


def _training_labels(reference_path: str) -> LabelMix | None:
    """Return the labels that the reference remembers; None where it cannot be read or was made before.

    What is wrong with a reference is told by the drift check, and keeps nobody from judging performance.
    """
    try:
        insight = Reference.from_json(Path(reference_path).read_text(encoding="utf-8")).insight
    except (OSError, UnicodeDecodeError, DriftError) as err:
        task_logger(__name__).warning("labels are not compared with those of training: %s", err)
        return None
    return insight.labels if insight is not None and insight.labels.rows else None
