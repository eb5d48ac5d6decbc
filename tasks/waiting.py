"""What waits for a person, gathered for a look that changes nothing."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from tasks.core.policy.approval_record import Shelf, shelf_markdown
from tasks.core.spec import ModelSpec
from tasks.pages.note import note
from tasks.run_state import completed
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.engine import open_store
from tasks.versions.ruling import still_waiting


@task(retries=2, retry_delay_seconds=2, timeout_seconds=600, cache_policy=NO_CACHE)
def look_at_waiting(spec: ModelSpec, version: int | None, *, settings: Settings | None = None) -> Shelf:
    """Return what waits and the numbers of one version: the one named, or the newest that waits.

    Its files are downloaded and checked against their digests; nothing is loaded and nothing changes.

    Raises:
        RegistryError: when that version does not exist or its files are not those registered, or the registry
            does not answer.
    """
    place = settings or Settings()
    waits = still_waiting(open_store(place), spec)
    serving = registry.find_champion(spec.name, settings=place)
    number = serving.number if serving else None
    chosen = version or (waits[-1].version if waits else None)
    if chosen is None:
        return Shelf(spec.name, number, waits)
    found = registry.find_version(spec.name, chosen, settings=place)
    with registry.downloaded(found, settings=place) as (_, manifest):
        return Shelf(spec.name, number, waits, chosen, manifest)


@task(retries=2, retry_delay_seconds=2, timeout_seconds=60, cache_policy=NO_CACHE)
def publish_waiting(spec: ModelSpec, shelf: Shelf) -> str:
    """Return the key of the artifact that a person reads before ruling on a version."""
    return note(spec.name, "approval", shelf_markdown(shelf), shelf.sentence())


def as_state(shelf: Shelf) -> State[Any]:
    """Return a completed state that says what waits."""
    name = "Waiting" if shelf.one else "Nothing waits" if shelf.chosen is None else "Not waiting"
    return completed(name, shelf.sentence(), shelf)
