"""The one way a champion moves: checked, loaded and re-scored first, entered in the ledger, done once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.clock import now_or
from tasks.core.errors import PromotionRefused, RegistryError, SpecError
from tasks.core.spec import ModelSpec
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import catalog, leases, ledger, moves, registry
from tasks.store.engine import open_store
from tasks.store.locks import model_lock
from tasks.store.models import own_types
from tasks.store.version import Version
from tasks.versions.probe import probe

UNSET: Literal["unset"] = "unset"


@dataclass(frozen=True)
class Promotion:
    """A champion that moved, as the ledger has it."""

    name: str
    from_version: int | None
    to_version: int
    action: str
    decision_id: str
    actor: str
    reason: str
    at: datetime


def again_unless_refused(task_: object, run: object, state: Any) -> bool:  # Any: prefect's own state type
    """Retry faults of the registry, never a refusal: asking again does not change an answer."""
    del task_, run
    return not isinstance(state.result(raise_on_failure=False), PromotionRefused | SpecError)


def move(
    spec: ModelSpec,
    version: Version,
    *,
    actor: str,
    reason: str,
    decision_id: str,
    as_of: datetime,
    expected: int | Literal["unset"] | None = UNSET,
    action: Literal["promoted", "rolled_back"] = "promoted",
    note: Mapping[str, Any] | None = None,  # Any: JSON
    settings: Settings | None = None,
) -> Promotion:
    """Return the promotion after the champion alias points at this version and the ledger says so.

    The version is downloaded, checked, loaded and re-scored first, unless it is refused before. The same
    decision moves at most once. Nothing else in the project moves the aliases `champion` and `previous`.

    Args:
        spec: the model.
        version: what shall serve.
        actor: who decided: "gate", or a person.
        reason: why; kept in the ledger.
        decision_id: identity of the decision; one outcome per id.
        as_of: when it counts as done.
        expected: number of the version the decision was made against (None: there was no champion). When
            another one serves by now the move is refused. Default: whatever serves.
        action: what the ledger calls it.
        note: what the ledger keeps besides, of the decision.
        settings: this place.

    Raises:
        PromotionRefused: when another version serves than `expected`, this one serves already, or it was put
            away and no person and no rollback brings it back.
        RegistryError: when the version cannot be believed, the store does not hold its digest, or the
            registry or ledger does not answer. What was moved by then is finished, or dropped, by the next
            call.
    """
    place, name = settings or Settings(), spec.name
    if version.name != name:
        raise RegistryError(f"a version of {version.name}", f"a version of {name}", model=name)
    with model_lock(f"{name}.move", place):
        stored = registry.find_version(name, version.number, settings=place)
        if stored.digest != version.digest:
            raise RegistryError(
                f"version {version.number} with another digest", f"{version.digest[:12]}…", model=name
            )
        if not catalog.is_held(open_store(place), stored):
            raise RegistryError(
                f"version {version.number} with files of digest {stored.digest[:12]}…, which the store does "
                "not hold for it",
                "files that this project registered",
                "find out who wrote them to MLflow; move another version, or retrain",
                model=name,
            )
        moves.finish_pending(name, settings=place)
        serving = registry.find_champion(name, settings=place)
        from_version = (serving.number if serving else None) if expected == UNSET else expected
        wanted = moves.Move(
            decision_id, action, from_version, version.number, actor, moves.short(reason), as_of, note or {}
        )
        if ledger.find(open_store(place), name, decision_id) is None:
            moves.refuse_if_moot(wanted, name, place)  # a refusal needs no probe, and others wait meanwhile
            kept = probe(stored, place, own_types(spec), limit_ms=spec.gate.max_latency_ms)
            evidence = {**kept, **(note or {})}
            # By the clock, whatever `as_of` says: from it follows how long a decision took to serve.
            evidence["moved_at"] = now_or(None).isoformat()
            wanted = replace(wanted, evidence=evidence)
        # The lease on top of the lock: a lock may be lost without its holder noticing, a lease may not.
        with leases.held(open_store(place), moves.lease_of(name)) as fence:
            row = moves.carry_out(wanted, name, settings=place, fence=fence)
    task_logger(__name__).info("%s: %s version %d by %s", name, row.action, version.number, row.actor)
    return Promotion(
        name, row.from_version, version.number, row.action, row.decision_id, row.actor, row.reason, row.at
    )


move_champion = task(
    name="move_champion",
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=again_unless_refused,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
)(move)
"""`move` as a step of a flow."""
