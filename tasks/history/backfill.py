"""Facts of versions that were registered before facts were kept, read from their manifests."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import RegistryError
from tasks.history.answer import Answer
from tasks.settings import Settings
from tasks.store import catalog
from tasks.store.engine import open_store

if TYPE_CHECKING:
    from tasks.core.model.bundle import Manifest
    from tasks.store.version import Version


def backfill(model: str, settings: Settings) -> Answer:
    """Return which versions of the registry were noted now, and which could not be, with the reason.

    Only manifests are read. One whose digest is not that of the version, or not the one that the ledger has
    for it, is not believed. What is noted answers questions and vouches for nothing: see `catalog.is_held`.

    Raises:
        RegistryError: when the registry does not answer.
    """
    engine = open_store(settings)
    known = {facts.number for facts in catalog.all_facts(engine, model)}
    noted, failed = [], {}
    for version, registered_at in registered(model, settings):
        if version.number in known:
            continue
        try:
            _check_ledger(version, catalog.ledger_digests(engine, model, version.number))
            catalog.note_version(engine, version, _manifest(version), registered_at=registered_at)
            noted.append(version.number)
        except RegistryError as err:
            failed[version.number] = str(err)
    lines = [f"{model}: {len(noted)} versions noted, {len(known)} were known"]
    lines += [f"  version {number}: {why}" for number, why in sorted(failed.items())]
    data = {"model": model, "noted": noted, "known": sorted(known), "failed": failed}
    return Answer(data, tuple(lines), is_good=not failed)


def registered(model: str, settings: Settings) -> list[tuple[Version, datetime]]:
    """Return the versions in the registry that this project made, by rising number, with when they came.

    Raises:
        RegistryError: when the registry does not answer.
    """
    from tasks.store.mlflow_client import open_client, registry_errors
    from tasks.store.registry import TAG_DIGEST, as_version

    client = open_client(settings)
    found: list[Any] = []  # Any: mlflow's ModelVersion
    with registry_errors("listing versions", model):
        page: Any = None  # Any: a page of them, with the token of the next
        while page is None or page.token:
            page = client.search_model_versions(
                f"name = '{_quotable(model)}'", max_results=1000, page_token=page.token if page else None
            )
            found += page
    ours = [one for one in found if (one.tags or {}).get(TAG_DIGEST)]
    at = {int(one.version): datetime.fromtimestamp(one.creation_timestamp / 1000, UTC) for one in ours}
    return sorted(((as_version(one), at[int(one.version)]) for one in ours), key=lambda pair: pair[0].number)


def _check_ledger(version: Version, told: set[str]) -> None:
    if told and version.digest not in told:
        raise RegistryError(
            f"version {version.number} with digest {version.digest[:12]}…",
            f"{min(told)[:12]}…, as the ledger has it",
            "restore the registry that belongs to this store",
            model=version.name,
        )


def _quotable(model: str) -> str:
    if "'" in model or '"' in model:
        raise RegistryError(f"model name {model[:40]!r}", "a name without quotes")
    return model


def _manifest(version: Version) -> Manifest:
    from tasks.core.model.bundle import MANIFEST, Manifest, digest_of
    from tasks.store.mlflow_client import download, registry_errors

    with (
        registry_errors(f"reading version {version.number}", version.name),
        tempfile.TemporaryDirectory(prefix="evergreen-") as folder,
    ):
        download(f"{version.source}/{MANIFEST}", Path(folder))
        data = (Path(folder) / MANIFEST).read_bytes()
    if digest_of(data) != version.digest:
        raise RegistryError(
            f"version {version.number} whose manifest is not the one that was registered",
            f"digest {version.digest[:12]}…",
            "restore the artifact",
            model=version.name,
        )
    return Manifest.from_json(data.decode("utf-8"))
