"""The champion guarded: damaged, or not as good as promised in its first windows, it goes back by itself."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.clock import now_or
from tasks.core.dataset import Dataset
from tasks.core.errors import NotServable, PromotionRefused, RegistryError, RegistryUnavailable
from tasks.core.policy.probation import (
    Probation,
    ahead_of_clock,
    auto_rollback_id,
    dated,
    is_auto_rollback,
    judge_probation,
    on_trial,
    rollback_cause,
)
from tasks.core.policy.served import SERVING, served_before
from tasks.core.records.text import number as number_shown
from tasks.core.spec import ModelSpec
from tasks.core.window import parse_duration, utc
from tasks.log import task_logger
from tasks.settings import Settings
from tasks.store import checks, ledger, registry
from tasks.store.agreed import served_digest
from tasks.store.engine import open_store
from tasks.store.passing import may_pass
from tasks.store.version import Version
from tasks.versions.champion import agreed_champion
from tasks.versions.damage import is_about_version, is_gone, read_through
from tasks.versions.move import move
from tasks.versions.same_rows import scores_on_same_rows

ACTOR = "monitor"
BROKEN = "champion cannot serve"
"""The incident of a champion that is damaged while nothing can serve instead."""
_FURTHER_BACK = 3  # damage may have met more than one version; the one before that is a person's to choose
_BY_NAME = "promote a version by name"
_STEP: dict[str, Any] = {"retries": 2, "retry_delay_seconds": 5, "cache_policy": NO_CACHE}


@dataclass(frozen=True)
class Guarded:
    """What became of the champion.

    `cause` names the incident to tell of where `action` is not "nothing"; the incidents in `over` have ended.
    An automatic rollback is reported until another move follows it, so that a run which died before it told
    anybody is made good by the next one.
    """

    action: Literal["nothing", "rolled back", "failed"]
    why: str = ""
    cause: str = ""
    from_version: int | None = None
    version: int | None = None
    decision_id: str = ""
    digest: str = ""
    over: tuple[str, ...] = ()


@task(timeout_seconds=1800, **_STEP)
def guard_files(spec: ModelSpec, *, as_of: datetime, settings: Settings | None = None) -> Guarded:
    """Return what became of a champion whose files are missing or damaged, or that answers otherwise.

    Where registry, ledger and a version that served before are fine, that one serves again. Everything else
    moves nothing: a registry or store that does not answer says nothing about the version, and an alias that
    somebody moved by hand is for that person to explain.

    Raises:
        RegistryUnavailable: when the registry does not answer.
        StoreError: when the ledger does not answer.
    """
    place = settings or Settings()
    with suppress(RegistryError):
        agreed_champion(spec.name, place)  # finishes a move that was interrupted
    rows = ledger.history(open_store(place), spec.name)
    last = next((row for row in reversed(rows) if row.action in SERVING), None)
    if last is None or last.to_version is None:
        return Guarded("nothing", "no version serves yet")
    fault = _fault(spec, last, place)
    if not fault:
        found = _standing(rows)
        return found if fault is not None else replace(found, over=())
    task_logger(__name__).error("%s: version %d cannot serve: %s", spec.name, last.to_version, fault)
    why = f"version {last.to_version} cannot serve: {fault}"
    note = {"damage": fault}
    return _go_back(spec, rows, why, note, as_of=as_of, place=place, most=_FURTHER_BACK, damaged=True)


@task(timeout_seconds=300, **_STEP)
def judge_champion(spec: ModelSpec, *, as_of: datetime, settings: Settings | None = None) -> Probation:
    """Return how the champion does in its first windows, by the checks of performance on record."""
    engine = open_store(settings)
    rows = [row for row in ledger.history(engine, spec.name) if row.at <= utc(as_of)]
    promotion = on_trial(rows)
    if promotion is None:
        return Probation("not on probation", ("it is the first version, or served before",))
    windows, (_, of) = spec.gate.probation, spec.drift.windows
    # Checks may be a day apart and their windows longer, so that many overlap.
    overlap = max(1, -(-parse_duration(spec.window.check) // timedelta(days=1)))
    newest = checks.recent(engine, spec.name, "performance", (windows + of + 2) * overlap, as_of)
    mine = [check for check in newest if check.version == promotion.to_version]
    found = judge_probation(mine, promotion.at, windows, spec.drift.windows)
    task_logger(__name__).info(
        "%s: version %s %s: %s", spec.name, promotion.to_version, found.outcome, "; ".join(found.reasons)
    )
    return replace(found, version=promotion.to_version)


@task(timeout_seconds=1800, **_STEP)
def guard_promise(
    spec: ModelSpec,
    probation: Probation,
    rows: Dataset | None = None,
    *,
    as_of: datetime,
    settings: Settings | None = None,
) -> Guarded:
    """Return what became of a champion that spent its error budget in its first windows.

    The one before serves again if it is shown to be better on the very rows of the bad windows. Otherwise the
    world has changed rather than the champion, and the second opinion takes what the one before is good for.

    Args:
        spec: the model.
        probation: from `judge_champion`; nothing is done unless its outcome is "rollback".
        rows: labelled rows of the bad windows. Where they are too few to tell, the budget alone decides;
            where the version before cannot answer them, the champion stays and a person is told.
        as_of: the moment it counts as done.
        settings: this place.
    """
    place = settings or Settings()
    history = ledger.history(open_store(place), spec.name)
    promotion = on_trial(history)
    if promotion is None or promotion.to_version is None:
        return Guarded("nothing", "; ".join(probation.reasons))
    number = promotion.to_version
    if spec.gate.probation and (ahead := ahead_of_clock(promotion.at, as_of, now_or(None))):
        return _kept(spec, number, f"version {number} cannot be judged on probation: {ahead}; {_BY_NAME}")
    if probation.outcome != "rollback" or number != probation.version:
        is_fine = number == probation.version and probation.outcome in {"passed", "on probation"}
        return Guarded(
            "nothing", "; ".join(probation.reasons), over=(rollback_cause(number),) if is_fine else ()
        )
    why = f"version {number} broke its promise on probation: {'; '.join(probation.reasons)}"
    before = next(iter(served_before(history)), None)
    if before is not None:
        both = scores_on_same_rows(spec, (before, number), rows, promotion.at, place)
        if both.unfit:
            return _kept(spec, number, f"{why}; {both.unfit}, so version {number} stays: {_BY_NAME}")
        if both.scores:
            was, now = (number_shown(score) for score in both.scores)
            why += f"; on these rows {spec.metric} {now}, version {before} {was}"
            if not both.is_shown:
                task_logger(__name__).warning("%s: %s, so it stays", spec.name, why)
                return Guarded("nothing", f"{why}: not shown to help", over=(rollback_cause(number),))
    note = {"probation": {"bad": [str(window) for window in probation.bad], "judged": probation.judged}}
    return _go_back(spec, history, why, note, as_of=as_of, place=place, most=1)


def _kept(spec: ModelSpec, number: int, why: str, cause: str = "") -> Guarded:
    """Return that a champion stays which perhaps should not, for a person to hear of."""
    task_logger(__name__).error("%s: %s", spec.name, why)
    return Guarded("failed", why, cause or rollback_cause(number), from_version=number)


def _fault(spec: ModelSpec, last: ledger.LedgerRow, place: Settings) -> str | None:
    """Return what is wrong with the champion itself; nothing where it is fine, None where not known."""
    try:
        serving = agreed_champion(spec.name, place)
    except RegistryError as err:
        if may_pass(err):
            raise
        return _disagreement(spec.name, last, err, place)
    if serving is None:
        return None
    return _damage(spec, serving, place)


def _damage(spec: ModelSpec, version: Version, place: Settings) -> str | None:
    try:
        read_through(
            version, spec, place, is_ours=served_digest(spec.name, version.number, place) == version.digest
        )
    except RegistryError as err:
        if may_pass(err):
            raise
        if is_about_version(err):
            return f"found {err.found}"
        task_logger(__name__).warning(
            "%s: version %d is not known to be fine: %s", spec.name, version.number, err
        )
        return None
    return ""


def _disagreement(name: str, last: ledger.LedgerRow, err: RegistryError, place: Settings) -> str | None:
    """Return why registry and ledger disagree, where the version is the cause; None where it is not."""
    number = last.to_version or 0
    try:
        serving = registry.find_champion(name, settings=place)
        if serving is None and is_gone(name, number, place):
            return "it is gone from the registry"
    except RegistryUnavailable:
        raise
    except RegistryError:
        serving = None
    digest = str(last.evidence.get("digest") or "")
    if serving is not None and serving.number == number and digest and serving.digest != digest:
        return f"its digest is {serving.digest[:12]}…, and {digest[:12]}… was promoted"
    task_logger(__name__).warning("%s: nothing is moved by itself: %s", name, err)
    return None


def _go_back(
    spec: ModelSpec,
    rows: list[ledger.LedgerRow],
    why: str,
    note: Mapping[str, Any],  # Any: JSON
    *,
    as_of: datetime,
    place: Settings,
    most: int,
    damaged: bool = False,
) -> Guarded:
    """Return the end of going back to the last version that served and can serve now."""
    last = next(row for row in reversed(rows) if row.action in SERVING)
    left = last.to_version or 0
    cause = BROKEN if damaged else rollback_cause(left)
    # Rows that moved nothing do not matter, nor what an earlier move was dated: the newest one stands.
    if utc(as_of) < utc(last.at):
        return _kept(spec, left, f"{why}; {dated(last.at)}, after the moment acted as of; {_BY_NAME}", cause)
    decision, troubles = auto_rollback_id(left, last.decision_id), []
    for number in served_before(rows)[:most]:
        try:
            target = _as_it_served(spec, number, place)
            if damaged and not _fault(spec, last, place):
                return Guarded("nothing", f"{why}, but it could be read a moment later")
            serving = registry.find_champion(spec.name, settings=place)
            move(
                spec,
                target,
                actor=ACTOR,
                reason=why,
                decision_id=decision,
                as_of=as_of,
                expected=left if serving else None,  # whoever promoted another meanwhile is not overruled
                action="rolled_back",
                note={**note, "instead_of": left},
                settings=place,
            )
        except (RegistryError, PromotionRefused) as err:
            now = ledger.history(open_store(place), spec.name)
            if [row for row in now if row.action in SERVING][-1] != last:  # somebody was faster
                return _standing(now)
            if may_pass(err):
                raise
            troubles.append(f"version {number}: {err.found}")
            own = isinstance(err, NotServable) or (isinstance(err, RegistryError) and is_about_version(err))
            if not own:
                break  # not the version's fault: the one before it is no better a choice
            continue
        return _standing(ledger.history(open_store(place), spec.name))
    told = "; ".join(troubles) or "no version served before"
    return _kept(spec, left, f"{why}; no way back ({told}): {_BY_NAME}, or restore its files", cause)


def _as_it_served(spec: ModelSpec, number: int, place: Settings) -> Version:
    """Return the version, whose files in the registry are whole: then the store answers, and it can serve."""
    target = registry.find_version(spec.name, number, settings=place)
    if served_digest(spec.name, number, place) != target.digest:
        raise RegistryError(f"version {number} with another digest than it served under")
    read_through(target, spec, place, is_ours=True)
    return target


def _standing(rows: list[ledger.LedgerRow]) -> Guarded:
    """Return the automatic rollback that the ledger ends with, if it does, and which incidents are over."""
    autos = [row for row in rows if row.action in SERVING and is_auto_rollback(row.decision_id)]
    last = next(row for row in reversed(rows) if row.action in SERVING)
    replaced = [_left_by(row) for row in autos[-5:] if row is not last]
    if last.action == "promoted" and last.from_version is not None:
        replaced.append(last.from_version)  # it may have been a rollback that could not be
    over = tuple(dict.fromkeys(rollback_cause(number) for number in replaced if number != last.to_version))
    if not is_auto_rollback(last.decision_id):
        return Guarded("nothing", over=(BROKEN, *over))
    cause = rollback_cause(_left_by(last))
    return Guarded(
        "rolled back",
        f"rolled back by itself to version {last.to_version}: {last.reason}",
        cause,
        _left_by(last),
        last.to_version,
        last.decision_id,
        str(last.evidence.get("digest") or ""),
        over=(BROKEN, *(one for one in over if one != cause)),
    )


def _left_by(row: ledger.LedgerRow) -> int | None:
    return row.evidence.get("instead_of", row.from_version)
