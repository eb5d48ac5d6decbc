"""Append-only history: what was decided, and which version served from when, by whom and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks.core.errors import RegistryError
from tasks.core.policy import partners
from tasks.core.policy.partners import MOVES, ServingPair, pair_text
from tasks.core.policy.served import SERVING
from tasks.core.window import utc
from tasks.store import leases, outbox
from tasks.store.engine import insert_new, reading, writing
from tasks.store.leases import Lease
from tasks.store.schema import decisions as decisions_table
from tasks.store.schema import plain, promotions

Action = Literal[
    "promoted", "kept", "skipped", "blocked", "refused", "waiting", "rejected", "rolled_back", "partnered"
]


@dataclass(frozen=True)
class LedgerRow:
    """One outcome; `cause` is that of the recorded decision behind it, empty when there is none."""

    model: str
    decision_id: str
    action: Action
    from_version: int | None
    to_version: int | None
    actor: str
    reason: str
    evidence: dict[str, Any]  # Any: JSON
    at: datetime
    cause: str = ""
    partner: int | None = None


@dataclass(frozen=True)
class DecisionRow:
    """One decision as it was recorded; `revision` counts changes of content under the same id, from 1."""

    model: str
    decision_id: str
    revision: int
    kind: str
    cause: str
    reasons: tuple[str, ...]
    escalate: bool
    evidence: dict[str, Any]  # Any: JSON
    at: datetime
    run_id: str | None


def record_decision(
    engine: Engine,
    decision: Any,  # Any: a mapping, or an object with these attributes such as policy.Decision
    *,
    model: str,
    at: datetime,
    run_id: str | None = None,
    now: datetime | None = None,
) -> DecisionRow:
    """Return the decision as it stands in the history.

    `decision` has id (or decision_id), kind, cause, reasons, escalate and evidence. The same content under
    the same id is kept once; other content under that id is appended as its next revision. A decision to
    train is put into the outbox in the same transaction: neither is ever there without the other. `now` is
    the moment by the clock, from which its validity counts; default: `at`.
    """
    content = _decision_content(decision)
    with writing(engine, lock=f"decision:{model}") as connection:
        if content["kind"] == "TRAIN":
            outbox.put(connection, model, content["decision_id"], now or at)
        newest = _decisions(connection, model, content["decision_id"])[-1:]
        if newest and _same_decision(newest[0], content):
            return newest[0]
        revision = newest[0].revision + 1 if newest else 1
        row = {"model": model, "revision": revision, "at": utc(at), "run_id": run_id, **content}
        connection.execute(decisions_table.insert(), row)
        return _decisions(connection, model, content["decision_id"])[-1]


def decisions(engine: Engine, model: str) -> list[DecisionRow]:
    """Return every decision about the model, oldest first, all revisions."""
    with reading(engine) as connection:
        return _decisions(connection, model)


def decided(engine: Engine, model: str, decision_id: str) -> DecisionRow | None:
    """Return the decision as it was first recorded, which is what its retraining acts on; None: unknown."""
    with reading(engine) as connection:
        return next(iter(_decisions(connection, model, decision_id)), None)


def last_decay(engine: Engine, model: str, as_of: datetime) -> datetime | None:
    """Return when it was last decided, by then, to train because of decay; None: never."""
    table = decisions_table
    query = sa.select(sa.func.max(table.c.at)).where(
        *(table.c.model == model, table.c.kind == "TRAIN", table.c.cause == "decay", table.c.at <= utc(as_of))
    )
    with reading(engine) as connection:
        return connection.execute(query).scalar()


def record(
    engine: Engine,
    *,
    model: str,
    decision_id: str,
    action: Action,
    from_version: int | None,
    to_version: int | None,
    actor: str,
    reason: str,
    evidence: Mapping[str, Any] | None = None,
    at: datetime,
    partner: int | None = None,
    fence: Lease | None = None,
    along: Callable[[Connection], None] | None = None,
    lock: str = "",
) -> LedgerRow:
    """Return the one ledger row of this decision, written now or by an earlier call.

    Under a `fence` nothing is written when another took that lease over. What `along` writes is kept with
    the row or not at all; it sees the ledger as it was before. Writers that name one `lock` take turns.

    Raises:
        RegistryError: when the decision already ended otherwise, the action is unknown, or the lease is lost.
    """
    if action not in get_args(Action):
        raise RegistryError(f"ledger action {action!r}", f"one of {', '.join(get_args(Action))}", model=model)
    row = {
        "model": model,
        "decision_id": decision_id,
        "action": action,
        "from_version": from_version,
        "to_version": to_version,
        "partner": partner,
        "actor": actor,
        "reason": reason,
        "evidence": plain(dict(evidence or {})),
        "at": utc(at),
    }
    with writing(engine, lock=lock) as connection:
        if fence:
            leases.check(connection, fence)
        if along:
            along(connection)
        insert_new(connection, promotions, [row])
        stands = _history(connection, model, decision_id)[0]
        if (stands.action, stands.to_version, stands.partner) != (action, to_version, partner):
            raise RegistryError(
                f"decision {decision_id} already in the ledger as {stands.action} "
                f"{pair_text(stands.to_version, stands.partner)}, now {action} "
                f"{pair_text(to_version, partner)}",
                "one outcome per decision",
                "use a new decision id for a new outcome",
                model=model,
            )
    return stands


def find(engine: Engine, model: str, decision_id: str) -> LedgerRow | None:
    """Return the outcome of one decision; None while it has none."""
    with reading(engine) as connection:
        return next(iter(_history(connection, model, decision_id)), None)


def history(engine: Engine, model: str) -> list[LedgerRow]:
    """Return every outcome for the model, in the order they were recorded."""
    with reading(engine) as connection:
        return _history(connection, model)


def serving_at(engine: Engine, model: str, moment: datetime) -> int | None:
    """Return the version that served at `moment`; None before the first promotion.

    Moves count in the order they were recorded: one dated before the move it followed counts from that one's
    date on.
    """
    moves = sa.and_(promotions.c.model == model, promotions.c.action.in_(SERVING))
    later = sa.select(sa.func.min(promotions.c.id)).where(moves, promotions.c.at > utc(moment))
    first_later = later.scalar_subquery()
    query = (
        sa.select(promotions.c.to_version)
        .where(moves, sa.or_(first_later.is_(None), promotions.c.id < first_later))
        .order_by(promotions.c.id.desc())
        .limit(1)
    )
    with reading(engine) as connection:
        return connection.execute(query).scalar()


def pair_at(engine: Engine, model: str, moment: datetime) -> ServingPair:
    """Return what answered at `moment`, champion and partner; the champion is that of `serving_at`."""
    columns = (promotions.c[name] for name in ("action", "to_version", "partner", "at"))
    moves = sa.select(*columns).where(promotions.c.model == model, promotions.c.action.in_(MOVES))
    with reading(engine) as connection:
        rows: Any = connection.execute(moves.order_by(promotions.c.id)).all()  # Any: rows with these columns
    return partners.pair_at(rows, moment)


def _history(connection: Connection, model: str, decision_id: str | None = None) -> list[LedgerRow]:
    query = sa.select(promotions).where(promotions.c.model == model).order_by(promotions.c.id)
    if decision_id is not None:
        query = query.where(promotions.c.decision_id == decision_id)
    rows = connection.execute(query).mappings().all()
    causes = {row.decision_id: row.cause for row in _decisions(connection, model, decision_id)}
    return [
        LedgerRow(
            **{name: row[name] for name in row if name != "id"}, cause=causes.get(row["decision_id"], "")
        )
        for row in rows
    ]


def _decisions(connection: Connection, model: str, decision_id: str | None = None) -> list[DecisionRow]:
    table = decisions_table
    query = sa.select(table).where(table.c.model == model).order_by(table.c.id)
    if decision_id is not None:
        query = query.where(table.c.decision_id == decision_id)
    return [
        DecisionRow(
            **{name: row[name] for name in row if name not in {"id", "reasons"}},
            reasons=tuple(row["reasons"]),
        )
        for row in connection.execute(query).mappings()
    ]


def _same_decision(row: DecisionRow, content: dict[str, Any]) -> bool:  # Any: column values
    def timeless(evidence: dict[str, Any]) -> dict[str, Any]:  # a re-check at another moment is no news
        return {name: value for name, value in evidence.items() if name != "as_of"}

    same = (row.kind, row.cause, list(row.reasons), row.escalate)
    return same == tuple(content[name] for name in ("kind", "cause", "reasons", "escalate")) and timeless(
        row.evidence
    ) == timeless(content["evidence"])


def _decision_content(decision: Any) -> dict[str, Any]:  # Any: see record_decision
    def part(name: str, default: object = None) -> Any:
        if isinstance(decision, Mapping):
            return decision.get(name, default)
        return getattr(decision, name, default)

    extra = {name: part(name) for name in ("guards", "window") if part(name)}
    return {
        "decision_id": part("id") or part("decision_id"),
        "kind": part("kind"),
        "cause": part("cause") or "",
        "reasons": [str(reason) for reason in part("reasons") or ()],
        "escalate": bool(part("escalate", False)),
        "evidence": plain({**(part("evidence") or {}), **extra}),
    }
