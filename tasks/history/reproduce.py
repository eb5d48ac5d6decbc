"""A version made a second time, from the same rows, spec and code, and its answers beside the first one's."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.dataset import Dataset
from tasks.core.errors import RegistryError, SpecError
from tasks.history.answer import Answer, listed, short
from tasks.history.past import UNKNOWN_HERE
from tasks.settings import Settings
from tasks.store import anchors, catalog
from tasks.store.engine import open_store
from tasks.store.snapshots import local_snapshot

if TYPE_CHECKING:
    from tasks.core.model.bundle import Manifest
    from tasks.core.results import Trained
    from tasks.store.version import Version

Train = Callable[..., "Trained"]
"""`tasks.train.train_challenger` as a plain function; for the refit, `tasks.refit.fit_again`."""


def reproduce(
    model: str, number: int, *, train: Train, refit: Train, settings: Settings, anyway: bool = False
) -> Answer:
    """Return whether the version, trained again from what is kept of it, answers its golden rows the same.

    Nothing is registered; the files of the second training are removed.

    Args:
        model: the registered model.
        number: which version.
        train: what trains, with the arguments of `train_challenger`.
        refit: what fits on all rows afterwards, with the arguments of `fit_again`.
        settings: this place.
        anyway: train even though code, lock or libraries differ from those the version was made with.

    Raises:
        RegistryError: when the version cannot be read or its rows are gone or changed.
        SpecError: when this code is another, and not `anyway`.
        TrainingError: when these rows cannot be trained on.
    """
    from tasks.store import registry
    from tasks.store.version import spec_in

    version = _vouched(model, number, settings)
    began, attempt = time.perf_counter(), f"reproduce-{model}-{number}-{time.time_ns():x}"
    scratch = settings.work_dir(attempt)
    try:
        with registry.downloaded(version, settings=settings) as (folder, manifest):
            differs = differences(manifest)
            if differs and not anyway:
                raise _other_code(model, number, manifest, differs)
            rows = _rows(manifest, scratch, settings)
            spec = spec_in(folder)
            extra = {
                **_champion(manifest, spec.estimator.mode, settings),
                **_anchor(version, manifest, scratch, settings),
            }
            trained = train(spec, rows, attempt, settings=settings, **extra)
            record = manifest.training.get("refit") or {}
            if record.get("is_used"):
                since = record.get("reserved_since")
                extra["reserved_since"] = datetime.fromisoformat(since) if since else None
                trained = refit(spec, rows, trained, settings=settings, **extra)
            largest, said = _compared(folder, trained)
        same_keys = trained.train_keys_sha256 == manifest.training.get("train_keys_sha256")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    data = {
        "model": model,
        "version": number,
        "equal": said is None,
        "largest_difference": largest,
        "difference": said,
        "same_rows": same_keys,
        "train_rows": trained.train_rows,
        "same_model_file": trained.model_sha256 == manifest.files["model.skops"],
        "code_differs": differs,
        "seconds": time.perf_counter() - began,
    }
    head = "answers its golden rows as before" if said is None else f"gives {said}"
    pairs = [
        ("largest difference", largest),
        ("fitted on", f"{trained.train_rows} rows, {'the same' if same_keys else 'others than then'}"),
        ("model file", "the same, byte for byte" if data["same_model_file"] else "other bytes"),
        ("snapshot", short(manifest.snapshot.get("sha256"))),
        ("differs from then", "; ".join(differs)),
        ("seconds", round(float(data["seconds"]), 1)),
    ]
    line = f"{model}: version {number}, trained again, {head}"
    return Answer(data, (line, *listed(pairs)), is_good=said is None)


def differences(manifest: Manifest) -> list[str]:
    """Return in what code, lock and libraries differ from those the version was made with."""
    from tasks.store.provenance import code_state

    now, then = code_state(), manifest.code
    found = []
    if then.get("commit") is None:
        found.append("its commit is not known")
    elif now.commit != then["commit"]:
        found.append(f"commit {short(now.commit) or 'unknown'} instead of {short(then['commit'])}")
    for dirty, whose in ((then.get("dirty"), "it was made with"), (now.dirty, "there are now")):
        if dirty:
            found.append(f"{whose} uncommitted changes")
    if now.lock_sha256 != then.get("lock_sha256"):
        found.append(
            f"lock {short(now.lock_sha256) or 'unknown'} instead of {short(then.get('lock_sha256'))}"
        )
    for name, here in (("python", now.python), ("scikit_learn", now.scikit_learn)):
        if then.get(name) and then[name] != here:
            found.append(f"{name.replace('_', '-')} {here} instead of {then[name]}")
    return found


def _other_code(model: str, number: int, manifest: Manifest, differs: list[str]) -> SpecError:
    commit = manifest.code.get("commit")
    go = f"`git worktree add ../then {commit[:12]}`, `make` its environment there, and " if commit else ""
    return SpecError(
        f"other code than version {number} was made with: {'; '.join(differs)}",
        "the same commit, lock and libraries",
        f"{go}run this there with EVERGREEN_STATE_DIR of here; or --anyway to see how far it differs",
        model=model,
    )


def _rows(manifest: Manifest, scratch: Path, settings: Settings) -> Dataset:
    """Return the rows it was trained on, as a file whose digest was checked."""
    path, sha256 = (str(manifest.snapshot.get(name) or "") for name in ("path", "sha256"))
    local = local_snapshot(path, sha256, scratch, settings, model=manifest.model)
    return Dataset(str(local), int(manifest.snapshot.get("rows") or 0), sha256, manifest.train_window)


def _champion(manifest: Manifest, mode: str, settings: Settings) -> dict[str, Any]:
    """Return what a model that learns on needs: the champion of then. Any: arguments of training."""
    before = manifest.training.get("champion_version")
    if mode != "partial_fit" or before is None:
        return {}
    from tasks.store import registry

    earlier = _vouched(manifest.model, int(before), settings)
    info = registry.local_copy(earlier, settings=settings, vouched=earlier.digest)
    return {"champion_model": info.model_path, "champion_train_end": info.train_end}


def _anchor(version: Version, manifest: Manifest, scratch: Path, settings: Settings) -> dict[str, Any]:
    """Return the frozen rows that were kept out of its training, if any. Any: arguments of training."""
    gate = manifest.gate.get("anchor") or {}
    sha256 = manifest.training.get("anchor_sha256") or gate.get("sha256")
    rows = [row for row in anchors.history(open_store(settings), version.name) if row.sha256 == sha256]
    if not sha256:
        return {}
    if not rows:
        raise RegistryError(
            f"no anchor with digest {sha256[:12]}… on record",
            "the frozen rows that were kept out of its training",
            "use the store that the version was made with",
            model=version.name,
        )
    path = local_snapshot(rows[0].path, rows[0].sha256, scratch, settings, model=version.name)
    return {"anchor_path": str(path)}


def _vouched(model: str, number: int, settings: Settings) -> Version:
    """Return the version, whose digest this store holds: only then is the spec in its bundle ours to run.

    Facts that were read from the registry, by `backfill`, are no more than the registry's own word.
    """
    from tasks.store import registry

    version = registry.find_version(model, number, settings=settings)
    facts = catalog.version_facts(open_store(settings), model, number)
    if facts is None or facts.digest != version.digest:
        raise RegistryError(
            f"version {number} whose digest the store does not hold",
            "a version that was registered with this store",
            UNKNOWN_HERE.format(model) if facts is None else "restore the artifact",
            model=model,
        )
    if not catalog.is_held(open_store(settings), version):
        raise RegistryError(
            f"version {number}, of which only the registry says that these are its files",
            "a version that was registered with this store, or is in its ledger",
            "use the store that it was made with; or read its bundle, and train its spec yourself",
            model=model,
        )
    return version


def _compared(folder: Path, trained: Trained) -> tuple[float | None, str | None]:
    """Return the largest difference between the two models' numbers on the golden rows, and what differs."""
    import numpy as np
    import pandas as pd

    from tasks.core.model.bundle import GOLDEN
    from tasks.core.model.golden import PREDICTION, PROBABILITY, difference
    from tasks.store.models import load_model, own_types
    from tasks.store.registry import answers_of
    from tasks.store.version import spec_in

    spec, golden = spec_in(folder), pd.read_parquet(folder / GOLDEN)
    model = load_model(trained.model_path, also=own_types(spec))
    answers = answers_of(model, golden[spec.features.all])
    names = [name for at in range(len(golden.columns)) if (name := PROBABILITY.format(at)) in golden.columns]
    then, now = golden[names].to_numpy(float), answers.probabilities
    if not names:
        if spec.task != "regression":
            return None, difference(golden, answers)
        then, now = golden[PREDICTION].to_numpy(float), np.asarray(answers.prediction, float)
    is_alike = now is not None and then.shape == now.shape and then.size > 0
    return (float(np.abs(then - now).max()) if is_alike else None), difference(golden, answers)
