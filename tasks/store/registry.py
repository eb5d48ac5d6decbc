"""Versions as they are read: found, downloaded, checked against their digests, loaded, re-scored.

Serving uses this module, so it needs no prefect; MLflow is imported when it is first asked.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import RegistryError, RegistryUnavailable
from tasks.core.model.bundle import (
    GOLDEN,
    MANIFEST,
    MODEL,
    Manifest,
    digest_of,
)
from tasks.core.model.golden import Answers, difference
from tasks.settings import Settings
from tasks.store.leftovers import sweep
from tasks.store.mlflow_client import download, open_client, registry_errors
from tasks.store.models import own_types, shared_model
from tasks.store.passing import is_not_there
from tasks.store.version import ChampionInfo, Version, spec_in

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
PREVIOUS = "previous"
TAG_ATTEMPT = "evergreen.attempt"
TAG_DIGEST = "evergreen.digest"
_NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # of a model; of an alias
_SERVE_NOTHING = "keep serving what serves; restore the artifact or promote another version"


def find_champion(name: str, *, settings: Settings | None = None) -> Version | None:
    """Return the version that carries the champion alias, or None when MLflow says there is none.

    "None" needs two explicit answers: the alias (or the model) is not found, and a listing that succeeds
    agrees. An HTTP 404 of a wrong address, a lost database or an alias without its version is no such answer.

    Raises:
        RegistryError: in every other case.
    """
    return find_alias(name, CHAMPION, settings=settings)


def find_alias(name: str, alias: str, *, settings: Settings | None = None) -> Version | None:
    """Return the version that carries this alias, or None; see `find_champion`."""
    client = open_client(settings)
    from mlflow.exceptions import MlflowException

    with registry_errors(f"looking up the {alias}", name):
        try:
            return as_version(client.get_model_version_by_alias(name, alias))
        except MlflowException as err:
            if err.error_code not in _NOT_FOUND or not _surely_without(client, name, alias):
                raise
            return None


def find_version(name: str, number: int, *, settings: Settings | None = None) -> Version:
    """Return the version of this number.

    Raises:
        RegistryError: when there is none, as a listing confirms, or the registry does not answer.
    """
    client = open_client(settings)
    from mlflow.exceptions import MlflowException

    with registry_errors(f"looking up version {number}", name):
        try:
            return as_version(client.get_model_version(name, str(number)))
        except MlflowException as err:
            if is_not_there(err):  # which a wrong address says as well
                _check_lists(client, name)
            raise


def _check_lists(client: MlflowClient, name: str) -> None:
    """Return nothing where the registry lists versions of a model, so that it is one, and answers."""
    from mlflow.exceptions import MlflowException

    try:
        client.search_model_versions(f"name = '{name}'")
    except MlflowException as err:
        raise RegistryUnavailable(
            f"an address that lists no versions ({err.error_code})",
            "MLflow's registry",
            "check EVERGREEN_MLFLOW",
            model=name,
        ) from err


def as_version(found: ModelVersion) -> Version:
    """Return the version as MLflow describes it.

    Raises:
        RegistryError: when it carries no digest, so nothing can tell whether its files are those evaluated.
    """
    digest = (found.tags or {}).get(TAG_DIGEST, "")
    if not digest:
        raise RegistryError(
            f"version {found.version} without the tag {TAG_DIGEST}",
            "a version that this project registered",
            "register it with the retrain flow",
            model=str(found.name),
        )
    return Version(str(found.name), int(found.version), str(found.run_id or ""), str(found.source), digest)


def champion(
    name: str, *, settings: Settings | None = None, also: Iterable[str] = (), vouched: str | None = None
) -> ChampionInfo | None:
    """Return the champion with a verified local copy, or None when MLflow says there is none.

    The copy is kept under its digest; a kept copy is checked again on every call and fetched anew when it was
    damaged. When it is first fetched its golden rows are re-scored.

    Args:
        name: the registered model.
        settings: this place.
        also: further classes to accept, from `tasks.store.models.own_types`.
        vouched: digest that the ledger holds for the champion; a version with it may hold the classes that
            its own spec names, because then that spec is ours.

    Raises:
        RegistryError: when the registry does not answer, a file is missing or has another digest, the model
            holds a type that is not allowed, or it answers the golden rows otherwise.
    """
    place = settings or Settings()
    version = find_champion(name, settings=place)
    if version is None:
        return None
    return local_copy(version, settings=place, also=also, vouched=vouched)


def local_copy(
    version: Version,
    *,
    settings: Settings | None = None,
    also: Iterable[str] = (),
    vouched: str | None = None,
) -> ChampionInfo:
    """Return the version with a verified local copy; see `champion` for the arguments.

    Raises:
        RegistryError: see `champion`.
    """
    place = settings or Settings()
    kept = place.root / "versions" / version.digest
    manifest = _kept_manifest(kept, version)
    if manifest is None:
        with downloaded(version, settings=place) as (folder, manifest):
            is_ours = vouched == version.digest
            load_checked(folder, manifest, also={*also, *(own_types(spec_in(folder)) if is_ours else ())})
            _keep(folder, kept)
    return ChampionInfo(version.number, str(kept), manifest)


@contextmanager
def downloaded(version: Version, *, settings: Settings | None = None) -> Iterator[tuple[Path, Manifest]]:
    """Give a fresh copy of the version's files and its manifest; the copy is gone after the block.

    Raises:
        RegistryError: when a file is missing or any digest differs, up to the manifest's own.
    """
    place = settings or Settings()
    open_client(place)
    folder = place.root / "versions" / f".part-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    sweep(folder.parent)
    folder.mkdir(parents=True)
    try:
        with registry_errors(f"reading version {version.number}", version.name):
            _download(version, MANIFEST, folder)
            for name in _manifest_in(folder, version).files:
                _download(version, name, folder)
        yield folder, verified(folder, version)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def verified(folder: Path, version: Version) -> Manifest:
    """Return the manifest of the copy in this folder, every file of which has the digest it should have.

    Raises:
        RegistryError: naming the first file that is missing or differs.
    """
    with registry_errors(f"reading version {version.number}", version.name):
        manifest = _manifest_in(folder, version)
        for name, sha256 in manifest.files.items():
            if digest_of((folder / name).read_bytes()) != sha256:
                raise RegistryError(
                    f"version {version.number} whose {name} has another digest than its manifest says",
                    "the files that were registered",
                    _SERVE_NOTHING,
                    model=version.name,
                )
    return manifest


def load_checked(folder: Path, manifest: Manifest, *, also: Iterable[str] = ()) -> Any:  # Any: an estimator
    """Return the model of a verified copy, after it answered its golden rows as it did when evaluated.

    Raises:
        RegistryError: when the model may not be loaded, or answers otherwise.
    """
    import pandas as pd

    model = shared_model(folder / MODEL, sha256=manifest.files[MODEL], also=also)
    with registry_errors("re-scoring the golden rows", manifest.model):
        golden = pd.read_parquet(folder / GOLDEN)
        differs = difference(golden, answers_of(model, golden[spec_in(folder).features.all]))
    if differs:
        raise RegistryError(
            f"a model that gives {differs}",
            "the answers it gave when it was evaluated",
            "do not serve it; compare library versions with those of its manifest",
            model=manifest.model,
        )
    return model


def answers_of(model: object, rows: pd.DataFrame) -> Answers:
    """Return what the model answers to these rows of features, on one thread: golden rows are few."""
    from threadpoolctl import threadpool_limits

    from tasks.core.model.pipeline import predict

    with threadpool_limits(1):
        given = predict(model, rows)
    return Answers(given.prediction, given.probabilities)


def _surely_without(client: MlflowClient, name: str, alias: str) -> bool:
    """Tell whether a listing confirms that the model or the alias does not exist.

    Needed because MLflow gives the code of "not found" to any HTTP 404 and to an alias without its version.
    """
    found = [item for item in client.search_registered_models(f"name = '{name}'") if item.name == name]
    if not found:
        return True
    return alias not in client.get_registered_model(name).aliases


def _manifest_in(folder: Path, version: Version) -> Manifest:
    data = (folder / MANIFEST).read_bytes()
    manifest = Manifest.from_json(data.decode("utf-8"))
    if digest_of(data) != version.digest or manifest.model != version.name:
        raise RegistryError(
            f"version {version.number} whose manifest is not the one that was registered",
            f"digest {version.digest[:12]}…",
            _SERVE_NOTHING,
            model=version.name,
        )
    return manifest


def _download(version: Version, name: str, folder: Path) -> None:
    download(f"{version.source}/{name}", folder)


def _kept_manifest(kept: Path, version: Version) -> Manifest | None:
    if not kept.is_dir():
        return None
    try:
        return verified(kept, version)
    except RegistryUnavailable:
        raise
    except RegistryError:
        shutil.rmtree(kept, ignore_errors=True)  # only the copy: the registry is asked again
        return None


def _keep(folder: Path, kept: Path) -> None:
    try:
        folder.rename(kept)
    except OSError:
        if not kept.is_dir():  # otherwise another process kept the same files first
            raise
