"""Why a version was promoted, kept or refused: the gate's words and numbers, and the chain that led to it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Engine

from tasks.core.policy.partners import pair_text
from tasks.history.answer import Answer, listed, shown_as, table
from tasks.history.past import Past, checks_behind, row_as_json
from tasks.history.served import made_lines, second_opinion
from tasks.store import ledger, lifecycle
from tasks.store.catalog import VersionFacts

_ENDED = {
    "promoted": "promoted",
    "rolled_back": "brought back by a rollback",
    "kept": "not promoted: the champion was kept",
    "refused": "refused",
    "rejected": "rejected",
    "waiting": "waiting for a person",
}
_LEFT = {"promoted": "replaced by", "rolled_back": "rolled back to"}


def why(past: Past, number: int, engine: Engine) -> Answer:
    """Return why this version was promoted, kept or refused, what had caused its training, and what followed.

    Under "left" are the moves that let another version serve instead.

    Raises:
        RegistryError: when no facts of the version are kept.
    """
    facts, rows, left = past.known(number), past.about(number), past.after(number)
    chain = _chain(past, facts, engine)
    ended = rows[-1].action if rows else ""
    data = {
        "model": past.model,
        "version": number,
        "ended": ended or None,
        "stage": past.stage(number),
        "gate": facts.gate,
        "against": facts.champion_version,
        "ledger": [row_as_json(row) for row in rows],
        "left": [row_as_json(row) for row in left],
        "beside": [row_as_json(row) for row in past.beside(number)],
        "chain": chain,
    }
    head = (
        f"{past.model}: version {number} {_ENDED.get(ended, 'registered; nothing is decided about it yet')}"
    )
    end = {row.decision_id: f"{_LEFT[row.action]} version {row.to_version}" for row in left}
    events = [row for row in past.rows if row in rows or row.decision_id in end]
    if left and events[-1].decision_id in end:
        head += f", then {end[events[-1].decision_id]}"
    serving, now = past.standing()
    if serving is not None and now is not None and number in (serving.to_version, now.partner):
        told = second_opinion(now)
        head += f"; serving: version {serving.to_version} with {told}" if told else ""
    beside = {row.decision_id: _beside(row) for row in past.beside(number)}
    end |= beside
    events = [row for row in past.rows if row in rows or row.decision_id in end]
    lines = [head]
    for row in events:
        said = f"{end[row.decision_id]}: {row.reason}" if row.decision_id in end else row.reason
        lines.append("  " + shown_as(f"{row.actor}, {shown_as(row.at)}: {said}"))
    lines += ["", *_gate_lines(facts), "", "how it came about, the newest first"]
    lines += [f"  {at + 1}. {shown_as(link['text'])}" for at, link in enumerate(chain)]
    return Answer(data, tuple(lines))


def show(past: Past, number: int, engine: Engine) -> Answer:
    """Return everything known of this version.

    Raises:
        RegistryError: when no facts of the version are kept.
    """
    facts, told = past.known(number), why(past, number, engine)
    record = facts.params
    served = [row for row in past.moves if row.to_version == number]
    moves = lifecycle.moves(engine, past.model, number)
    pairs: list[tuple[str, object]] = [
        ("stage", past.stage(number)),
        ("created", facts.created),
        ("registered", facts.registered_at),
        ("promise", _promise(facts)),
        *made_lines(past, number),
        ("row keys", facts.snapshot.get("keys")),
        ("fitted before", facts.cut),
        ("trained on", _rows(record)),
        ("parameters", ", ".join(f"{name}={value}" for name, value in (record.get("params") or {}).items())),
        (
            "scores",
            ", ".join(f"{name} {shown_as(score)}" for name, score in (record.get("metrics") or {}).items()),
        ),
        ("anchor", _anchor(facts)),
        ("stages", " → ".join(f"{move.to_stage} {shown_as(move.at)}" for move in moves)),
        ("served from", ", ".join(shown_as(row.at) for row in served)),
        ("attempt", facts.attempt),
        ("run", facts.run_id),
        ("snapshot", facts.snapshot.get("path")),
        ("digest", facts.digest),
    ]
    lines = (f"{past.model}: version {number}", *listed(pairs), "", *told.lines)
    return Answer(
        {**told.data, "facts": facts, "served_from": [row.at for row in served], "stages": moves}, lines
    )


def _beside(row: ledger.LedgerRow) -> str:
    if row.partner is None:
        return f"version {row.to_version} alone again"
    return f"{pair_text(row.to_version, row.partner)} at half"


def _chain(past: Past, facts: VersionFacts, engine: Engine) -> list[dict[str, Any]]:  # Any: JSON
    """Return what led to what, from the end back to the check that saw something."""
    chain: list[dict[str, Any]] = [
        {"what": row.action, "id": row.decision_id, "at": row.at, "text": _ended_text(row)}
        for row in reversed(past.about(facts.number))
    ]
    outcome = str(facts.gate.get("outcome") or "not on record")
    chain.append(
        {"what": "gate", "at": facts.created, "text": f"the gate said {outcome} ({shown_as(facts.created)})"}
    )
    decided = ledger.decided(engine, past.model, facts.decision_id)
    if decided is None:
        asked = facts.cause or "somebody"
        chain.append(
            {
                "what": "asked",
                "id": facts.decision_id,
                "text": f"training {facts.decision_id}, asked for by {asked}",
            }
        )
        return chain
    text = f"decision {decided.decision_id}: {decided.kind} because of {decided.cause or 'no stated cause'}"
    reasons = "; ".join(decided.reasons)
    chain.append(
        {
            "what": "decision",
            "id": decided.decision_id,
            "at": decided.at,
            "reasons": list(decided.reasons),
            "run": decided.run_id,
            "text": f"{text} ({shown_as(decided.at)}): {reasons}",
        }
    )
    for check in checks_behind(engine, past.model, decided.run_id):
        said = f"{check['kind']} check of {check['window']} said {check['outcome']}"
        chain.append(
            {"what": "check", **check, "text": said + (f": {check['reason']}" if check["reason"] else "")}
        )
    return chain


def _ended_text(row: ledger.LedgerRow) -> str:
    return f"{row.action.replace('_', ' ')} by {row.actor} ({shown_as(row.at)}), decision {row.decision_id}"


def _gate_lines(facts: VersionFacts) -> list[str]:
    gate = facts.gate
    against = f"version {facts.champion_version}" if facts.champion_version else "no champion"
    needed = gate.get("needed_rows")
    lines = [f"the gate compared it with {against}: {gate.get('outcome')}"]
    lines += [f"  - {shown_as(reason)}" for reason in gate.get("reasons") or ()]
    lines += listed(
        [
            ("  metric", gate.get("metric") or facts.metric),
            ("  challenger", gate.get("challenger_score")),
            ("  champion", gate.get("champion_score")),
            ("  difference", _between(gate)),
            ("  better with probability", gate.get("p_better")),
            ("  rows", gate.get("rows")),
            ("  rows that would tell", needed),
            ("  anchor", _anchor(facts)),
        ]
    )
    parts = [
        [
            "slice",
            f"{one.get('column')}={one.get('value')}",
            one.get("outcome"),
            one.get("difference"),
            one.get("rows"),
        ]
        for one in gate.get("slices") or ()
    ]
    parts += [
        ["baseline", one.get("name"), one.get("outcome"), one.get("difference"), None]
        for one in gate.get("baselines") or ()
    ]
    parts += [
        ["limit", one.get("name"), one.get("outcome"), one.get("value"), None]
        for one in gate.get("guards") or ()
    ]
    if parts:
        lines += ["", *(f"  {line}" for line in table(["of", "which", "said", "value", "rows"], parts))]
    return lines


def _between(gate: dict[str, Any]) -> str | None:  # Any: JSON
    if gate.get("difference") is None:
        return None
    low, high = (shown_as(gate.get(name)) for name in ("low", "high"))
    return f"{gate['difference']:+.4g}, between {low} and {high}"


def _promise(facts: VersionFacts) -> str | None:
    if facts.promise is None:
        return None
    low, high = shown_as(facts.promise_low), shown_as(facts.promise_high)
    return f"{facts.metric} {shown_as(facts.promise)} ({low} to {high})"


def _rows(record: dict[str, Any]) -> str | None:  # Any: JSON
    if record.get("train_rows") is None:
        return None
    seconds, unseen = shown_as(record.get("seconds")), record.get("holdout_rows")
    return f"{record['train_rows']} rows in {seconds} s, {unseen} kept unseen"


def _anchor(facts: VersionFacts) -> str | None:
    if facts.anchor_score is None:
        return None
    return f"{shown_as(facts.anchor_score)} on the frozen rows {str(facts.anchor_sha256)[:12]}"
