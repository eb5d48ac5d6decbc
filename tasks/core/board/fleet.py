"""All models on one page: a card each, worst first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.core.board.facts import Board
from tasks.core.board.state import Level, State, Tile, state_of, tiles_of
from tasks.core.records.drift_words import when
from tasks.core.spec_problems import NAME_PATTERN

POINTS = 40
"""Windows that one small drawing shows."""
_WIDTH, _HEIGHT = 240.0, 44.0
_ORDER: dict[Level, int] = {"bad": 0, "warn": 1, "plain": 2, "ok": 3}


@dataclass(frozen=True)
class Spark:
    """A small drawing of the score: its line, its promise, and the last point, in a box of 240 by 44."""

    path: str
    promise: float | None
    last: tuple[float, float]
    level: Level
    said: str


@dataclass(frozen=True)
class Card:
    """One model on the fleet's page; `page` is empty where its name cannot be part of an address."""

    model: str
    state: State
    tiles: tuple[Tile, ...]
    spark: Spark | None
    seen: str
    page: str


def fleet_of(boards: Sequence[Board]) -> tuple[Card, ...]:
    """Return a card per model, those that need somebody first."""
    return tuple(sorted((_card(one) for one in boards), key=lambda one: (_ORDER[one.state.level], one.model)))


def spark_of(board: Board) -> Spark | None:
    """Return the score of the last windows as a drawing; None where fewer than two have one.

    Windows are drawn at equal distance. What could not be told is left out of the line.
    """
    lines = [one for one in board.of("performance") if one.number("value") is not None][-POINTS:]
    values = [value for one in lines if (value := one.number("value")) is not None]
    if len(values) < 2:
        return None
    promise = lines[-1].number("promise")
    shown = [*values, *([promise] if promise is not None else [])]
    low, high = min(shown), max(shown)
    size = (high - low) or 1.0

    def y(value: float) -> float:
        return round(_HEIGHT - 4 - (value - low) / size * (_HEIGHT - 8), 1)

    points = [
        (round(4 + (_WIDTH - 8) * place / (len(values) - 1), 1), y(one)) for place, one in enumerate(values)
    ]
    levels: dict[str, Level] = {"ok": "ok", "warn": "warn", "drift": "bad"}
    return Spark(
        path=" ".join(f"{a:g},{b:g}" for a, b in points),
        promise=None if promise is None else y(promise),
        last=points[-1],
        level=levels.get(lines[-1].outcome, "plain"),
        said=f"{board.metric or 'score'} over the last {len(values)} windows",
    )


def _card(board: Board) -> Card:
    tiles = {one.title.split()[0]: one for one in tiles_of(board)}
    newest = max(board.lines, key=lambda one: one.window.end, default=None)
    return Card(
        model=board.model,
        state=state_of(board),
        tiles=tuple(tiles[name] for name in ("Champion", "Realised", "Labels", "Availability", "Open")),
        spark=spark_of(board),
        seen=f"last window: {when(newest.window)}" if newest else "no check on record",
        page=f"../{board.model}/board.html" if re.fullmatch(NAME_PATTERN[1:-1], board.model) else "",
    )
