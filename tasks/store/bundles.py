"""Bundles as they are written: one folder that holds everything a version is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from tasks.core.dataset import Dataset
from tasks.core.errors import RegistryError
from tasks.core.model.bundle import (
    GOLDEN,
    MANIFEST,
    MODEL,
    REFERENCE,
    SPEC,
    Manifest,
    Promise,
    digest_of,
    plain,
    safe_url,
)
from tasks.core.model.golden import choose_golden, with_answers
from tasks.core.results import Evaluated, Trained
from tasks.core.spec import ModelSpec
from tasks.store.mlmodel import write_mlmodel
from tasks.store.models import shared_model
from tasks.store.provenance import code_state
from tasks.store.registry import answers_of


def write_bundle(
    folder: Path,
    spec: ModelSpec,
    attempt: str,
    *,
    trained: Trained,
    evaluated: Evaluated,
    reference: Mapping[str, Any] | str,  # Any: the reference profile as JSON
    snapshot: Dataset,
    decision: Mapping[str, Any],  # Any: JSON
    as_of: datetime,
    also: Iterable[str] = (),
    threads: int | None = None,
) -> Manifest:
    """Return the manifest of the bundle just written into `folder`, which is emptied first.

    `threads` are those of the fit, on which the last digits of some estimators depend.

    Raises:
        RegistryError: when the model may not be loaded, or a file it is made from is missing or empty.
    """
    import pandas as pd

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = shared_model(trained.model_path, sha256=trained.model_sha256 or None, also=also)
    shutil.copyfile(trained.model_path, folder / MODEL)
    (folder / SPEC).write_text(_spec_json(spec), "utf-8")
    (folder / REFERENCE).write_text(_reference_json(reference), "utf-8")
    rows = choose_golden(pd.read_parquet(trained.holdout_path, columns=spec.features.all), spec)
    if rows.empty:
        raise RegistryError("an empty holdout", "rows to keep golden answers of", model=spec.name)
    answers = answers_of(model, rows)
    with_answers(rows, answers).to_parquet(folder / GOLDEN, index=False)
    write_mlmodel(folder, spec, rows, answers, created=as_of)
    manifest = Manifest(
        model=spec.name,
        attempt=attempt,
        created=as_of,
        files={path.name: digest_of(path.read_bytes()) for path in sorted(folder.iterdir())},
        promise=_promise(spec, evaluated),
        train_window=trained.train_window,
        cut=trained.cut,
        decision_id=str(decision.get("id") or decision.get("decision_id") or attempt),
        classes=plain(tuple(model.classes_)) if hasattr(model, "classes_") else None,
        snapshot=plain({name: getattr(snapshot, name) for name in ("path", "sha256", "rows", "window")}),
        code=asdict(code_state()),
        decision=plain(decision),
        gate=plain(evaluated.decision),
        training={**_training(trained, evaluated), "seed": spec.estimator.seed, "threads": threads},
    )
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    return Manifest.from_json(manifest.to_json())  # as it will be read back, with the same types


def _promise(spec: ModelSpec, evaluated: Evaluated) -> Promise:
    value, low, high = plain([evaluated.promise, evaluated.promise_low, evaluated.promise_high])
    return Promise(spec.metric, value, low, high, evaluated.holdout_rows)


def _training(trained: Trained, evaluated: Evaluated) -> dict[str, Any]:  # Any: JSON
    record = {
        name: getattr(trained, name)
        for name in (
            "train_rows",
            "holdout_rows",
            "params",
            "seconds",
            "train_keys_sha256",
            "unlabelled_rows",
            "dropped_for_group",
            "anchored_rows",
            "rows_rule",
            "rows_note",
            "set_aside",
            "half_life_days",
            "effective_rows",
            "window_rows",
            "refit",
        )
    }
    scores = {
        name: getattr(evaluated, name)
        for name in (
            *("metrics", "champion_metrics", "baseline", "champion_version"),
            *("anchor_score", "anchor_sha256"),
        )
    }
    return dict(plain({**record, **scores}))


def _spec_json(spec: ModelSpec) -> str:
    record = spec.model_dump(mode="json")
    record["source"]["url"] = safe_url(record["source"]["url"])
    return json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def _reference_json(reference: Mapping[str, Any] | str) -> str:  # Any: JSON
    if not isinstance(reference, str):
        return json.dumps(plain(reference), sort_keys=True, allow_nan=False) + "\n"
    try:
        text = Path(reference).read_text("utf-8")
        json.loads(text)
    except (OSError, ValueError) as err:
        raise RegistryError(
            f"no readable reference profile ({type(err).__name__})",
            "the JSON file that profiling wrote",
            "profile the training rows again",
        ) from err
    return text
