"""The champion that registry and ledger agree on; without Prefect, because the serving app asks too."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tasks.core.errors import RegistryError
from tasks.core.policy.partners import MOVES, PARTNERED, ServingPair
from tasks.core.policy.served import SERVING
from tasks.settings import Settings
from tasks.store import ledger, moves, registry
from tasks.store.engine import open_store, reading
from tasks.store.locks import model_lock
from tasks.store.schema import promotions
from tasks.store.version import ChampionInfo, Version


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


def serving_now(engine: Engine, model: str) -> int | None:
    """Return the version that the ledger says serves; None before the first promotion. Cheap: one row."""
    return serving_pair_now(engine, model).champion


def serving_pair_now(engine: Engine, model: str) -> ServingPair:
    """Return what the ledger says answers, champion and partner. Cheap: one row."""
    query = (
        sa.select(promotions.c.action, promotions.c.to_version, promotions.c.partner)
        .where(promotions.c.model == model, promotions.c.action.in_(MOVES))
        .order_by(promotions.c.id.desc())
        .limit(1)
    )
    with reading(engine) as connection:
        row = connection.execute(query).first()
    if row is None:
        return ServingPair(None)
    return ServingPair(row.to_version, row.partner if row.action == PARTNERED else None)


def served_digest(name: str, number: int, place: Settings) -> str | None:
    """Return the digest under which this version served last; None when it never served."""
    rows = ledger.history(open_store(place), name)
    served = [row for row in rows if row.action in SERVING and row.to_version == number]
    return (str(served[-1].evidence.get("digest") or "") or None) if served else None


def as_it_served(name: str, number: int, place: Settings) -> Version:
    """Return the version of this number, whose files are those under which it served, if it ever did.

    Raises:
        RegistryError: when they are others, or the registry does not answer.
    """
    target, digest = registry.find_version(name, number, settings=place), served_digest(name, number, place)
    if digest and digest != target.digest:
        raise RegistryError(
            f"version {number} with digest {target.digest[:12]}…, which served as {digest[:12]}…",
            "the files that served before",
            "restore them, or name another version",
            model=name,
        )
    return target


def former_champion(name: str, number: int, place: Settings) -> Version:
    """Return a version that served, with the very files under which it did: the ledger vouches for them.

    Raises:
        RegistryError: when it never served, its files are others, or the registry does not answer.
    """
    if served_digest(name, number, place) is None:
        raise RegistryError(f"version {number}, which never served", "a former champion", model=name)
    return as_it_served(name, number, place)


def copy_as_served(name: str, number: int, place: Settings, also: Iterable[str] = ()) -> ChampionInfo:
    """Return a checked local copy of a former champion; see `tasks.store.registry.local_copy`."""
    version = former_champion(name, number, place)
    return registry.local_copy(version, settings=place, also=also, vouched=version.digest)


def _disagreement(serving: Version | None, row: ledger.LedgerRow | None) -> str | None:
    number, promoted = (serving.number if serving else None), (row.to_version if row else None)
    if number != promoted:
        return f"version {number or 'none'} serving while the ledger says {promoted or 'none'}"
    digest = str(row.evidence.get("digest", "")) if row else ""
    if serving and digest and digest != serving.digest:
        return f"version {number} with digest {serving.digest[:12]}…, promoted as {digest[:12]}…"
    return None
