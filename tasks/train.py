"""Train a challenger on the older rows of a dataset and keep the newest rows unseen."""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from sklearn.pipeline import Pipeline

from tasks.core.dataset import Dataset
from tasks.core.errors import TrainingError
from tasks.core.model.fitting import (
    check_trainable,
    fit_scratch,
    go_on,
    left_out,
    new_to,
    quietly,
    refused_by_estimator,
    weights_of,
)
from tasks.core.model.guess import label_quantiles, learn_guess
from tasks.core.model.linear import fit_linear, is_linear
from tasks.core.model.search import best_params
from tasks.core.model.split import Split, split_rows
from tasks.core.model.weighting import effective_rows, half_life_days, limit_rows, rows_rule
from tasks.core.results import Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import Window
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store.models import load_model, own_types, save_model


@task(retries=0, timeout_seconds=6 * 3600, cache_policy=NO_CACHE)
def train_challenger(
    spec: ModelSpec,
    dataset: Dataset,
    attempt: str,
    *,
    champion_model: str | None = None,
    champion_train_end: datetime | None = None,
    anchor_path: str | None = None,
    settings: Settings | None = None,
) -> Trained:
    """Return a challenger fitted on the dataset's older rows; its newest rows are written beside it, unseen.

    Args:
        spec: The model.
        dataset: Labelled rows that passed the contract. Rows without a label are left out and counted.
        attempt: Names the folder of the files; the same attempt writes the same files again.
        champion_model: Stored model to go on from, used only in mode partial_fit; without it the first model
            is fitted from scratch.
        champion_train_end: Up to when the champion has learnt; partial_fit then sees only newer rows.
        anchor_path: The frozen trusted rows; no row with one of their keys is learnt from. Their entities
            (`source.group`) are not left out: that could leave nothing to learn from.
        settings: This place; default: from the environment.

    Raises:
        TrainingError: when no model can be fitted on these rows: too few, one class, a column without any
            value, a new class in mode partial_fit, or the estimator's own refusal; or when the anchor cannot
            be read.
    """
    place = settings or Settings()
    folder = place.work_dir(attempt)
    rows, unlabelled = read_labelled(spec, dataset)
    anchor_keys, anchor_sha256 = read_anchor_keys(spec, anchor_path)
    split = split_rows(rows, spec, dataset.window.end, anchor_keys=anchor_keys)
    started = time.perf_counter()
    if spec.estimator.mode == "partial_fit" and champion_model is not None:
        used = limit_rows(new_to(spec, split.train, champion_train_end), spec)
        weights = weights_of(spec, used, split.cut)
        model = go_on(spec, load_model(champion_model, also=own_types(spec)), used, weights)
        params = dict(spec.estimator.params)
    else:
        used = limit_rows(split.train, spec)
        weights = weights_of(spec, used, split.cut)
        model, params = _fit(spec, used, weights, place.threads)
    set_aside = left_out(spec, used, model)
    seconds = time.perf_counter() - started
    digest = save_model(model, folder / "model.skops", also=own_types(spec))
    split.holdout.to_parquet(folder / "holdout.parquet", index=False)
    linear_path, linear_sha256 = _keep_linear(spec, used, weights, folder / "linear.skops")
    recent = rows[spec.source.timestamp] >= Window.ending(dataset.window.end, spec.window.training).start
    trained = replace(
        _result(spec, dataset, split, used, weights, folder=folder, params=params),
        model_sha256=digest,
        seconds=seconds,
        unlabelled_rows=unlabelled,
        window_rows=int(recent.sum()),
        anchor_sha256=anchor_sha256,
        set_aside=set_aside,
        linear_path=linear_path,
        linear_sha256=linear_sha256,
    )
    task_logger(__name__).info(
        "trained %s on %d rows (%s%s, %.0f effective) before %s in %.1f s, %d newer rows kept unseen, "
        "%d of the anchor left out",
        spec.name,
        trained.train_rows,
        trained.rows_rule,
        "".join(f": {note}" for note in (trained.rows_note, trained.set_aside) if note),
        trained.effective_rows,
        trained.cut.isoformat(),
        seconds,
        trained.holdout_rows,
        trained.anchored_rows,
    )
    return trained


def read_labelled(spec: ModelSpec, dataset: Dataset) -> tuple[pd.DataFrame, int]:
    """Return the dataset's rows that have a label, and how many have none.

    Raises:
        TrainingError: when its file cannot be read or lacks a column.
    """
    columns = [name for name in spec.columns if name != spec.source.updated]
    try:
        rows = pd.read_parquet(dataset.path, columns=columns)
    except (OSError, ValueError, KeyError) as err:
        raise TrainingError(
            f"a dataset that cannot be read ({type(err).__name__})",
            f"Parquet with columns {', '.join(columns)}"[:200],
            "fetch again",
            model=spec.name,
            window=str(dataset.window),
        ) from err
    labelled = rows[rows[spec.label.column].notna()]
    return labelled, len(rows) - len(labelled)


def read_anchor_keys(spec: ModelSpec, path: str | None) -> tuple[list[Any], str]:  # Any: keys of any type
    """Return the keys of the anchor's rows and the digest of its file; nothing where there is no anchor.

    Raises:
        TrainingError: when the file cannot be read.
    """
    if not path:
        return [], ""
    try:
        data = Path(path).read_bytes()
        keys = pd.read_parquet(io.BytesIO(data), columns=[spec.source.key])[spec.source.key]
    except (OSError, ValueError, KeyError) as err:
        raise TrainingError(
            f"an anchor that cannot be read ({type(err).__name__})",
            f"the trusted rows with column {spec.source.key!r}",
            "restore its file, or renew the anchor",
            model=spec.name,
        ) from err
    return keys.tolist(), hashlib.sha256(data).hexdigest()


def _keep_linear(
    spec: ModelSpec, train: pd.DataFrame, weights: NDArray[np.float64] | None, path: Path
) -> tuple[str | None, str]:
    """Return where a linear model of the same rows is kept and its digest; it never stops a training."""
    path.unlink(missing_ok=True)  # of an earlier run of this attempt
    try:
        if is_linear(spec):
            return None, ""
        with limited(1):
            model = quietly(fit_linear, spec, train, weights)
        return str(path), save_model(model, path, also=own_types(spec))
    except Exception as err:  # of whatever kind: only the comparison with it is missing
        task_logger(__name__).info("%s: no linear model to compare with (%s)", spec.name, type(err).__name__)
        return None, ""


def _fit(
    spec: ModelSpec, train: pd.DataFrame, weights: NDArray[np.float64] | None, threads: int
) -> tuple[Pipeline, dict[str, Any]]:  # Any: estimator parameters
    check_trainable(spec, train)
    with limited(threads):
        try:
            chosen = best_params(spec, train, threads=threads)
        except (ValueError, TypeError, MemoryError, FloatingPointError) as err:
            raise refused_by_estimator(spec, err) from err
        return fit_scratch(spec, train, chosen, weights=weights, threads=threads), chosen


def limited(threads: int) -> Any:  # Any: threadpoolctl is untyped
    """Return a block in which numerical libraries use at most so many threads."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=threads)


def _result(
    spec: ModelSpec,
    dataset: Dataset,
    split: Split,
    used: pd.DataFrame,
    weights: NDArray[np.float64] | None,
    *,
    folder: Path,
    params: dict[str, Any],
) -> Trained:
    rule = rows_rule(spec)
    kind = spec.estimator.class_path.rpartition(".")[2]
    note = f"{kind} takes no sample_weight, so rows are not faded"
    return Trained(
        model_path=str(folder / "model.skops"),
        train_rows=len(used),
        holdout_path=str(folder / "holdout.parquet"),
        holdout_rows=len(split.holdout),
        cut=split.cut,
        train_window=dataset.window,
        params=json.loads(json.dumps(params, default=str)),
        seconds=0.0,
        train_keys_sha256=keys_digest(spec, used),
        guess=learn_guess(spec, used, weights),
        dropped_for_group=split.dropped_for_group,
        anchored_rows=split.anchored,
        label_quantiles=label_quantiles(spec, used, weights),
        rows_rule=rule,
        rows_note="" if rule == spec.window.rows else note,
        half_life_days=None if weights is None else half_life_days(spec),
        effective_rows=effective_rows(len(used), weights),
    )


def keys_digest(spec: ModelSpec, rows: pd.DataFrame) -> str:
    """Return the sha256 of the rows' keys, whatever their order."""
    keys = "\n".join(sorted(rows[spec.source.key].astype(str)))
    return hashlib.sha256(keys.encode()).hexdigest()
