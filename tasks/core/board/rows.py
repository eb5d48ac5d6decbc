"""The board's tables: every record, every change of version, every incident, in words."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.core.board.facts import Board, Line, Move, stamp
from tasks.core.kpi.indicator import span
from tasks.core.policy.partners import PARTNERED, pair_text
from tasks.core.records.drift_words import percent, told, when
from tasks.core.records.text import number

MOST_RECORDS = 1200
"""Rows of the table of records; our choice: with them a page of 500 windows stays below 6 MB."""


@dataclass(frozen=True)
class Record:
    """One check in the table of records; `report` is the stamp of its drift report, where one is kept."""

    anchor: str
    window: str
    kind: str
    outcome: str
    version: str
    said: str
    decision_id: str
    run_id: str
    report: str = ""


@dataclass(frozen=True)
class Changed:
    """One change of the version that serves, or an outcome that kept it."""

    at: str
    what: str
    who: str
    why: str
    decision_id: str
    serves: bool


@dataclass(frozen=True)
class Incident:
    """One incident: what, how grave, from when, how long."""

    cause: str
    tier: str
    message: str
    opened: str
    lasted: str
    lasts: bool


def records_of(board: Board) -> tuple[Record, ...]:
    """Return the newest checks, newest first."""
    return tuple(_record(board, one) for one in board.lines[::-1][:MOST_RECORDS])


def anchors_of(board: Board) -> dict[str, str]:
    """Return the record of every drift check by how its window reads, as the calendar's cells say it."""
    return {when(one.window): one.anchor for one in board.of("drift")}


def changes_of(board: Board, *, most: int = 100) -> tuple[Changed, ...]:
    """Return what became of decisions, newest first; what was merely skipped is left out."""
    found = [one for one in board.moves if one.action not in ("skipped", "blocked")]
    return tuple(
        Changed(
            at=f"{one.at:%Y-%m-%d %H:%M}",
            what=_what(one),
            who=one.actor,
            why=" · ".join(part for part in (one.cause, one.reason) if part)[:300],
            decision_id=one.decision_id,
            serves=one.serves,
        )
        for one in found[::-1][:most]
    )


def incidents_of(board: Board, *, most: int = 100) -> tuple[Incident, ...]:
    """Return the incidents, those that last first, then the newest."""
    lasting = {id(one) for one in board.open_troubles}
    ordered = sorted(board.troubles, key=lambda one: (id(one) in lasting, one.opened_at), reverse=True)
    return tuple(
        Incident(
            cause=one.cause,
            tier=one.tier,
            message=one.message[:400],
            opened=f"{one.opened_at:%Y-%m-%d}",
            lasted=span(((one.resolved_at or board.as_of) - one.opened_at).total_seconds()),
            lasts=id(one) in lasting,
        )
        for one in ordered[:most]
    )


def _record(board: Board, one: Line) -> Record:
    report = stamp(one.window) if one.kind == "drift" and stamp(one.window) in board.reports else ""
    return Record(
        anchor=one.anchor,
        window=when(one.window),
        kind=one.kind,
        outcome=one.outcome,
        version="–" if one.version is None else str(one.version),
        said=_said(one)[:400],
        decision_id=one.decision_id,
        run_id=one.run_id or "",
        report=report,
    )


def _said(one: Line) -> str:
    """Return what the check says: its own reason, else the numbers of its kind."""
    if one.reason:
        return told(one.reason)
    if one.kind == "service":
        share, asked = one.number("availability"), one.number("requests") or 0.0
        return f"{asked:,.0f} requests, {number(100 * share if share is not None else None)} % answered"
    if one.kind == "labels" and (coverage := one.number("coverage")) is not None:
        return f"{percent(coverage)} of {one.number('predictions') or 0:,.0f} labels known"
    if one.kind == "data" and (rows := one.number("rows")) is not None:
        return f"{rows:,.0f} rows, {one.number('bad_rows') or 0:,.0f} bad"
    return ""


_WHAT = {
    "promoted": "version {version} serves",
    "rolled_back": "back to version {version}",
    "kept": "challenger refused, champion kept",
    "refused": "challenger refused",
    "waiting": "version {version} waits for a person",
    "rejected": "version {version} rejected",
}


def _what(one: Move) -> str:
    if one.action == PARTNERED:
        alone = "" if one.partner is not None else " alone again"
        return f"{pair_text(one.version, one.partner)}{alone or ' at half'}"
    return _WHAT.get(one.action, one.action).format(version=one.version or "?")
