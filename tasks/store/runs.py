"""Versions as they are written to MLflow: one ended run, one checked upload, one version per attempt."""

from __future__ import annotations

import json
import math
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import RegistryError
from tasks.core.model.bundle import MANIFEST, SPEC, Manifest, digest_of
from tasks.core.policy.stages import FILED
from tasks.settings import Settings
from tasks.store import catalog
from tasks.store.engine import open_store
from tasks.store.mirror import TAG_STAGE
from tasks.store.mlflow_client import experiment_id, open_client, registry_errors, upload
from tasks.store.registry import TAG_ATTEMPT, TAG_DIGEST, Version, as_version, downloaded, load_checked

if TYPE_CHECKING:
    from mlflow import MlflowClient

FOLDER = "bundle"
_LONGEST_PARAM = 500  # MLflow cuts longer ones with a warning


def version_of_attempt(name: str, attempt: str, *, settings: Settings) -> Version | None:
    """Return the version that an earlier call with this attempt registered, its run ended; None without one.

    Whoever can write the registry can tag a version with any attempt, so only one whose files the store says
    this attempt made counts.

    Raises:
        RegistryError: when MLflow does not answer, or only others than that bear the attempt.
    """
    client = open_client(settings)
    with registry_errors("looking for the attempt's version", name):
        found = client.search_model_versions(f"name = '{name}' and tags.`{TAG_ATTEMPT}` = '{attempt}'")
        if not found:
            return None
        held = catalog.held_of_attempt(open_store(settings), name, attempt)
        ours = [item for item in found if (item.tags or {}).get(TAG_DIGEST) in held]
        if not ours:
            raise _not_of_attempt(name, attempt, found)
        version = as_version(min(ours, key=lambda item: int(item.version)))
        if client.get_run(version.run_id).info.status != "FINISHED":
            client.set_terminated(version.run_id, "FINISHED")  # killed after the version, before the end
    return version


def upload_version(
    folder: Path, manifest: Manifest, *, settings: Settings, at: datetime, also: Iterable[str] = ()
) -> Version:
    """Return the new version of the bundle in this folder, read back and re-scored before it exists.

    The store holds its digest before the registry has the version; `at` is when, by the clock.

    Raises:
        RegistryError: when any step fails; the run is then marked as failed and there is no version.
    """
    client, name = open_client(settings), manifest.model
    digest = digest_of((folder / MANIFEST).read_bytes())
    with registry_errors("starting a run", name):
        experiment = experiment_id(client, name, settings)
        _end_killed_runs(client, experiment, manifest.attempt)
        run = client.create_run(
            experiment, run_name=f"{name}-{manifest.attempt}", tags=_tags(manifest, digest)
        )
    run_id, source = str(run.info.run_id), f"{run.info.artifact_uri}/{FOLDER}"
    with _ended(client, run_id, name):
        with registry_errors("uploading a version", name):
            client.log_batch(run_id, metrics=_metrics(manifest), params=_params(manifest))
            client.log_inputs(run_id, datasets=[_training_rows(manifest)])
            upload(client, run_id, folder, FOLDER)
        with downloaded(Version(name, 0, run_id, source, digest), settings=settings) as (copy, stored):
            load_checked(copy, stored, also=also)
        catalog.note_bundle(open_store(settings), name, manifest.attempt, digest, at=at)
        with registry_errors("creating a version", name):
            _ensure_model(client, name)
            # The tags are part of the same transaction, so a version is never without its attempt.
            made = client.create_model_version(name, source, run_id, tags=_tags(manifest, digest))
    return as_version(made)


def _not_of_attempt(name: str, attempt: str, found: Iterable[Any]) -> RegistryError:  # Any: ModelVersion
    numbers = ", ".join(str(number) for number in sorted(int(item.version) for item in found)[:5])
    return RegistryError(
        f"version {numbers} tagged as made by {attempt[:40]}, with files the store does not hold",
        "files that this attempt made",
        f"find out who wrote the tag {TAG_ATTEMPT}; delete it or the version in MLflow, then run again",
        model=name,
    )


@contextmanager
def _ended(client: MlflowClient, run_id: str, name: str) -> Iterator[None]:
    """End the run FINISHED after the block, or FAILED when anything interrupts it, a SIGTERM too."""
    try:
        with _sigterm_raises():
            yield
    except BaseException:
        with registry_errors("ending a failed run", name):
            client.set_terminated(run_id, "FAILED")
        raise
    with registry_errors("ending a run", name):
        client.set_terminated(run_id, "FINISHED")


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Make SIGTERM an exception for the block, where nobody else handles it and Python lets us."""
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not ours:
        yield
        return

    def leave(number: int, frame: object) -> None:
        del frame
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_killed_runs(client: MlflowClient, experiment: str, attempt: str) -> None:
    """Mark runs of this attempt that a killed process left running; the caller holds the model's lock."""
    for run in client.search_runs([experiment], f"tags.`{TAG_ATTEMPT}` = '{attempt}'"):
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "KILLED")


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as err:
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def lineage_tags(manifest: Manifest) -> dict[str, str]:
    """Return what a version was made of and why, as tags to search by; what is not known has no tag.

    The same stands in the manifest, which the digest vouches for: tags are for finding, not for believing.
    """
    code, why, training = manifest.code, manifest.decision, manifest.training
    known = {
        "decision": manifest.decision_id,
        "cause": why.get("cause"),
        "caused_by": why.get("caused_by"),
        "created": manifest.created.isoformat(),
        **{f"snapshot{name}": value for name, value in _rows(manifest).items()},
        "spec": manifest.files.get(SPEC),
        "seed": training.get("seed"),
        "threads": training.get("threads"),
        "lock": code.get("lock_sha256"),
        "image": code.get("image"),
        "python": code.get("python"),
    }
    tags = {f"evergreen.{name}": str(value) for name, value in known.items() if value not in {None, ""}}
    tags["evergreen.dirty"] = str(code.get("dirty")).lower()
    tags["mlflow.source.git.commit"] = str(code.get("commit") or "unknown")
    return tags


def _rows(manifest: Manifest) -> dict[str, Any]:  # Any: text, or None where one is not known
    """Return which rows a version was trained on: their file, its keys, and from when they are."""
    return {
        "": manifest.snapshot.get("sha256"),
        ".keys": manifest.training.get("train_keys_sha256"),
        ".interval": str(manifest.train_window),
        ".cut": manifest.cut.isoformat(),
    }


def _tags(manifest: Manifest, digest: str) -> dict[str, str]:
    born = {TAG_ATTEMPT: manifest.attempt, TAG_DIGEST: digest, TAG_STAGE: FILED["registered"]}
    tags = {**born, **lineage_tags(manifest)}
    return {key: value[:_LONGEST_PARAM] for key, value in tags.items()}


def _metrics(manifest: Manifest) -> list[Any]:  # Any: mlflow.entities.Metric
    from mlflow.entities import Metric

    at = max(int(manifest.created.timestamp() * 1000), 0)  # MLflow refuses times before 1970
    training = manifest.training
    values: dict[str, Any] = {  # Any: numbers, or None where one is not known
        **(training.get("metrics") or {}),
        **{f"champion_{name}": value for name, value in (training.get("champion_metrics") or {}).items()},
        **{name: training.get(name) for name in ("baseline", "seconds", "train_rows", "holdout_rows")},
        "promise": manifest.promise.value,
    }
    return [
        Metric(name, float(value), at, 0)
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    ]


def _params(manifest: Manifest) -> list[Any]:  # Any: mlflow.entities.Param
    from mlflow.entities import Param

    known = {"metric": manifest.promise.metric, **(manifest.training.get("params") or {})}
    return [Param(str(name), str(value)[:_LONGEST_PARAM]) for name, value in known.items()]


def _training_rows(manifest: Manifest) -> Any:  # Any: mlflow.entities.DatasetInput
    """Name the snapshot by our own digest; MLflow's would walk every value and cover 10,000 rows."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    path, sha256 = (str(manifest.snapshot.get(key, "")) for key in ("path", "sha256"))
    rows = Dataset(
        name=f"{manifest.model}-snapshot",
        digest=sha256[:36],
        source_type="s3" if path.startswith("s3://") else "local",
        source=json.dumps({"uri": path}),
        profile=json.dumps({"num_rows": manifest.snapshot.get("rows")}),
    )
    tags = {"mlflow.data.context": "training"}
    tags |= {f"evergreen.snapshot{name}": str(value) for name, value in _rows(manifest).items() if value}
    return DatasetInput(dataset=rows, tags=[InputTag(key, value) for key, value in tags.items()])
