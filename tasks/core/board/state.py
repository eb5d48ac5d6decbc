"""How the model is doing, in a word and in tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.core.board.facts import Board, Line
from tasks.core.evaluation.verdicts import ALONE, SIMPLER
from tasks.core.kpi.indicator import span
from tasks.core.policy.partners import pair_text
from tasks.core.records.drift_words import percent
from tasks.core.records.text import number

Level = Literal["ok", "warn", "bad", "plain"]
MISSING = "not measured yet"


@dataclass(frozen=True)
class State:
    """The model's state: a word, how bad that is, and why."""

    word: str
    level: Level
    why: str


@dataclass(frozen=True)
class Tile:
    """One number of the board's head; `more` says what it rests on."""

    title: str
    value: str
    more: str = ""
    level: Level = "plain"
    link: str = ""


def state_of(board: Board) -> State:
    """Return the worst that is known now; what was never measured is no reason to call it healthy."""
    found = _troubled(board) or _measured(board)
    if found:
        return found
    judged = [board.newest(kind) for kind in ("performance", "drift", "service")]
    known = [one for one in judged if one and one.outcome != "undecided"]
    if not known:
        why = next((one.reason for one in judged if one and one.reason), "no check has come to a conclusion")
        return State("Not known yet", "plain", why)
    return State("Healthy", "ok", "; ".join(f"{one.kind} {one.outcome}" for one in known))


def tiles_of(board: Board) -> tuple[Tile, ...]:
    """Return the tiles of the head, in the order one asks: who serves, how well, at what service."""
    return (
        _champion(board),
        _score(board),
        _promise(board),
        _coverage(board),
        _availability(board),
        _latency(board),
        _incidents(board),
        _budget(board),
    )


def _troubled(board: Board) -> State | None:
    critical = [one for one in board.open_troubles if one.tier == "critical"]
    if critical:
        return State("Needs a person", "bad", f"critical incident open: {critical[-1].cause}")
    if board.champion is None:
        return State("Nothing serves", "bad", "no version has been promoted")
    return None


_WORDS: tuple[tuple[str, str, str, Level], ...] = (
    ("performance", "drift", "Below its promise", "bad"),
    ("service", "drift", "Service below its level", "bad"),
    ("budget", "drift", "Error budget spent", "bad"),
    ("freshness", "drift", "Something did not run", "bad"),
    ("freshness", "warn", "Something is late", "warn"),
    ("labels", "drift", "Labels are missing", "warn"),
    ("performance", "warn", "Worth watching", "warn"),
    ("service", "warn", "Worth watching", "warn"),
    ("drift", "drift", "Inputs drifted", "warn"),
    ("predictions", "drift", "Answers moved", "warn"),
)


_OF_A_VERSION = ("performance", "drift", "predictions")
_ANSWERS = {"performance": ("decay", "harm"), "drift": ("drift", "harm"), "predictions": ("drift", "harm")}
_CAME_TO = {
    "kept": "and was not better",
    "refused": "and could not be judged or served",
    "waiting": "and waits for a person's word",
    "rejected": "and was rejected",
    "promoted": "and serves",
}


def _is_of_champion(one: Line, board: Board) -> bool:
    return one.version is None or board.champion is None or one.version == board.champion


def _answered(one: Line, board: Board) -> str:
    """Return what came of the newest retraining that answered this finding; empty where none did."""
    moves = [
        move
        for move in board.moves
        if move.cause in _ANSWERS.get(one.kind, ()) and move.at >= one.window.end and move.action in _CAME_TO
    ]
    if not moves:
        return ""
    last = moves[-1]
    version = f" version {last.version}" if last.version is not None else ""
    return f"; the retraining of {last.at:%Y-%m-%d} gave{version} {_CAME_TO[last.action]}"


def _measured(board: Board) -> State | None:
    for kind, outcome, word, level in _WORDS:
        one = board.newest(kind)
        if one and one.outcome == outcome:
            why = one.reason or f"{kind}: {outcome}"
            if kind in _OF_A_VERSION and not _is_of_champion(one, board):
                late = f"version {board.champion} serves by now and was not judged yet; before it, {why}"
                return State("Renewed since", "plain", late)
            return State(word, level, f"{why}{_answered(one, board)}")
    if board.open_troubles:
        return State("Worth watching", "warn", f"incident open: {board.open_troubles[-1].cause}")
    return None


def _champion(board: Board) -> Tile:
    serving = board.serving
    if serving is None or serving.version is None:
        return Tile("Champion", "none", "nothing was promoted", "bad")
    days = span((board.as_of - serving.at).total_seconds())
    title, value, more = "Champion", f"version {serving.version}", f"serving for {days}"
    beside = board.second_opinion
    if beside is not None:
        note = f"{more}; version {beside.partner} at half since {beside.at:%Y-%m-%d}, because "
        value, more = pair_text(serving.version, beside.partner), (note + beside.reason)[:300]
    for remark in (SIMPLER, ALONE):
        if remark in serving.reason:
            return Tile(title, value, f"{more}; {remark}, see its gate", "warn", "#history")
    return Tile(title, value, more, link="#history")


def _score(board: Board) -> Tile:
    judged = [
        one
        for one in board.of("performance")
        if one.number("value") is not None and _is_of_champion(one, board)
    ]
    title = f"Realised {board.metric}" if board.metric else "Realised score"
    if not judged:
        newest = board.newest("performance")
        if newest and not _is_of_champion(newest, board):
            return Tile(title, MISSING, f"of version {board.champion}; judged last was {newest.version}")
        return Tile(title, MISSING, newest.reason if newest else "")
    one = judged[-1]
    low, high = number(one.number("low")), number(one.number("high"))
    more = f"{low} to {high}, on {one.number('rows') or 0:,.0f} labels"
    return Tile(title, number(one.number("value")), more, _level(one), f"#{one.anchor}")


def _promise(board: Board) -> Tile:
    one = board.newest("performance")
    promise, limit = (one.number("promise"), one.number("limit")) if one else (None, None)
    if promise is None or (one and not _is_of_champion(one, board)):
        return Tile("Promise", MISSING)
    return Tile("Promise", number(promise), f"alarm beyond chance below {number(limit)}" if limit else "")


def _coverage(board: Board) -> Tile:
    one = board.newest("labels")
    share = one.number("coverage") if one else None
    if one is None or share is None:
        return Tile("Labels known", MISSING)
    delay = one.number("delay_p50_s")
    more = "" if delay is None else f"half of them within {span(delay)}"
    return Tile("Labels known", percent(share), more, _level(one), f"#{one.anchor}")


def _availability(board: Board) -> Tile:
    one = board.newest("service")
    share = one.number("availability") if one else None
    if one is None or share is None:
        return Tile("Availability", MISSING)
    asked = one.number("requests") or 0.0
    return Tile(
        "Availability", f"{100 * share:.5g} %", f"of {asked:,.0f} requests", _level(one), f"#{one.anchor}"
    )


def _latency(board: Board) -> Tile:
    one = board.newest("service")
    slow = latency(one, "p99_ms") if one else None
    if one is None or slow is None:
        return Tile("Latency P99", MISSING)
    middle = latency(one, "p50_ms")
    more = "" if middle is None else f"half within {middle:.3g} ms"
    return Tile("Latency P99", f"{slow:.3g} ms", more, link=f"#{one.anchor}")


def latency(line: Line, name: str) -> float | None:
    """Return this percentile of the version that answered most of the window's requests.

    Percentiles of several versions cannot be merged; the busiest speaks for the window.
    """
    given = line.summary.get("versions")
    found = [one for one in given if isinstance(one, dict)] if isinstance(given, list | tuple) else []
    busiest = max(found, key=lambda one: one.get("requests") or 0, default=None)
    return Line(line.kind, line.window, None, "", busiest).number(name) if busiest else line.number(name)


def _incidents(board: Board) -> Tile:
    lasting = board.open_troubles
    worst: Level = "bad" if any(one.tier == "critical" for one in lasting) else "warn" if lasting else "ok"
    more = ", ".join(one.cause for one in lasting[:3])
    return Tile("Open incidents", str(len(lasting)), more, worst, "#incidents")


def _budget(board: Board) -> Tile:
    one = board.newest("budget")
    left = one.number("left") if one else None
    if one is None or left is None:
        return Tile("Error budget left", MISSING)
    missed, of = one.number("share"), one.number("windows")
    more = "" if missed is None else f"{percent(missed)} of {of or 0:,.0f} windows missed the band"
    shown = percent(max(left, 0.0)) if left > 0 else "none"
    return Tile("Error budget left", shown, more, "bad" if left <= 0 else _level(one), f"#{one.anchor}")


def _level(line: Line) -> Level:
    levels: dict[str, Level] = {"ok": "ok", "warn": "warn", "drift": "bad"}
    return levels.get(line.outcome, "plain")
