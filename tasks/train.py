"""Train a challenger on the older rows of a dataset and keep the newest rows unseen."""

from __future__ import annotations

import hashlib
import io
import json
import re
import time
import warnings
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import InvalidParameterError

from tasks.core.dataset import Dataset
from tasks.core.errors import TrainingError
from tasks.core.model.columns import number_column
from tasks.core.model.guess import label_quantiles, learn_guess
from tasks.core.model.labels import labels_of
from tasks.core.model.linear import fit_linear, is_linear
from tasks.core.model.pipeline import build_pipeline
from tasks.core.model.search import best_params
from tasks.core.model.split import Split, split_rows
from tasks.core.results import Trained
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
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
    rows, unlabelled = _read(spec, dataset)
    anchor_keys, anchor_sha256 = _anchor_keys(spec, anchor_path)
    split = split_rows(rows, spec, dataset.window.end, anchor_keys=anchor_keys)
    started = time.perf_counter()
    if spec.estimator.mode == "partial_fit" and champion_model is not None:
        model, used = _go_on(spec, split.train, champion_model, champion_train_end)
        params = dict(spec.estimator.params)
    else:
        used = split.train
        _check_trainable(spec, used)
        model, params = _fit(spec, used, place.threads)
    seconds = time.perf_counter() - started
    digest = save_model(model, folder / "model.skops", also=own_types(spec))
    split.holdout.to_parquet(folder / "holdout.parquet", index=False)
    linear_path, linear_sha256 = _keep_linear(spec, used, folder / "linear.skops")
    trained = replace(
        _result(spec, dataset, split, used, folder=folder, params=params),
        model_sha256=digest,
        seconds=seconds,
        unlabelled_rows=unlabelled,
        anchor_sha256=anchor_sha256,
        linear_path=linear_path,
        linear_sha256=linear_sha256,
    )
    task_logger(__name__).info(
        "trained %s on %d rows before %s in %.1f s, %d newer rows kept unseen, %d of the anchor left out",
        spec.name,
        trained.train_rows,
        trained.cut.isoformat(),
        seconds,
        trained.holdout_rows,
        trained.anchored_rows,
    )
    return trained


def _read(spec: ModelSpec, dataset: Dataset) -> tuple[pd.DataFrame, int]:
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


def _anchor_keys(spec: ModelSpec, path: str | None) -> tuple[list[Any], str]:  # Any: keys of any type
    """Return the keys of the anchor's rows and the digest of its file; nothing where there is no anchor."""
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


def _keep_linear(spec: ModelSpec, train: pd.DataFrame, path: Path) -> tuple[str | None, str]:
    """Return where a linear model of the same rows is kept and its digest; it never stops a training."""
    path.unlink(missing_ok=True)  # of an earlier run of this attempt
    try:
        if is_linear(spec):
            return None, ""
        with _limits(1):
            model = _quietly(fit_linear, spec, train)
        return str(path), save_model(model, path, also=own_types(spec))
    except Exception as err:  # of whatever kind: only the comparison with it is missing
        task_logger(__name__).info("%s: no linear model to compare with (%s)", spec.name, type(err).__name__)
        return None, ""


def _check_trainable(spec: ModelSpec, train: pd.DataFrame) -> None:
    empty = [name for name in spec.features.all if train[name].isna().all()]
    if empty:
        raise _cannot(
            spec,
            f"no value at all in {', '.join(empty)}"[:200],
            "features with values in the training rows",
            "repair the source, or take the columns out of features",
        )
    try:
        infinite = [name for name in spec.features.numeric if np.isinf(number_column(train[name])).any()]
    except (TypeError, ValueError) as err:
        raise _refused_by_estimator(spec, err) from err
    if infinite:  # some estimators take them silently as merely large
        raise _cannot(
            spec,
            f"infinite values in {', '.join(infinite)}"[:200],
            "finite numbers or missing ones",
            "let the contract refuse such rows, or repair the source",
        )
    if spec.task == "classification":
        classes = np.unique(labels_of(train, spec))
        if len(classes) < 2:
            raise _cannot(
                spec,
                f"one class only in {len(train)} training rows",
                "at least two classes",
                f"look at column {spec.label.column!r}, or lengthen window.training",
            )


def _fit(spec: ModelSpec, train: pd.DataFrame, threads: int) -> tuple[Pipeline, dict[str, Any]]:
    with _limits(threads):
        try:
            chosen = best_params(spec, train, threads=threads)
            final = spec.model_copy(
                update={"estimator": spec.estimator.model_copy(update={"params": chosen, "search": {}})}
            )
            model = build_pipeline(final, threads=threads)
            _quietly(model.fit, train[spec.features.all], labels_of(train, spec))
            return _serving(model, chosen), chosen
        except (ValueError, TypeError, MemoryError, FloatingPointError) as err:
            raise _refused_by_estimator(spec, err) from err


def _go_on(
    spec: ModelSpec, train: pd.DataFrame, champion_model: str, since: datetime | None
) -> tuple[Pipeline, pd.DataFrame]:
    """Return the champion after one more pass over rows new to it, its preprocessing unchanged."""
    model = load_model(champion_model, also=own_types(spec))
    estimator: Any = model[-1] if isinstance(model, Pipeline) else None  # Any: scikit-learn is untyped
    if not hasattr(estimator, "partial_fit"):
        raise _cannot(
            spec,
            f"mode partial_fit with {type(estimator).__name__}",
            "an estimator with partial_fit",
            "set estimator.mode to scratch, or use for example sklearn.linear_model.SGDClassifier",
        )
    if list(model.feature_names_in_) != spec.features.all:
        raise _cannot(
            spec, "other features than the champion's", "the same ones", "train once in mode scratch"
        )
    new = train if since is None else train[train[spec.source.timestamp] >= utc(since)]
    if new.empty:
        raise _cannot(spec, "no row that is new to the champion", "new training rows", "wait for more")
    labels = labels_of(new, spec)
    more: dict[str, Any] = {}
    if spec.task == "classification":
        unknown = set(np.unique(labels).tolist()) - set(estimator.classes_.tolist())
        if unknown:
            raise _cannot(
                spec, f"{len(unknown)} new classes", "the champion's classes", "train once in mode scratch"
            )
        more["classes"] = estimator.classes_
    try:
        prepared = model[:-1].transform(new[spec.features.all])
        estimator.partial_fit(prepared, labels, **more)
    except (ValueError, TypeError) as err:
        raise _refused_by_estimator(spec, err) from err
    return model, new


def _serving(model: Pipeline, chosen: dict[str, Any]) -> Pipeline:  # Any: estimator parameters
    """Return the model without the threads of its training: where it serves, one is the faster."""
    if "n_jobs" in model[-1].get_params(deep=False) and "n_jobs" not in chosen:
        model[-1].set_params(n_jobs=None)
    return model


def _quietly(fit: Any, *args: Any) -> Pipeline:  # Any: a bound fit method and what it takes
    """Return the fitted pipeline; an estimator that stopped early is a fact for its score, not an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(*args)


def _limits(threads: int) -> Any:  # Any: threadpoolctl is untyped
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=threads)


def _result(
    spec: ModelSpec,
    dataset: Dataset,
    split: Split,
    used: pd.DataFrame,
    *,
    folder: Path,
    params: dict[str, Any],
) -> Trained:
    keys = "\n".join(sorted(used[spec.source.key].astype(str)))
    return Trained(
        model_path=str(folder / "model.skops"),
        train_rows=len(used),
        holdout_path=str(folder / "holdout.parquet"),
        holdout_rows=len(split.holdout),
        cut=split.cut,
        train_window=dataset.window,
        params=json.loads(json.dumps(params, default=str)),
        seconds=0.0,
        train_keys_sha256=hashlib.sha256(keys.encode()).hexdigest(),
        guess=learn_guess(spec, used),
        dropped_for_group=split.dropped_for_group,
        anchored_rows=split.anchored,
        label_quantiles=label_quantiles(spec, used),
    )


def _refused_by_estimator(spec: ModelSpec, err: Exception) -> TrainingError:
    kind = spec.estimator.class_path.rpartition(".")[2]
    # What stands in quotes may be a value of a row, unless the complaint is about a parameter.
    told = str(err) if isinstance(err, InvalidParameterError) else re.sub(r"(['\"]).*?\1", "'…'", str(err))
    return _cannot(
        spec,
        f"{kind} refusing these rows ({type(err).__name__}: {told.splitlines()[0][:150] if told else ''})",
        "rows and parameters it accepts",
        "check estimator.params and the contract (infinite values, types)",
    )


def _cannot(spec: ModelSpec, found: str, expected: str, todo: str) -> TrainingError:
    return TrainingError(found, expected, todo, model=spec.name)
