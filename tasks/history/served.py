"""Which version served at a moment, and which serve now: who let it, when, why, on what data and code."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.engine import Engine

from tasks.core.policy.partners import pair_text
from tasks.core.window import utc
from tasks.history.answer import Answer, listed, short, shown_as, table
from tasks.history.past import Past, read_past
from tasks.store.catalog import model_names
from tasks.store.ledger import LedgerRow


def served(past: Past, at: datetime) -> Answer:
    """Return which version served at this moment; before the first promotion that is none."""
    moment = utc(at)
    moves = past.moves
    before = [row for row in moves if row.at <= moment]
    if not before:
        first = f", the first promotion was {shown_as(moves[0].at)}" if moves else ""
        return Answer(
            {"model": past.model, "at": moment, "version": None},
            (f"{past.model}: no version served at {shown_as(moment)}{first}",),
        )
    row = before[-1]
    until = next((later.at for later in moves[len(before) :]), None)
    beside = past.standing(moment)[1]
    data = {"model": past.model, "at": moment, "until": until, **_served(past, row, beside)}
    head = f"{past.model}: {_pair(row, beside)} served at {shown_as(moment)}"
    since = f"{shown_as(row.at)} until {shown_as(until) if until else 'now'}"
    dated = (
        f"{shown_as(data['dated'])}, entered after the move before it" if data["dated"] != row.at else None
    )
    pairs = [
        ("served", since),
        ("dated", dated),
        *_story(row),
        *_second(beside),
        *made_lines(past, row.to_version),
    ]
    return Answer(data, (head, *listed(pairs)))


def production(engine: Engine) -> Answer:
    """Return which version of every model serves now."""
    found = []
    for model in model_names(engine):
        past = read_past(engine, model)
        if past.moves:
            facts = past.facts.get(past.moves[-1].to_version or 0)
            more = {"metric": facts.metric, "promise": facts.promise} if facts else {}
            beside = past.standing()[1]
            found.append({"model": model, **_served(past, past.moves[-1], beside), **more})
        else:
            found.append({"model": model, "version": None})
    rows = [
        [
            one["model"],
            one["version"],
            one.get("partner"),
            one.get("since"),
            one.get("actor"),
            one.get("metric"),
            one.get("promise"),
            short(one.get("commit")),
            short(one.get("snapshot")),
        ]
        for one in found
    ]
    head = ["model", "version", "with", "since", "by", "metric", "promised", "commit", "snapshot"]
    return Answer(found, tuple(table(head, rows) if rows else ["no model is known here yet"]))


def made_lines(past: Past, number: int | None) -> list[tuple[str, object]]:
    """Return on what data and code a version was made, as facts to list."""
    made = past.made_of(number or 0)
    if not made:
        return [("made of", "not known here")]
    rows = f"{made['rows']} rows of " if made.get("rows") else ""
    data = f"{rows}{made['window']}, snapshot {short(made['snapshot']) or 'unknown'}"
    code = f"{short(made['commit']) or 'unknown commit'}{_dirty(made['dirty'])}"
    if made.get("lock"):
        code += f", lock {short(made['lock'])}"
    return [("data", data), ("code", code), ("image", made.get("image"))]


def second_opinion(beside: LedgerRow | None) -> str:
    """Return since when and why another version has half the vote; empty where none has."""
    if beside is None or beside.partner is None:
        return ""
    return f"version {beside.partner} at half since {shown_as(beside.at)}, because {beside.reason}"


def _pair(row: LedgerRow, beside: LedgerRow | None) -> str:
    partner = beside.partner if beside is not None else None
    return pair_text(row.to_version, partner) + (" at half" if partner is not None else "")


def _second(beside: LedgerRow | None) -> list[tuple[str, object]]:
    told = second_opinion(beside)
    return [("second opinion", f"{told} (by {beside.actor})")] if told and beside is not None else []


def _served(past: Past, row: LedgerRow, beside: LedgerRow | None) -> dict[str, Any]:  # Any: JSON
    partner = beside.partner if beside is not None else None
    since: dict[str, Any] = {}  # Any: JSON
    if beside is not None and partner is not None:
        since = {"partner_since": beside.at, "partner_reason": beside.reason, "partner_actor": beside.actor}
    return {
        "version": row.to_version,
        "partner": partner,
        **since,
        "since": row.at,
        "dated": past.dated(row.decision_id),
        "action": row.action,
        "actor": row.actor,
        "reason": row.reason,
        "decision_id": row.decision_id,
        "cause": row.cause,
        "before": row.from_version,
        **past.made_of(row.to_version or 0),
    }


def _story(row: LedgerRow) -> list[tuple[str, object]]:
    words = {"promoted": "promoted", "rolled_back": "brought back"}[row.action]
    instead = f" instead of version {row.from_version}" if row.from_version is not None else ""
    cause = f"{row.decision_id} ({row.cause})" if row.cause else row.decision_id
    return [(words, f"by {row.actor}{instead}"), ("because", row.reason), ("decision", cause)]


def _dirty(dirty: object) -> str:
    return {True: " with uncommitted changes", False: "", None: ", not known whether clean"}[
        dirty if isinstance(dirty, bool) else None
    ]
