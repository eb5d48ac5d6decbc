"""The champion: believed only where registry, ledger and files agree on which version serves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.errors import RegistryError
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import ledger, moves, registry
from tasks.store.locks import model_lock
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


def agreed_champion(name: str, place: Settings) -> Version | None:
    """Return the version that registry and ledger agree to serve; None when both say there is none.

    A move that was interrupted is finished first.

    Raises:
        RegistryError: when they disagree, or one does not answer.
    """
    for is_last in (False, True):
        serving = registry.find_champion(name, settings=place)
        row = moves.last_move(name, settings=place)
        fault = _disagreement(serving, row)
        if fault is None:
            return serving
        if not is_last:  # a move may have been interrupted, or be under way
            with model_lock(f"{name}.move", place):
                moves.finish_pending(name, settings=place)
    raise RegistryError(
        str(fault),
        "registry and ledger to agree on which version serves",
        "promote the version that should serve, with a reason, or restore the registry",
        model=name,
    )


def _disagreement(serving: Version | None, row: ledger.LedgerRow | None) -> str | None:
    number, promoted = (serving.number if serving else None), (row.to_version if row else None)
    if number != promoted:
        return f"version {number or 'none'} serving while the ledger says {promoted or 'none'}"
    digest = str(row.evidence.get("digest", "")) if row else ""
    if serving and digest and digest != serving.digest:
        return f"version {number} with digest {serving.digest[:12]}…, promoted as {digest[:12]}…"
    return None
