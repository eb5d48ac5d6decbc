"""Fit a challenger that passed the gate once more, on all rows: that model serves."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.dataset import Dataset
from tasks.core.errors import WorkflowError
from tasks.core.model.anchoring import choose_anchor
from tasks.core.model.answers import answers_to
from tasks.core.model.fitting import fit_scratch, go_on, new_to, weights_of
from tasks.core.model.refit import RefitCheck, check_refit
from tasks.core.model.split import all_rows
from tasks.core.model.weighting import effective_rows, limit_rows
from tasks.core.results import Evaluated, Refit, Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store.models import load_model, own_types, save_model, shared_model
from tasks.train import keys_digest, limited, read_anchor_keys, read_labelled

PASSED = ("promote", "ask")  # what may serve, by itself or once a person agrees


@task(retries=0, timeout_seconds=6 * 3600, cache_policy=NO_CACHE)
def refit_challenger(
    spec: ModelSpec,
    dataset: Dataset,
    trained: Trained,
    evaluated: Evaluated,
    *,
    champion_model: str | None = None,
    champion_train_end: datetime | None = None,
    anchor_path: str | None = None,
    settings: Settings | None = None,
) -> Trained:
    """Return the challenger as it is to be registered: refitted on all rows, or as it was judged.

    A challenger that did not pass the gate, and any where `gate.refit` is off, comes back as it is. A refit
    that fails, that answers with what is no number, or that differs too much from the judged model on the
    holdout is not used; `Trained.refit` then says why. Rows of the anchor are not learnt from, and where the
    model wants its first anchor the holdout's rows for it are left out.

    Args:
        spec: The model.
        dataset: The rows that `trained` came from.
        trained: The challenger that was evaluated.
        evaluated: What the gate said.
        champion_model: What the challenger went on from, in mode partial_fit.
        champion_train_end: Up to when the champion has learnt.
        anchor_path: The frozen trusted rows, where there are any.
        settings: This place; default: from the environment.

    Raises:
        RegistryError: when the judged model's file is not the one that was trained.
    """
    if not spec.gate.refit or evaluated.decision.outcome not in PASSED:
        return trained
    is_first_anchor = (
        not anchor_path and spec.gate.anchor.rows > 0 and evaluated.decision.outcome == "promote"
    )
    judged = shared_model(trained.model_path, sha256=trained.model_sha256 or None, also=own_types(spec))
    started = time.perf_counter()
    try:
        fitted = fit_again(
            spec,
            dataset,
            trained,
            champion_model=champion_model,
            champion_train_end=champion_train_end,
            anchor_path=anchor_path,
            reserved_since=max(trained.cut, champion_train_end or trained.cut) if is_first_anchor else None,
            settings=settings,
        )
        check = _checked(spec, judged, fitted, evaluated)
    except Exception as err:  # of whatever kind: the judged model is there and has passed
        why = err.found if isinstance(err, WorkflowError) else type(err).__name__
        fitted, check = trained, RefitCheck(None, f"it could not be fitted ({why})")
    record = replace(
        fitted.refit or _record(trained),
        is_used=not check.objection,
        why=check.objection,
        disagreement=check.disagreement,
    )
    if check.objection:
        task_logger(__name__).warning("%s: the refit is not used, %s", spec.name, check.objection)
        return replace(trained, refit=replace(record, reserved_rows=0, reserved_since=None))
    task_logger(__name__).info(
        "refitted %s on all %d rows before %s in %.1f s, %.3g from the judged model on %d rows",
        *(spec.name, fitted.train_rows, fitted.cut.isoformat(), time.perf_counter() - started),
        *(check.disagreement, trained.holdout_rows),
    )
    return replace(fitted, refit=record)


def fit_again(
    spec: ModelSpec,
    dataset: Dataset,
    trained: Trained,
    *,
    champion_model: str | None = None,
    champion_train_end: datetime | None = None,
    anchor_path: str | None = None,
    reserved_since: datetime | None = None,
    settings: Settings | None = None,
) -> Trained:
    """Return the recipe of `trained`, with the parameters it came to, fitted on all rows of the dataset.

    In mode partial_fit that is one pass from the champion over all rows new to it. `reserved_since` leaves
    out the holdout rows from that moment on which make an anchor.

    Raises:
        TrainingError: when no model can be fitted on these rows.
    """
    place, end, started = settings or Settings(), dataset.window.end, time.perf_counter()
    reserved = _reserved(spec, trained, reserved_since)
    anchor_keys, _ = read_anchor_keys(spec, anchor_path)
    labelled, _ = read_labelled(spec, dataset)
    rows = all_rows(labelled, spec, left_out=[*anchor_keys, *reserved])
    with limited(place.threads):
        if spec.estimator.mode == "partial_fit" and champion_model is not None:
            rows = limit_rows(new_to(spec, rows, champion_train_end), spec)
            weights = weights_of(spec, rows, end)
            model = go_on(spec, load_model(champion_model, also=own_types(spec)), rows, weights)
        else:
            rows = limit_rows(rows, spec)
            weights = weights_of(spec, rows, end)
            model = fit_scratch(spec, rows, dict(trained.params), weights=weights, threads=place.threads)
    path = Path(trained.holdout_path).with_name("refit.skops")
    record = replace(
        _record(trained), reserved_rows=len(reserved), reserved_since=reserved_since if reserved else None
    )
    return replace(
        trained,
        model_path=str(path),
        model_sha256=save_model(model, path, also=own_types(spec)),
        train_rows=len(rows),
        train_keys_sha256=keys_digest(spec, rows),
        effective_rows=effective_rows(len(rows), weights),
        cut=utc(end),
        seconds=trained.seconds + time.perf_counter() - started,
        refit=record,
    )


def _reserved(
    spec: ModelSpec, trained: Trained, since: datetime | None
) -> list[Any]:  # Any: keys may be of any type
    """Return the keys of the holdout rows that will make the first anchor."""
    if since is None:
        return []
    holdout = pd.read_parquet(trained.holdout_path)
    rows, _ = choose_anchor(spec, holdout[holdout[spec.source.timestamp] >= utc(since)])
    return rows[spec.source.key].tolist()


def _record(trained: Trained) -> Refit:
    return Refit(
        is_used=True,
        judged_sha256=trained.model_sha256,
        judged_rows=trained.train_rows,
        judged_cut=trained.cut,
        judged_keys_sha256=trained.train_keys_sha256,
    )


def _checked(spec: ModelSpec, judged: Any, fitted: Trained, evaluated: Evaluated) -> RefitCheck:
    """Return what the holdout says of the refitted model as it was stored. Any: a fitted pipeline."""
    model = shared_model(fitted.model_path, sha256=fitted.model_sha256, also=own_types(spec))
    holdout = pd.read_parquet(fitted.holdout_path)
    answers = (answers_to(spec, each, holdout) for each in (judged, model))
    return check_refit(spec, *answers, evaluated.promise_low)
