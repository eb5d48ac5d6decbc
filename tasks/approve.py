"""A person's word on versions: what waits is approved, rejected, or ends by silence, once each."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.core.errors import PromotionRefused, RegistryError
from tasks.core.policy.approval import (
    SILENCE,
    Waiting,
    approval_id,
    check_named,
    check_not_backdated,
    check_signed,
    promotion_id,
)
from tasks.core.spec import ModelSpec
from tasks.settings import Settings
from tasks.store import ledger, registry
from tasks.store.engine import open_store
from tasks.versions.move import again_unless_refused, move
from tasks.versions.ruling import (
    Ruling,
    Wish,
    as_recorded,
    ending_moves,
    last_moved,
    recorded,
    said_before,
    still_waiting,
)


@dataclass(frozen=True)
class Expired:
    """The versions whose waiting ended by silence, and those that still wait."""

    versions: tuple[int, ...]
    left: tuple[int, ...]


@task(
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=again_unless_refused,
    timeout_seconds=900,
    cache_policy=NO_CACHE,
)
def approve(
    spec: ModelSpec,
    version: int | None,
    *,
    actor: str,
    reason: str,
    as_of: datetime,
    settings: Settings | None = None,
) -> Ruling:
    """Return the ruling after the version serves, or after the ledger says why it may not.

    A version that waits is approved against the champion it was compared with: when another one serves by
    now, or it has waited too long, that is what the ledger says and the champion stays. Any other registered
    version, named by its number, is promoted over whatever serves, because a person says so. Either way it
    is loaded and re-scored first. The same words about the same version are one ruling, however often and
    by however many they are said at once.

    Args:
        spec: the model.
        version: what shall serve; it has to be named.
        actor: who decides.
        reason: why.
        as_of: when it counts as decided; not before the newest row of the ledger.
        settings: this place.

    Raises:
        SpecError: when actor or reason is empty, or no version is named.
        PromotionRefused: when `as_of` lies before what the ledger holds already.
        RegistryError: when the version does not exist or cannot be believed, or registry or ledger do not
            answer; nothing has moved then, and what waited still waits.
    """
    check_signed(actor, reason, model=spec.name)
    place = settings or Settings()
    engine = open_store(place)
    rows = ledger.history(engine, spec.name)
    waits = still_waiting(engine, spec)
    number = check_named(version, waits, model=spec.name)
    if said := said_before(rows, number, "approve", actor, reason):
        return as_recorded(engine, spec, said)
    check_not_backdated(as_of, rows, model=spec.name)
    one = next((item for item in waits if item.version == number), None)
    wish = Wish(spec, place, number, one, "approve", actor, reason, as_of)
    if one and one.is_over(as_of):
        with ending_moves(spec, place):
            return _rejected(wish, one, SILENCE, _silence(spec, one))
    serving = registry.find_champion(spec.name, settings=place)
    return _carry_out(
        wish,
        approval_id(number) if one else promotion_id(number, last_moved(rows), actor, reason),
        one.against if one else (serving.number if serving else None),
    )


@task(retries=2, retry_delay_seconds=2, retry_condition_fn=again_unless_refused, timeout_seconds=300,
      cache_policy=NO_CACHE)  # fmt: skip
def reject(
    spec: ModelSpec,
    version: int | None,
    *,
    actor: str,
    reason: str,
    as_of: datetime,
    settings: Settings | None = None,
) -> Ruling:
    """Return the ruling after the ledger says that this version, which has to be named, shall not serve.

    Raises:
        SpecError: when actor or reason is empty, or no version is named.
        PromotionRefused: when that version does not wait and never did, or `as_of` lies before what the
            ledger holds already.
        RegistryError: when registry or ledger do not answer.
    """
    check_signed(actor, reason, model=spec.name)
    place = settings or Settings()
    engine = open_store(place)
    with ending_moves(spec, place):
        waits = still_waiting(engine, spec)
        number = check_named(version, waits, model=spec.name)
        one = next((item for item in waits if item.version == number), None)
        if one:
            check_not_backdated(as_of, ledger.history(engine, spec.name), model=spec.name)
            wish = Wish(spec, place, number, one, "reject", actor, reason, as_of)
            return _rejected(wish, one, actor, reason)
    settled = ledger.find(engine, spec.name, approval_id(number))
    if settled is None:
        raise PromotionRefused(
            f"version {number} does not wait for approval",
            f"one of {[item.version for item in waits]}" if waits else "a version that waits",
            "look at what waits: --verdict look",
            model=spec.name,
        )
    return as_recorded(engine, spec, settled)


@task(retries=2, retry_delay_seconds=5, timeout_seconds=300, cache_policy=NO_CACHE)
def expire_approvals(spec: ModelSpec, as_of: datetime, *, settings: Settings | None = None) -> Expired:
    """Return which versions nobody ruled on within `gate.approval`; the ledger says so from now on.

    Raises:
        RegistryError: when one of them is being approved and the registry does not answer.
    """
    place = settings or Settings()
    engine = open_store(place)
    if any(one.is_over(as_of) for one in still_waiting(engine, spec)):
        with ending_moves(spec, place):
            over = [one for one in still_waiting(engine, spec) if one.is_over(as_of)]
            for one in over:
                why = _silence(spec, one)
                wish = Wish(spec, place, one.version, one, "reject", SILENCE, why, as_of)
                _rejected(wish, one, SILENCE, why)
    else:
        over = []
    left = still_waiting(engine, spec)
    return Expired(tuple(one.version for one in over), tuple(one.version for one in left))


def _carry_out(wish: Wish, decision: str, expected: int | None) -> Ruling:
    engine, spec = open_store(wish.place), wish.spec
    version = registry.find_version(spec.name, wish.number, settings=wish.place)
    compared = wish.waiting.digest if wish.waiting else ""
    if compared and compared != version.digest:
        raise RegistryError(
            f"version {wish.number} with digest {version.digest[:12]}…",
            f"{compared[:12]}…, which the gate compared",
            "reject it; somebody has changed the registry",
            model=spec.name,
        )
    try:
        move(
            spec,
            version,
            actor=wish.actor,
            reason=wish.reason,
            decision_id=decision,
            as_of=wish.as_of,
            expected=expected,
            note=wish.note,
            settings=wish.place,
        )
    except PromotionRefused as err:
        why = f"{wish.reason} (refused: found {err.found}; expected {err.expected})"
        with ending_moves(spec, wish.place):
            return recorded(wish, decision, "refused", expected, wish.actor, why)
    except RegistryError:
        settled = ledger.find(engine, spec.name, decision)  # somebody else was quicker
        if settled is None:
            raise
        return as_recorded(engine, spec, settled)
    row = ledger.find(engine, spec.name, decision)
    if row is None:
        raise RegistryError(
            f"no ledger row of {decision} after the move", "one", "run it again", model=spec.name
        )
    return as_recorded(engine, spec, row, is_news=row.actor == wish.actor)


def _rejected(wish: Wish, one: Waiting, actor: str, reason: str) -> Ruling:
    """Enter the rejection; call it under the model's lock."""
    return recorded(wish, approval_id(one.version), "rejected", one.against, actor, reason)


def _silence(spec: ModelSpec, one: Waiting) -> str:
    return f"nobody decided within gate.approval ({spec.gate.approval}), until {one.until:%Y-%m-%d %H:%M}Z"
