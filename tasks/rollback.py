"""Going back to what served before, one version or two: planned and probed first, moved only by request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from tasks.core.errors import PromotionRefused, SpecError
from tasks.core.policy.approval import check_not_backdated, check_signed, is_by_hand, rollback_id
from tasks.core.policy.partners import (
    MOVES,
    PARTNERED,
    earlier_partners,
    pair_after,
    pair_text,
    partner_rollback_id,
)
from tasks.core.policy.served import SERVING, served_before
from tasks.core.records.text import number as number_shown
from tasks.core.spec import ModelSpec
from tasks.core.window import utc
from tasks.history.before import Commit, find_commit, target_before
from tasks.log import task_logger
from tasks.run_state import completed
from tasks.settings import Settings
from tasks.store import ledger
from tasks.store.agreed import as_it_served
from tasks.store.engine import open_store
from tasks.store.models import own_types
from tasks.store.version import Version
from tasks.versions.champion import agreed_champion
from tasks.versions.move import again_unless_refused, move
from tasks.versions.partner import set_partner, try_partner
from tasks.versions.probe import probe

PAUSE = timedelta(minutes=10)
"""A second rollback without a named version waits this long after the first: our choice, because of two
people who answer one alarm, the second must not undo a version that the first has just brought back."""


@dataclass(frozen=True)
class RollbackPlan:
    """What a rollback would change: the target has been loaded and has answered its golden rows.

    `done` is the ledger's row where the same words of the same person have just been carried out. `target`
    is None in a dry run that found nothing to go back to, and `why_not` says why. Where only what answers
    beside the champion would change, `undoes_partner` is set, the target is the champion, and `from_partner`
    and `to_partner` (None: nobody) are what stands there now and what would.
    """

    model: str
    from_version: int | None
    target: Version | None
    decision_id: str = ""
    served_until: datetime | None = None
    promise: str = ""
    done: ledger.LedgerRow | None = None
    why_not: str = ""
    undoes_partner: bool = False
    from_partner: int | None = None
    to_partner: int | None = None

    def sentence(self) -> str:
        """Return what would change as one line."""
        if self.target is None:
            return self.why_not
        if self.undoes_partner:
            alone = " alone" if self.to_partner is None else ""
            now = pair_text(self.from_version, self.from_partner)
            return f"{pair_text(self.target.number, self.to_partner)}{alone} would answer instead of {now}"
        until = f", which served until {self.served_until:%Y-%m-%d %H:%M}Z" if self.served_until else ""
        return (
            f"version {self.target.number} would serve instead of version {self.from_version}{until}; "
            f"it was loaded and answers its golden rows as before; {self.promise}"
        )


@dataclass(frozen=True)
class RolledBack:
    """How a rollback ended; nothing has changed in a dry run."""

    model: str
    action: Literal["rolled back", "dry run"]
    why: str
    from_version: int | None
    version: int | None
    attempt: str
    actor: str = ""
    digest: str = ""
    from_partner: int | None = None
    partner: int | None = None

    @property
    def has_moved_champion(self) -> bool:
        """Whether another version serves since; else only what answers beside it changed, or nothing."""
        return self.action == "rolled back" and self.version not in (None, self.from_version)

    def sentence(self) -> str:
        """Return the end as one line."""
        if self.action == "dry run":
            return f"dry run, nothing was changed: {self.why}"
        before, now = pair_text(self.from_version, self.from_partner), pair_text(self.version, self.partner)
        return f"rolled back from {before} to {now}: {self.why}"

    def state(self) -> State[Any]:
        """Return a completed state that says what happened."""
        return completed(self.action.capitalize(), self.sentence(), self)


@task(
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=again_unless_refused,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
)
def plan_rollback(
    spec: ModelSpec,
    to_version: int | None,
    *,
    as_of: datetime,
    actor: str = "",
    reason: str = "",
    before_commit: str = "",
    dry_run: bool = True,
    settings: Settings | None = None,
) -> RollbackPlan:
    """Return what a rollback would change, after the target was downloaded, checked, loaded and re-scored.

    Args:
        spec: the model.
        to_version: what shall serve, alone; None is the state before the last move: the champion alone or
            with an earlier partner where a partner came or left last, else the last version that served
            before the present one and was not rolled back from.
        as_of: the moment it would count as done; not before the newest row of the ledger.
        actor: who wants it.
        reason: why. The same words of the same person within ten minutes are one rollback, not two.
        before_commit: instead of a version, the last that served and was made before this commit.
        dry_run: whether it will only be looked at; else somebody must stand behind it.
        settings: this place.

    Raises:
        PromotionRefused: in earnest, when nothing serves, there is nothing to go back to, the target serves
            already, `as_of` lies before what the ledger holds, or somebody went back a moment ago and no
            version is named.
        SpecError: when it is no dry run, and actor or reason is empty; when a version and a commit are named,
            or the commit is not known here.
        RegistryError: when the target cannot be believed, or registry and ledger disagree or do not answer.
    """
    if not dry_run:
        check_signed(actor, reason, model=spec.name)
    if to_version and before_commit:
        raise SpecError("to_version beside before_commit", "one of them", model=spec.name)
    try:
        wish = _Wish(to_version, find_commit(before_commit) if before_commit else None, actor, reason)
        return _planned(spec, wish, as_of, dry_run=dry_run, place=settings or Settings())
    except PromotionRefused as err:  # to a look, that is an answer
        if not dry_run:
            raise
        return RollbackPlan(spec.name, None, None, why_not=f"{err.found}; to do: {err.todo or 'nothing'}")


@dataclass(frozen=True)
class _Wish:
    """What somebody asked for."""

    to_version: int | None
    commit: Commit | None
    actor: str
    reason: str

    @property
    def asked(self) -> dict[str, str]:
        """What the ledger keeps of it."""
        return _asked(self.actor, self.reason)


def _planned(
    spec: ModelSpec, wish: _Wish, as_of: datetime, *, dry_run: bool, place: Settings
) -> RollbackPlan:
    name = spec.name
    serving = agreed_champion(name, place)
    rows = ledger.history(open_store(place), name)
    if serving is None:
        raise PromotionRefused(
            "no champion", "a version that serves", "run the retrain flow first", model=name
        )
    last = next(row for row in reversed(rows) if row.action in SERVING)
    just = _made_just_now(rows, last, as_of)
    said = just is not None and not dry_run and just.evidence.get("asked") == wish.asked
    if just and said and wish.to_version in {None, serving.number}:
        return _done(name, serving, just)
    check_not_backdated(as_of, rows, model=name)
    pair, earlier = pair_after(rows), earlier_partners(rows)
    if not wish.commit and wish.to_version is None:
        _refuse_another_so_soon(rows, just)
        if earlier:
            return _partner_plan(spec, serving, rows, earlier[0], place)
    if wish.to_version == serving.number and pair.partner is not None:
        return _partner_plan(spec, serving, rows, None, place)
    if wish.commit:
        number = target_before(rows, wish.commit, serving.number, model=name)
    else:
        number = wish.to_version or _default_target(rows, last)
    if number == serving.number:
        raise PromotionRefused(f"version {number} serving already", "another version", model=name)
    target = as_it_served(name, number, place)
    kept = probe(target, place, own_types(spec), limit_ms=spec.gate.max_latency_ms)
    promise = kept["promise"]
    task_logger(__name__).info("%s: version %d could serve instead of %d", name, number, serving.number)
    return RollbackPlan(
        model=name,
        from_version=serving.number,
        target=target,
        decision_id=rollback_id(number, last.decision_id),
        served_until=_left(rows, number),
        from_partner=pair.partner,
        promise=f"promised {promise['metric']} {number_shown(promise['value'])}, trained on "
        f"{kept['train_window']}",
    )


@task(
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=again_unless_refused,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
)
def roll_back(
    spec: ModelSpec,
    plan: RollbackPlan,
    *,
    actor: str,
    reason: str,
    as_of: datetime,
    settings: Settings | None = None,
) -> RolledBack:
    """Return how the rollback ended after the planned version serves and the ledger says who wanted it.

    Two people who carry out one plan at once make one row. Nothing moves on any failure.

    Raises:
        SpecError: when actor or reason is empty.
        PromotionRefused: when another version serves by now than when it was planned.
        RegistryError: when the version cannot be believed, or registry or ledger do not answer.
    """
    check_signed(actor, reason, model=spec.name)
    if plan.done is not None:
        return _ended(plan, plan.done.reason, plan.done.actor)
    if plan.target is None:
        raise PromotionRefused(plan.why_not, "a version to go back to", model=spec.name)
    if plan.undoes_partner:
        row = set_partner(
            spec,
            plan.to_partner,
            champion=plan.target.number,
            actor=actor,
            reason=reason,
            decision_id=plan.decision_id,
            as_of=as_of,
            note={"asked": _asked(actor, reason)},
            settings=settings,
        )
        return _ended(plan, row.reason, row.actor)
    done = move(
        spec,
        plan.target,
        actor=actor,
        reason=reason,
        decision_id=plan.decision_id,
        as_of=as_of,
        expected=plan.from_version,
        action="rolled_back",
        note={"asked": _asked(actor, reason)},
        settings=settings,
    )
    return _ended(plan, done.reason, done.actor)


def only_planned(plan: RollbackPlan) -> RolledBack:
    """Return the end of a dry run."""
    number = plan.target.number if plan.target else None
    return RolledBack(plan.model, "dry run", plan.sentence(), plan.from_version, number, plan.decision_id)


def _ended(plan: RollbackPlan, reason: str, actor: str) -> RolledBack:
    return RolledBack(
        model=plan.model,
        action="rolled back",
        why=f"{reason} ({actor})",
        from_version=plan.from_version,
        version=plan.target.number if plan.target else None,
        attempt=plan.decision_id,
        actor=actor,
        digest=plan.target.digest if plan.target else "",
        from_partner=plan.from_partner,
        partner=plan.to_partner,
    )


def _asked(actor: str, reason: str) -> dict[str, str]:
    return {"actor": actor, "reason": reason}


def _made_just_now(
    rows: Sequence[ledger.LedgerRow], last: ledger.LedgerRow, as_of: datetime
) -> ledger.LedgerRow | None:
    """Return the rollback, of champion or partner, that somebody made a moment ago; None: nobody did."""
    newest = next(row for row in reversed(rows) if row.action in MOVES)
    for row in (newest, last):
        is_rollback = row.action == "rolled_back" or (row.action == PARTNERED and is_by_hand(row.decision_id))
        if is_rollback and utc(as_of) < utc(row.at) + PAUSE:
            return row
    return None


def _done(name: str, serving: Version, row: ledger.LedgerRow) -> RollbackPlan:
    """Return the plan that this row carried out a moment ago."""
    return RollbackPlan(
        name,
        row.from_version,
        serving,
        row.decision_id,
        done=row,
        undoes_partner=row.action == PARTNERED,
        to_partner=row.partner,
    )


def _partner_plan(
    spec: ModelSpec, serving: Version, rows: Sequence[ledger.LedgerRow], partner: int | None, place: Settings
) -> RollbackPlan:
    """Return the plan to let the champion answer alone or beside an earlier partner, which was tried."""
    if partner is not None:
        try_partner(spec, partner, champion=serving.number, settings=place)
    newest = next(row for row in reversed(rows) if row.action in MOVES)
    return RollbackPlan(
        model=spec.name,
        from_version=serving.number,
        target=serving,
        decision_id=partner_rollback_id(serving.number, newest.decision_id),
        undoes_partner=True,
        from_partner=pair_after(rows).partner,
        to_partner=partner,
    )


def _refuse_another_so_soon(rows: Sequence[ledger.LedgerRow], just: ledger.LedgerRow | None) -> None:
    if just is None:
        return
    targets = served_before(rows)
    raise PromotionRefused(
        f"{pair_text(just.to_version, just.partner)} brought back by {just.actor} at {just.at:%H:%M}Z",
        f"{PAUSE.total_seconds() / 60:.0f} minutes to see whether that helped",
        f"to go further back now, name it: --to-version {targets[0]}" if targets else "look at the scores",
        model=just.model,
    )


def _default_target(rows: Sequence[ledger.LedgerRow], last: ledger.LedgerRow) -> int:
    targets = served_before(rows)
    if not targets:
        raise PromotionRefused(
            f"no version that served before version {last.to_version} and was not rolled back",
            "one to go back to",
            "name any registered version: --to-version N",
            model=last.model,
        )
    return targets[0]


def _left(rows: Sequence[ledger.LedgerRow], number: int) -> datetime | None:
    """Return when this version stopped serving for the last time; None when it never served."""
    left = [row.at for row in rows if row.action in SERVING and row.from_version == number]
    return left[-1] if left else None
