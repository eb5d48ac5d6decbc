"""A board that shows two versions: in its head, its table of changes and its month."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tasks.core.board.facts import Board, Move
from tasks.core.board.rows import changes_of
from tasks.core.board.state import tiles_of

T0 = datetime(2026, 10, 5, tzinfo=UTC)
DAY = timedelta(days=1)
MOVES = (
    Move("promoted", T0, 1, None, "gate", "first"),
    Move("promoted", T0 + 2 * DAY, 2, 1, "gate", "better"),
    Move("partnered", T0 + 3 * DAY, 2, 2, "rule", "ahead on the newest labels", partner=1),
)
BOARD = Board("churn", T0 + 5 * DAY, moves=MOVES)


def test_the_head_names_both_with_since_and_why() -> None:
    tile = next(tile for tile in tiles_of(BOARD) if tile.title == "Champion")
    assert tile.value == "version 2 with version 1"
    assert "2026-10-08" in tile.more
    assert "ahead on the newest labels" in tile.more
    assert "serving for 3 d;" in tile.more, "the champion serves since its promotion"


def test_alone_again_and_after_a_promotion_the_head_names_one() -> None:
    for last in (
        Move("partnered", T0 + 4 * DAY, 2, 2, "ann", "complaints"),
        Move("promoted", T0 + 4 * DAY, 3, 2, "gate", "better"),
    ):
        board = replace(BOARD, moves=(*MOVES, last))
        tile = next(tile for tile in tiles_of(board) if tile.title == "Champion")
        assert tile.value == f"version {last.version}"


def test_a_change_of_partner_is_listed_and_is_no_change_of_the_champion() -> None:
    newest = changes_of(BOARD)[0]
    assert ("version 2 with version 1" in newest.what, newest.who, newest.serves) == (True, "rule", False)
