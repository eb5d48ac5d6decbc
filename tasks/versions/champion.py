"""The champion: believed only where registry, ledger and files agree on which version serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.errors import RegistryError
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.agreed import agreed_champion
from tasks.store.version import ChampionInfo, Version

__all__ = ["ChampionInfo", "Version", "agreed_champion", "champion", "version_of"]

_ABSENT = "no champion"


def _again_unless_absent(task_: object, run: object, state: Any) -> bool:  # Any: prefect's own state type
    """Retry faults of the registry, not its answer that there is no champion."""
    del task_, run
    found = state.result(raise_on_failure=False)
    return not (isinstance(found, RegistryError) and found.found == _ABSENT)


@task(
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=_again_unless_absent,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
)
def champion(
    name: str, *, required: bool = False, also: Iterable[str] = (), settings: Settings | None = None
) -> ChampionInfo | None:
    """Return the version that serves, with a verified local copy; None only when there is none.

    "None" is believed only when MLflow says so explicitly and the ledger never promoted one.

    Args:
        name: the registered model.
        required: Raise instead of returning None.
        also: further classes to accept (`tasks.store.models.own_types`). Those of the version's own spec are
            accepted when the ledger vouches for the version's digest.
        settings: this place.

    Raises:
        RegistryError: when the registry or the ledger does not answer, they disagree, a file is missing or
            damaged, or `required` and there is none.
    """
    place = settings or Settings()
    agreed = agreed_champion(name, place)
    vouched = agreed.digest if agreed else None
    found = registry.champion(name, settings=place, also=also, vouched=vouched)
    if found is None and required:
        raise RegistryError(_ABSENT, "a promoted version", "run the retrain flow first", model=name)
    task_logger(__name__).info("%s: champion is %s", name, f"version {found.version}" if found else "none")
    return found


def version_of(name: str, number: int, *, settings: Settings | None = None) -> Version:
    """Return the registered version of this number; see `tasks.store.registry.find_version`."""
    return registry.find_version(name, number, settings=settings)
