"""References and drift checks over rows on disk, in batches, by our own detector or by alibi-detect's."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.dataset import Dataset
from tasks.core.drift.bins import Bins, cell_of
from tasks.core.drift.measures.base import Pair
from tasks.core.drift.profile import SCORE, Profile, Reference, Scores, build_reference, profile_frame
from tasks.core.drift.shape import shapes_of
from tasks.core.drift.values import Floats, read_numbers
from tasks.core.drift.verdict import DriftVerdict, OuterTest, judge
from tasks.core.errors import DriftError, WorkflowError
from tasks.core.model.pipeline import predict
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store.models import load_model, own_types

BATCH_ROWS = 200_000
_PREFECT: dict[str, Any] = {"retries": 0, "timeout_seconds": 3600, "cache_policy": NO_CACHE}


class Fitted(Protocol):
    """The part of a training's result that a reference is made from."""

    @property
    def model_path(self) -> str:
        """The fitted model."""

    @property
    def holdout_path(self) -> str:
        """Parquet of the rows it was not fitted on."""


@task(name="profile reference", **_PREFECT)
def profile_reference(
    spec: ModelSpec, trained: Fitted, *, rows_path: str | None = None, settings: Settings | None = None
) -> str:
    """Return the path of the reference.json just written beside the model.

    The features' reference is made of the rows in `rows_path`, by default the holdout; the scores' reference
    always of the holdout, because a model scores rows it was fitted on differently from all others.

    Raises:
        DriftError: when the rows cannot be profiled.
    """
    began = time.perf_counter()
    holdout = _read(trained.holdout_path, spec)
    rows = holdout if rows_path is None else _read(rows_path, spec)
    scores = _score(load_model(trained.model_path, also=own_types(spec)), holdout, spec)
    reference = build_reference(rows, spec, scores=scores, key=_mask_key(spec, settings))
    path = Path(trained.model_path).with_name("reference.json")
    _write(path, reference.to_json())
    task_logger(__name__).info(
        "reference of %d features from %d rows, scores from %d, in %.1f s",
        len(spec.features.all),
        len(rows),
        len(holdout),
        time.perf_counter() - began,
    )
    return str(path)


@task(name="check drift", **_PREFECT)
def check_drift(
    spec: ModelSpec,
    dataset: Dataset,
    reference_path: str,
    *,
    model_path: str | None = None,
    reference_rows_path: str | None = None,
    settings: Settings | None = None,
) -> DriftVerdict:
    """Return the verdict on the dataset's rows against the champion's reference.

    Args:
        spec: Names the features and, in `drift`, the detector and its budget of false alarms.
        dataset: The window to check; read in batches, so any size fits.
        reference_path: reference.json of the champion.
        model_path: The champion, to compare its scores as well; without it the scores stay undecided.
        reference_rows_path: For the alibi detector, the Parquet the reference was made from: it then compares
            raw values, and otherwise the counts of the reference, which need no rows at all.
        settings: Of this place.

    Raises:
        DriftError: when the reference or the rows cannot be read, or the detector is not installed.
    """
    began = time.perf_counter()
    key = _mask_key(spec, settings)
    reference = load_reference(reference_path)
    profile = _profile(spec, dataset, reference, model_path, key)
    if spec.drift.detector == "alibi":
        rows = None if reference_rows_path is None else (reference_rows_path, dataset.path)
        tests = alibi_tests(spec, reference, profile, rows=rows, key=key)
        verdict = judge(reference, profile, spec, tests=tests, detector="alibi")
    else:
        verdict = judge(reference, profile, spec)
    verdict = replace(verdict, shapes=shapes_of(reference, profile, verdict))
    task_logger(__name__).info(
        "drift in %s: %s, %d rows, %d features drifted, scores %s, in %.1f s",
        dataset.window,
        verdict.outcome,
        verdict.rows,
        len(verdict.drifted),
        verdict.score_outcome,
        time.perf_counter() - began,
    )
    return verdict


def load_reference(path: str) -> Reference:
    """Return the reference in this file.

    Raises:
        DriftError: when there is none, or it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise DriftError(
            f"no readable {Path(path).name} ({type(err).__name__})",
            "the reference stored with the champion",
            "restore it from the registry, or retrain",
        ) from err
    return Reference.from_json(text)


def alibi_tests(
    spec: ModelSpec,
    reference: Reference,
    profile: Profile,
    *,
    rows: tuple[str, str] | None = None,
    key: bytes | None = None,
) -> dict[str, OuterTest]:
    """Return alibi-detect's test of every feature: Kolmogorov-Smirnov for numbers, chi-square for categories.

    TabularDrift calls a window with one NaN undrifted, takes any column order on trust, reads ids beyond
    2**53 as equal and fails on an unseen category. So it gets one feature at a time, without the nulls and
    infinities (the shares of those are judged apart), numbers as dense ranks and categories as the group of
    their cell. Its p-values then go through the same budget and effect sizes as our own. Where categories are
    too few or too rare for its chi-square to hold, there is no test here and our exact one stands.

    Raises:
        DriftError: when alibi-detect is not installed.
    """
    detector = _tabular_drift()
    tables = None if rows is None else (_read(rows[0], spec), _read(rows[1], spec))
    tests = {}
    for bins in reference.bins:
        if bins.name not in profile.features:
            continue
        pair = Pair(bins, reference.profile.features[bins.name], profile.features[bins.name])
        if not pair.reference.values or not pair.current.values:
            continue
        categorical = bins.kind == "categorical"
        if categorical and (pair.groups.shape[1] < 2 or not pair.fits_chi_square):
            continue
        ours, theirs = _alibi_columns(pair, tables, key)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "no categories given: all features are numerical", as intended
            fitted = detector(
                ours, p_val=spec.drift.false_alarms, categories_per_feature={0: None} if categorical else None
            )
            found = fitted.predict(theirs, drift_type="feature")["data"]
        name = "chi_square" if categorical else "ks"
        tests[bins.name] = OuterTest(name, float(found["distance"][0]), float(found["p_val"][0]))
    return tests


def _alibi_columns(
    pair: Pair, tables: tuple[pd.DataFrame, pd.DataFrame] | None, key: bytes | None
) -> tuple[Floats, Floats]:
    bins = pair.bins
    if tables is not None and not bins.name.startswith(SCORE) and all(bins.name in t for t in tables):
        ours, theirs = (_usable(bins, table, key) for table in tables)
    else:  # the counts say how many rows each cell held: rows of cell numbers are as good, and private
        cells = np.arange(bins.cells)
        ours, theirs = np.repeat(cells, pair.reference.cells), np.repeat(cells, pair.current.cells)
    if bins.kind == "categorical":
        ours, theirs = pair.group_of_cell[ours], pair.group_of_cell[theirs]
    _, ranks = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    column = ranks.astype(np.float64).reshape(-1, 1)
    return column[: len(ours)], column[len(ours) :]


def _usable(bins: Bins, table: pd.DataFrame, key: bytes | None) -> Any:  # Any: cell numbers or values
    return (
        read_numbers(table[bins.name]).finite
        if bins.kind == "numeric"
        else cell_of(bins, table[bins.name], key=key)
    )


def _tabular_drift() -> Any:  # Any: the class, of an optional package
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from alibi_detect.cd import TabularDrift
    except ImportError as err:
        raise DriftError(
            "drift.detector alibi without alibi-detect",
            "the package alibi-detect 0.13",
            "install it (mind its licence), or set drift.detector to tabular",
        ) from err
    return TabularDrift


def _profile(
    spec: ModelSpec, dataset: Dataset, reference: Reference, model_path: str | None, key: bytes | None
) -> Profile:
    scored = any(bins.name.startswith(SCORE) for bins in reference.bins)
    model = load_model(model_path, also=own_types(spec)) if model_path and scored else None
    total: Profile | None = None
    for batch in _batches(dataset.path, spec):
        whole = set(spec.features.all) <= set(batch.columns)
        scores = _score(model, batch, spec) if model is not None and whole else None
        part = profile_frame(batch, reference, scores=scores, key=key)
        total = part if total is None else total + part
    return total or profile_frame(pd.DataFrame(), reference, key=key)


def _score(model: Any, frame: pd.DataFrame, spec: ModelSpec) -> Scores:  # Any: a fitted pipeline
    try:
        said = predict(model, frame)
    except WorkflowError:
        raise
    except (ValueError, TypeError) as err:
        raise DriftError(
            f"rows the champion cannot score ({type(err).__name__})",
            "rows that keep to the contract",
            "validate the window before checking it",
            model=spec.name,
        ) from err
    return np.asarray(said.prediction if said.probabilities is None else said.probabilities)


def _read(path: str, spec: ModelSpec) -> pd.DataFrame:
    parts = list(_batches(path, spec))
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def _batches(path: str, spec: ModelSpec) -> Iterator[pd.DataFrame]:
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in spec.features.all if name in file.schema_arrow.names]
            empty = file.schema_arrow.empty_table().select(columns).to_pandas()
            yield empty.reset_index(drop=True)
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                frame = batch.to_pandas()
                yield frame if columns else pd.DataFrame(index=range(batch.num_rows))
    except (OSError, pa.ArrowException) as err:
        raise DriftError(
            f"no readable Parquet file {Path(path).name} ({type(err).__name__})",
            "the rows of the window",
            "fetch it again",
            model=spec.name,
        ) from err


def _mask_key(spec: ModelSpec, settings: Settings | None) -> bytes | None:
    if not set(spec.features.sensitive) & set(spec.features.categorical):
        return None
    return (settings or Settings()).masking_key()


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
