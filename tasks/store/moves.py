"""The one place that moves a model's champion, so that a crash at any point can be finished or forgotten.

MLflow moves an alias without history and without comparing. So the move is first written down as an intent
(a tag of the registered model), then done, then entered in the ledger with the stages of both versions, then
the intent is cleared. Whoever comes next finds an intent whose alias moved (it is entered as intended) or did
not (dropped). All of it under a lease: what a holder writes that lost it meanwhile is refused by the store,
and the alias, which nothing can refuse, is put back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks.core.errors import PromotionRefused, RegistryError
from tasks.core.model.bundle import plain
from tasks.core.policy.served import SERVING
from tasks.core.policy.stages import By
from tasks.settings import Settings
from tasks.store import leases, ledger, lifecycle, succession
from tasks.store.engine import open_store, reading, writing
from tasks.store.leases import Lease
from tasks.store.mirror import show_stages
from tasks.store.mlflow_client import open_client, registry_errors
from tasks.store.registry import CHAMPION, PREVIOUS, find_champion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from sqlalchemy.engine import Connection

TAG_INTENT = "evergreen.intent"
GATE = "gate"  # the actor that may not bring back what was put away
_LONGEST_REASON = 1000  # MLflow keeps at most 5,000 characters of a tag


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

    def to_json(self) -> str:
        """Return the move as the text of a tag."""
        return json.dumps(plain(asdict(self)), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Move:
        """Return the move written in a tag."""
        raw = json.loads(text)
        return cls(**{**raw, "at": datetime.fromisoformat(raw["at"])})


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
    with writing(engine, lock=lifecycle.lock_of(name)) as connection:
        leases.check(connection, fence)
        shown = _nominated(connection, name, move)
    with registry_errors("noting the move", name):
        client.set_registered_model_tag(name, TAG_INTENT, move.to_json())
    show_stages(name, shown, settings=settings)
    return _apply(client, name, move, settings, fence)


def finish_pending(name: str, *, settings: Settings, fence: Lease | None = None) -> ledger.LedgerRow | None:
    """Return the ledger row of a move that was interrupted after its alias moved; None when there is none.

    Call it under the model's lock; without a lease it takes the model's own when there is something to do.

    Raises:
        RegistryError: when registry or store do not answer, or another holds the lease.
    """
    client = open_client(settings)
    if _intent(client, name) is None:
        return None
    if fence is None:
        with leases.held(open_store(settings), lease_of(name)) as own:
            return finish_pending(name, settings=settings, fence=own)
    move = _intent(client, name)
    if move is None:
        return None
    serving = find_champion(name, settings=settings)
    if serving is not None and serving.number == move.to_version:
        return _apply(client, name, move, settings, fence)
    _clear(client, name, settings, fence)
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
    """Return the reason at a length that an intent can hold."""
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "…"


def lease_of(name: str) -> str:
    """Return the name of the lease under which this model's champion is moved."""
    return f"{name}.move"


def _intent(client: MlflowClient, name: str) -> Move | None:
    with registry_errors("looking for an unfinished move", name):
        found = [item for item in client.search_registered_models(f"name = '{name}'") if item.name == name]
        text = found[0].tags.get(TAG_INTENT) if found else None
        return Move.from_json(text) if text else None


def _nominated(connection: Connection, name: str, move: Move) -> set[int]:
    try:
        return succession.nominate(connection, name, move.to_version, move.why, move.by)
    except RegistryError as err:  # the gate's word, and the version was put away meanwhile
        raise PromotionRefused(err.found, err.expected, err.todo, model=name) from err


def _apply(client: MlflowClient, name: str, move: Move, settings: Settings, fence: Lease) -> ledger.LedgerRow:
    """Do what the intent says; every step may be repeated."""
    engine, shown = open_store(settings), {move.to_version}

    def enter_stages(connection: Connection) -> None:
        shown.update(succession.promote(connection, name, move.to_version, move.why, move.by))

    if move.from_version is not None:
        shown.add(move.from_version)
    with reading(engine) as connection:
        leases.check(connection, fence)
    with registry_errors("moving the champion", name):
        client.set_registered_model_alias(name, CHAMPION, str(move.to_version))
        if move.from_version is not None and move.from_version != move.to_version:
            client.set_registered_model_alias(name, PREVIOUS, str(move.from_version))
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
            _put_back(client, name, move, settings)
        raise
    _clear(client, name, settings, fence, shown)
    return row


def _clear(
    client: MlflowClient, name: str, settings: Settings, fence: Lease, shown: Iterable[int] = ()
) -> None:
    """End the noted move, unless another took over: then the note and the aliases are the other's."""
    if not leases.is_held(open_store(settings), fence):
        return
    show_stages(name, shown, settings=settings)
    with registry_errors("clearing the noted move", name):
        client.delete_registered_model_tag(name, TAG_INTENT)


def _put_back(client: MlflowClient, name: str, move: Move, settings: Settings) -> None:
    """Undo an alias that was set after the lease was lost, when the one who took over is done."""
    with leases.held(open_store(settings), lease_of(name)) as fence:
        finish_pending(name, settings=settings, fence=fence)
        last, serving = last_move(name, settings=settings), find_champion(name, settings=settings)
        if serving is None or serving.number != move.to_version:
            return
        if last is None or last.to_version == move.to_version:
            return
        with registry_errors("putting the champion back", name):
            client.set_registered_model_alias(name, CHAMPION, str(last.to_version))
            if last.from_version is not None:
                client.set_registered_model_alias(name, PREVIOUS, str(last.from_version))


def _ledger_fields(move: Move) -> dict[str, Any]:  # Any: the keyword arguments of ledger.record
    return {name: getattr(move, name) for name in move.__dataclass_fields__}


def _agreeing(done: ledger.LedgerRow, move: Move) -> ledger.LedgerRow:
    if (done.action, done.to_version) == (move.action, move.to_version):
        return done
    raise RegistryError(
        f"decision {move.decision_id} already in the ledger as {done.action} version {done.to_version}",
        "one outcome per decision",
        "use a new decision id for a new outcome",
        model=done.model,
    )
