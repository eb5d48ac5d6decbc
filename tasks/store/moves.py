"""The one place that moves a model's champion, so that a crash at any point can be finished or forgotten.

MLflow moves an alias without history and without comparing. So the move is first written down as an intent
(a tag of the registered model), then done, then entered in the ledger, then the intent is cleared. Whoever
comes next finds an intent whose alias moved (it is entered in the ledger as intended) or did not (dropped).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tasks.core.errors import PromotionRefused, RegistryError
from tasks.core.model.bundle import plain
from tasks.core.policy.served import SERVING
from tasks.settings import Settings
from tasks.store import ledger
from tasks.store.engine import open_store
from tasks.store.mlflow_client import open_client, registry_errors
from tasks.store.registry import CHAMPION, PREVIOUS, find_champion

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG_INTENT = "evergreen.intent"
"""The actions of the ledger that change which version serves."""
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

    def to_json(self) -> str:
        """Return the move as the text of a tag."""
        return json.dumps(plain(asdict(self)), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Move:
        """Return the move written in a tag."""
        raw = json.loads(text)
        return cls(**{**raw, "at": datetime.fromisoformat(raw["at"])})


def carry_out(move: Move, name: str, *, settings: Settings) -> ledger.LedgerRow:
    """Return the ledger row of the move, done now or by an earlier call of the same decision.

    Call it under the model's lock (see `tasks.versions.move.move`).

    Raises:
        PromotionRefused: when another version serves than the one the decision was about, or this one does.
    """
    client = open_client(settings)
    finish_pending(name, settings=settings)
    done = ledger.find(open_store(settings), name, move.decision_id)
    if done is not None:
        return _agreeing(done, move)
    _refuse_if_moot(move, name, settings)
    with registry_errors("noting the move", name):
        client.set_registered_model_tag(name, TAG_INTENT, move.to_json())
    return _apply(client, name, move, settings)


def finish_pending(name: str, *, settings: Settings) -> ledger.LedgerRow | None:
    """Return the ledger row of a move that was interrupted after its alias moved; None when there is none."""
    client = open_client(settings)
    with registry_errors("looking for an unfinished move", name):
        found = [item for item in client.search_registered_models(f"name = '{name}'") if item.name == name]
        text = found[0].tags.get(TAG_INTENT) if found else None
        if not text:
            return None
        move = Move.from_json(text)
    serving = find_champion(name, settings=settings)
    if serving is not None and serving.number == move.to_version:
        return _apply(client, name, move, settings)
    with registry_errors("dropping a move that did not happen", name):
        client.delete_registered_model_tag(name, TAG_INTENT)
    return None


def last_move(name: str, *, settings: Settings) -> ledger.LedgerRow | None:
    """Return the newest ledger row that says which version serves; None before the first promotion."""
    rows = ledger.history(open_store(settings), name)
    return next((row for row in reversed(rows) if row.action in SERVING), None)


def _apply(client: MlflowClient, name: str, move: Move, settings: Settings) -> ledger.LedgerRow:
    """Do what the intent says; every step may be repeated."""
    with registry_errors("moving the champion", name):
        client.set_registered_model_alias(name, CHAMPION, str(move.to_version))
        if move.from_version is not None and move.from_version != move.to_version:
            client.set_registered_model_alias(name, PREVIOUS, str(move.from_version))
    row = ledger.record(open_store(settings), model=name, **_ledger_fields(move))
    with registry_errors("clearing the noted move", name):
        client.delete_registered_model_tag(name, TAG_INTENT)
    return row


def _ledger_fields(move: Move) -> dict[str, Any]:  # Any: the keyword arguments of ledger.record
    return {name: getattr(move, name) for name in move.__dataclass_fields__}


def _refuse_if_moot(move: Move, name: str, settings: Settings) -> None:
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


def _agreeing(done: ledger.LedgerRow, move: Move) -> ledger.LedgerRow:
    if (done.action, done.to_version) == (move.action, move.to_version):
        return done
    raise RegistryError(
        f"decision {move.decision_id} already in the ledger as {done.action} version {done.to_version}",
        "one outcome per decision",
        "use a new decision id for a new outcome",
        model=done.model,
    )


def short(reason: str) -> str:
    """Return the reason at a length that an intent can hold."""
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "…"
