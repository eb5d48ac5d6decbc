"""Drift checks of a window: counted and sampled in batches, compared with the right reference, and judged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.drift.past.calendar import choose
from tasks.core.drift.profile import SCORE, Profile, Reference
from tasks.core.drift.scoring import score_rows
from tasks.drifting.examine import Check, examine
from tasks.log import task_logger
from tasks.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

    from tasks.core.dataset import Dataset
    from tasks.core.drift.past.calendar import Against
    from tasks.core.drift.profile import Scores
    from tasks.core.drift.verdict import DriftVerdict
    from tasks.core.spec import ModelSpec
    from tasks.core.window import Window

_PREFECT: dict[str, Any] = {"retries": 0, "timeout_seconds": 3600, "cache_policy": NO_CACHE}


@dataclass(frozen=True)
class Scorer:
    """Gives the champion's scores of rows; it is loaded where it is used, in whichever process."""

    spec: ModelSpec
    model_path: str

    def __call__(self, frame: pd.DataFrame) -> Scores | None:
        """Return the scores; None for rows that lack one of its columns."""
        return score_rows(self.model, frame, self.spec) if set(self.spec.features.all) <= set(frame) else None

    @cached_property
    def model(self) -> Any:  # Any: a fitted pipeline
        """The champion."""
        from tasks.store.models import own_types, shared_model

        return shared_model(self.model_path, also=own_types(self.spec))


def count_window(
    spec: ModelSpec,
    dataset: Dataset,
    reference_path: str,
    model_path: str | None = None,
    *,
    settings: Settings | None = None,
) -> Profile | None:
    """Return the profile of a window so large that it is worth spreading over the flow's task runner.

    None for all others: `check_drift` counts them itself.

    Raises:
        DriftError: as `check_drift`.
    """
    from prefect import unmapped

    from tasks.drifting.profile import partitions, profile_part, reduce_profiles

    parts = partitions(dataset.path, settings=settings)
    if len(parts) < 2:
        return None
    reference = load_reference(reference_path)
    counted = profile_part.map(
        parts,
        reference_path=unmapped(reference_path),
        score=unmapped(_scorer(spec, reference, model_path)),
        columns=unmapped(spec.features.all),
        settings=unmapped(settings),
    )
    return reduce_profiles(counted.result())


@task(name="check drift", **_PREFECT)
def check_drift(
    spec: ModelSpec,
    dataset: Dataset,
    reference_path: str,
    *,
    profile: Profile | None = None,
    model_path: str | None = None,
    earlier: Sequence[Profile] | None = None,
    reference_rows_path: str | None = None,
    version: int | None = None,
    keep: bool = False,
    settings: Settings | None = None,
) -> DriftVerdict:
    """Return the verdict on the dataset's rows against the champion's reference.

    Args:
        spec: Names the features and, in `drift`, the detector, its budget of false alarms and the reference.
        dataset: The window to check; read in batches, so any size fits. Its time tells the weekday or hour.
        reference_path: reference.json of the champion.
        profile: The window's, where it is counted already.
        model_path: The champion, to compare its scores as well; without it the scores stay undecided.
        earlier: Profiles of the windows before, newest last, for a rolling reference; default: those kept.
        reference_rows_path: For a detector of alibi-detect, the Parquet the reference was made from: it then
            compares values of numbers, and otherwise the counts of the reference, which need no rows at all.
        version: Of the champion, noted with the profile.
        keep: Whether later checks may compare with this window: its profile is stored, once per window.
        settings: Of this place.

    Raises:
        DriftError: when the reference or the rows cannot be read, or the detector is not installed.
    """
    from threadpoolctl import threadpool_limits

    began = time.perf_counter()
    reference = load_reference(reference_path)
    key = (settings or Settings()).masking_key() if reference.key_check else None
    with threadpool_limits((settings or Settings()).threads):
        counted = profile or _profile(spec, dataset, reference, model_path, key, settings)
        if earlier is None:
            earlier = _earlier(spec, reference, dataset.window, settings)
        against = choose(reference, dataset.window, spec, earlier=earlier)
        check = Check(spec, reference, counted, against, dataset.path, reference_rows_path, key)
        enough = min(counted.rows, against.profile.rows) >= spec.drift.min_rows
        verdict = examine(check) if enough else check.judge()
        verdict = _with_shapes(verdict, reference, counted, against)
        if verdict.features and model_path:
            verdict = _with_consequences(spec, dataset, reference, verdict, model_path, key)
    if keep:
        _keep(spec, reference, counted, dataset.window, version=version, settings=settings)
    task_logger(__name__).info(
        "drift in %s against %s: %s, %d rows, %d features drifted, scores %s, in %.1f s",
        dataset.window,
        verdict.against,
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
    from tasks.drifting.profile import read_reference

    return read_reference(path)


def _with_shapes(
    verdict: DriftVerdict, reference: Reference, profile: Profile, against: Against
) -> DriftVerdict:
    """Return the verdict with the shapes of what moved, beside the rows it was compared with."""
    from tasks.core.drift.shape import shapes_of

    columns = tuple(one for one in verdict.features if one.feature in profile.features)
    compared = replace(reference, profile=against.profile)
    return replace(verdict, shapes=shapes_of(compared, profile, replace(verdict, features=columns)))


def _with_consequences(
    spec: ModelSpec,
    dataset: Dataset,
    reference: Reference,
    verdict: DriftVerdict,
    model_path: str,
    key: bytes | None,
) -> DriftVerdict:
    from tasks.drifting.matters import MOST_ROWS, with_consequences
    from tasks.drifting.sample import sample_rows

    rows = sample_rows(dataset.path, spec.features.all, MOST_ROWS, seed=spec.estimator.seed)
    model = Scorer(spec, model_path).model
    return with_consequences(verdict, reference, spec, model=model, rows=rows, key=key)


def _profile(
    spec: ModelSpec,
    dataset: Dataset,
    reference: Reference,
    model_path: str | None,
    key: bytes | None,
    settings: Settings | None,
) -> Profile:
    from tasks.drifting.profile import profile_parquet

    score = _scorer(spec, reference, model_path)
    return profile_parquet(
        dataset.path, reference, score=score, key=key, columns=spec.features.all, settings=settings
    )


def _scorer(spec: ModelSpec, reference: Reference, model_path: str | None) -> Scorer | None:
    scored = any(bins.name.startswith(SCORE) for bins in reference.bins)
    return Scorer(spec, model_path) if model_path and scored else None


def _earlier(
    spec: ModelSpec, reference: Reference, window: Window, settings: Settings | None
) -> list[Profile]:
    if spec.drift.reference != "rolling":
        return []
    from tasks.store.engine import open_store
    from tasks.store.profiles import recent_profiles

    engine = open_store(settings or Settings())
    kept = recent_profiles(engine, spec.name, reference.id, spec.drift.rolling, window.start)
    return [Profile.from_plain(raw) for raw in kept]


def _keep(
    spec: ModelSpec,
    reference: Reference,
    profile: Profile,
    window: Window,
    *,
    version: int | None,
    settings: Settings | None,
) -> None:
    from tasks.store.engine import open_store
    from tasks.store.profiles import save_profile

    save_profile(
        open_store(settings or Settings()),
        model=spec.name,
        version=version,
        reference_id=reference.id,
        window=window,
        profile=profile.to_plain(reference),
    )
