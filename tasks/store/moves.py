"""The one place that moves a model's champion, so that a crash at any point can be finished or forgotten.

MLflow moves an alias without history and without comparing. So the move is first noted in our own store as
an intent, in one transaction with the version's nomination, then done, then entered in the ledger with the
stages of both versions, then the intent is ended. Whoever comes next finds an intent whose alias moved (it is
entered as intended) or did not (dropped). Nothing that the registry says of intents is read.

All of it happens under a lease: what a holder writes that lost it meanwhile is refused by the store, and the
alias, which nothing can refuse, is put back, if not by its holder then by whoever looks next: the intent is
on record, as superseded or dropped. Any other alias that the ledger does not know was moved by hand; it is
left alone and not believed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks.core.errors import PromotionRefused, RegistryError
from tasks.core.policy.served import SERVING
from tasks.core.policy.stages import By
from tasks.settings import Settings
from tasks.store import intents, leases, ledger, lifecycle, succession
from tasks.store.engine import open_store, reading, writing
from tasks.store.intents import NONE, Intent, State
from tasks.store.leases import Lease
from tasks.store.mirror import show_stages
from tasks.store.mlflow_client import open_client, registry_errors
from tasks.store.registry import CHAMPION, PREVIOUS, find_champion
from tasks.store.schema import plain

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sqlalchemy.engine import Connection

GATE = "gate"  # the actor that may not bring back what was put away
OLD_TAG = "evergreen.intent"  # where earlier releases noted their moves; never read, removed when seen
_LONGEST_REASON = 1000  # our choice: a reason is a paragraph, what is longer belongs in the evidence
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Move:
    """A champion to be moved: `from_version` is the one that served when it was decided."""

    decision_id: str
    action: ledger.Action
    from_version: int | None
    to_version: int
    actor: str
    reason: str
    at: datetime
    evidence: Mapping[str, Any]  # Any: JSON

    @property
    def by(self) -> By:
        """Who moves: a rollback by whomever, the gate, or a person."""
        if self.action == "rolled_back":
            return "rollback"
        return "gate" if self.actor == GATE else "person"

    @property
    def why(self) -> lifecycle.Why:
        """What the stages are entered with."""
        return lifecycle.Why(self.actor, self.reason, self.decision_id, self.at)

    def content(self) -> dict[str, Any]:  # Any: JSON
        """Return the move as an intent holds it."""
        return {**plain(asdict(self))}

    @classmethod
    def of(cls, noted: Intent) -> Move:
        """Return the move that was noted."""
        return cls(**{**noted.content, "at": datetime.fromisoformat(noted.content["at"])})


def carry_out(move: Move, name: str, *, settings: Settings, fence: Lease) -> ledger.LedgerRow:
    """Return the ledger row of the move, done now or by an earlier call of the same decision.

    Call it under the model's lock and lease (see `tasks.versions.move.move`).

    Raises:
        PromotionRefused: when another version serves than the one the decision was about, or this one does,
            or the gate put this one away meanwhile.
        RegistryError: when registry or store do not answer, or another took the lease over.
    """
    client, engine = open_client(settings), open_store(settings)
    finish_pending(name, settings=settings, fence=fence)
    done = ledger.find(engine, name, move.decision_id)
    if done is not None:
        return _agreeing(done, move)
    refuse_if_moot(move, name, settings)
    now = leases.clock(engine)
    with writing(engine, lock=lifecycle.lock_of(name)) as connection:
        leases.check(connection, fence)
        shown = _nominated(connection, name, move)
        noted = intents.note(
            connection, name, move.decision_id, move.to_version, move.content(), token=fence.token, at=now
        )
    show_stages(name, shown, settings=settings)
    return _apply(client, name, noted, settings, fence)


def finish_pending(name: str, *, settings: Settings, fence: Lease | None = None) -> ledger.LedgerRow | None:
    """Return the ledger row of a move that was interrupted after its alias moved; None when there is none.

    An alias that somebody set who was overtaken by then is put back to what the ledger says. Call it under
    the model's lock; without a lease it takes the model's own when there is something to do.

    Raises:
        RegistryError: when registry or store do not answer, or another holds the lease.
    """
    client, engine = open_client(settings), open_store(settings)
    _remove_old_tag(client, name)
    noted = intents.find_open(engine, name)
    if fence is None:
        if noted is None and not _is_late(name, settings):
            return None
        with leases.held(engine, lease_of(name)) as own:
            return finish_pending(name, settings=settings, fence=own)
    if noted is not None:
        move, told = Move.of(noted), ledger.find(engine, name, noted.decision_id)
        stands = told is None or _agree(told, move)
        if stands and _serving(name, settings) == move.to_version:
            return _apply(client, name, noted, settings, fence)
        _end(name, noted, "superseded" if told and stands else "dropped", settings, fence)
    if _is_late(name, settings):
        _put_back(client, name, settings, fence)
    return None


def last_move(name: str, *, settings: Settings) -> ledger.LedgerRow | None:
    """Return the newest ledger row that says which version serves; None before the first promotion."""
    rows = ledger.history(open_store(settings), name)
    return next((row for row in reversed(rows) if row.action in SERVING), None)


def refuse_if_moot(move: Move, name: str, settings: Settings) -> None:
    """Return nothing when the move is still what it was decided as.

    Raises:
        PromotionRefused: when another version serves than the one the decision was about, or this one does.
    """
    serving = find_champion(name, settings=settings)
    number = serving.number if serving else None
    if number != move.from_version:
        raise PromotionRefused(
            f"version {number or 'none'} serving",
            f"version {move.from_version or 'none'}, which the decision was about",
            "decide again against the version that serves now",
            model=name,
        )
    last = last_move(name, settings=settings)
    if number == move.to_version and last is not None and last.to_version == number:
        raise PromotionRefused(f"version {number} serving already", "another version", model=name)


def short(reason: str) -> str:
    """Return the reason at a length that a row of the history shows."""
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "…"


def lease_of(name: str) -> str:
    """Return the name of the lease under which this model's champion is moved."""
    return f"{name}.move"


def _remove_old_tag(client: MlflowClient, name: str) -> None:
    with registry_errors("looking for notes of an earlier release", name):
        found = [item for item in client.search_registered_models(f"name = '{name}'") if item.name == name]
        if found and OLD_TAG in found[0].tags:
            client.delete_registered_model_tag(name, OLD_TAG)


def _nominated(connection: Connection, name: str, move: Move) -> set[int]:
    try:
        return succession.nominate(connection, name, move.to_version, move.why, move.by)
    except RegistryError as err:  # the gate's word, and the version was put away meanwhile
        raise PromotionRefused(err.found, err.expected, err.todo, model=name) from err


def _apply(
    client: MlflowClient, name: str, noted: Intent, settings: Settings, fence: Lease
) -> ledger.LedgerRow:
    """Do what was noted; every step may be repeated."""
    engine, move = open_store(settings), Move.of(noted)
    shown = {number for number in (move.from_version, move.to_version) if number is not None}

    def enter_stages(connection: Connection) -> None:
        shown.update(succession.promote(connection, name, move.to_version, move.why, move.by))

    with reading(engine) as connection:
        leases.check(connection, fence)
    _point(client, name, move.to_version, move.from_version)
    try:
        row = ledger.record(
            engine,
            model=name,
            **_ledger_fields(move),
            fence=fence,
            along=enter_stages,
            lock=lifecycle.lock_of(name),
        )
    except RegistryError:
        if not leases.is_held(engine, fence):
            _undo(client, name, settings)
        raise
    if leases.is_held(engine, fence):  # otherwise what is left to do is the other's
        is_own = noted.token == fence.token
        _end(name, noted, "done" if is_own else "superseded", settings, fence, shown)
    return row


def _end(
    name: str, noted: Intent, state: State, settings: Settings, fence: Lease, shown: Iterable[int] = ()
) -> None:
    """Show the stages, then keep what became of the intent: one that is not ended is looked at again."""
    show_stages(name, shown, settings=settings)
    with writing(open_store(settings), lock=lifecycle.lock_of(name)) as connection:
        leases.check(connection, fence)
        intents.end(connection, noted, state)


def _undo(client: MlflowClient, name: str, settings: Settings) -> None:
    """Take back the aliases that were set after the lease was lost, when the one who took over is done."""
    with leases.held(open_store(settings), lease_of(name)) as fence:
        finish_pending(name, settings=settings, fence=fence)
        last = last_move(name, settings=settings)
        if last is not None and _serving(name, settings) == last.to_version:
            _point(client, name, last.to_version, last.from_version)


def _is_late(name: str, settings: Settings) -> bool:
    """Tell whether the alias is where one who was overtaken left it, and not where the ledger says."""
    late = intents.late_versions(open_store(settings), name)
    if not late:
        return False
    serving = _serving(name, settings)
    return serving in late and serving != _told(last_move(name, settings=settings))


def _put_back(client: MlflowClient, name: str, settings: Settings, fence: Lease) -> None:
    """Point the alias where the ledger says; noted before, for this too may come late."""
    engine, serving, last = open_store(settings), _serving(name, settings), last_move(name, settings=settings)
    now, decision = leases.clock(engine), last.decision_id if last else ""
    with writing(engine, lock=lifecycle.lock_of(name)) as connection:
        leases.check(connection, fence)
        known: dict[str, Any] = {"token": fence.token, "at": now, "state": "superseded"}
        intents.note(connection, name, decision, _told(last), {"put_back_from": serving}, **known)
    if last is None or last.to_version is None:
        with registry_errors("taking the champion back", name):
            client.delete_registered_model_alias(name, CHAMPION)
    else:
        _point(client, name, last.to_version, last.from_version)
    said = "%s: champion put back from version %s, whose mover was overtaken, to version %s of the ledger"
    _logger.warning(said, name, serving or "none", _told(last) or "none")


def _point(client: MlflowClient, name: str, to_version: int, from_version: int | None) -> None:
    with registry_errors("moving the champion", name):
        client.set_registered_model_alias(name, CHAMPION, str(to_version))
        if from_version is not None and from_version != to_version:
            client.set_registered_model_alias(name, PREVIOUS, str(from_version))


def _serving(name: str, settings: Settings) -> int:
    found = find_champion(name, settings=settings)
    return found.number if found else NONE


def _told(last: ledger.LedgerRow | None) -> int:
    return (last.to_version if last else None) or NONE


def _ledger_fields(move: Move) -> dict[str, Any]:  # Any: the keyword arguments of ledger.record
    return {name: getattr(move, name) for name in move.__dataclass_fields__}


def _agree(told: ledger.LedgerRow, move: Move) -> bool:
    return (told.action, told.to_version) == (move.action, move.to_version)


def _agreeing(done: ledger.LedgerRow, move: Move) -> ledger.LedgerRow:
    if _agree(done, move):
        return done
    raise RegistryError(
        f"decision {move.decision_id} already in the ledger as {done.action} version {done.to_version}",
        "one outcome per decision",
        "use a new decision id for a new outcome",
        model=done.model,
    )
