"""The champion: believed only where registry, ledger and files agree on which version serves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.errors import RegistryError, WorkflowError
from tasks.core.model.bundle import MODEL
from tasks.core.policy.partners import pair_text
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import registry
from tasks.store.agreed import agreed_champion, copy_as_served, serving_pair_now
from tasks.store.engine import open_store
from tasks.store.models import own_types, shared_model
from tasks.store.version import ChampionInfo, PartnerInfo, Version

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

    The partner that the ledger names beside it comes with it; one that cannot be had is left out with a
    warning, because the champion can answer alone.

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
    if found is not None:
        found = _with_partner(name, found, also, place)
    beside = found.partner.version if found and found.partner else None
    said = pair_text(found.version, beside) if found else "none"
    task_logger(__name__).info("%s: champion is %s", name, said)
    return found


def _with_partner(name: str, found: ChampionInfo, also: Iterable[str], place: Settings) -> ChampionInfo:
    """Return the champion with the partner that the ledger names, or alone with the reason why."""
    pair = serving_pair_now(open_store(place), name)
    if pair.partner is None or pair.champion != found.version:
        return found
    try:
        copy = copy_as_served(name, pair.partner, place, also)
        shared_model(copy.model_path, sha256=copy.manifest.files[MODEL], also={*also, *own_types(copy.spec)})
    except Exception as err:  # whatever it is, the champion can serve without
        why = err.found if isinstance(err, WorkflowError) else type(err).__name__
        trouble = f"version {pair.partner} cannot answer beside version {found.version}: {why}"
        task_logger(__name__).warning("%s: %s; the champion answers alone", name, trouble)
        return replace(found, partner_trouble=trouble)
    return replace(found, partner=PartnerInfo(copy.version, copy.path, copy.manifest))


def version_of(name: str, number: int, *, settings: Settings | None = None) -> Version:
    """Return the registered version of this number; see `tasks.store.registry.find_version`."""
    return registry.find_version(name, number, settings=settings)
