"""Kill -9 between any two steps of a move, again and again: the next run leaves one sound champion."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.moving import KILLS, Ended, killed_everywhere, standing
from tests.versions import Made

POINTS = {
    "promote": (
        "transaction",  # the lease is taken
        "transaction",  # the move is noted, and it stands in staging
        "tag",
        "alias challenger",
        "alias champion",
        "alias previous",
        "transaction",  # the ledger has it, and the stages of both
        "tag",
        "tag",
        "drop alias challenger",
        "transaction",  # the move is noted as done
        "transaction",  # the lease is given back
    ),
    "rollback": (
        "transaction",
        "transaction",
        "alias champion",
        "alias previous",
        "transaction",
        "tag",
        "tag",
        "transaction",
        "transaction",
    ),
    "wait": ("transaction", "transaction", "tag", "alias challenger", "transaction"),
    "partner": (
        "transaction",  # the lease is taken
        "transaction",  # the ledger has it
        "transaction",  # the lease is given back
    ),
}
CASES = [(kind, at) for kind, points in POINTS.items() for at in range(len(points))]
ENDS = {
    "promote": ({"champion": 3, "previous": 2}, {"1": "ARCHIVED", "2": "ARCHIVED", "3": "PRODUCTION"}),
    "rollback": (
        {"champion": 1, "previous": 2},
        {"1": "PRODUCTION", "2": "ARCHIVED", "3": "CANDIDATE"},
    ),
    "wait": (
        {"champion": 2, "previous": 1, "challenger": 3},
        {"1": "ARCHIVED", "2": "PRODUCTION", "3": "STAGING"},
    ),
    "partner": (
        {"champion": 2, "previous": 1},
        {"1": "ARCHIVED", "2": "PRODUCTION", "3": "CANDIDATE"},
    ),
}
LEDGER = {
    "promote": [["promoted", 3]],
    "rollback": [["rolled_back", 1]],
    "wait": [],
    "partner": [["partnered", 2]],
}

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(scope="module")
def killed(
    made: Made, fresh: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, list[str]], dict[str, Ended]]:
    folder = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_PROBE", "here")
        standing(made, fresh, folder, candidates=1)
    return killed_everywhere(folder, folder / "ends.json")


def test_every_step_that_leaves_something_behind_is_killed_at(
    killed: tuple[dict[str, list[str]], dict[str, Ended]],
) -> None:
    points, ends = killed
    assert {kind: tuple(steps) for kind, steps in points.items()} == POINTS
    assert len(ends) == len(CASES)


@pytest.mark.parametrize(("kind", "at"), CASES)
def test_killed_again_and_again_at_a_step_and_run_again_leaves_one_champion_that_loads(
    kind: str, at: int, killed: tuple[dict[str, list[str]], dict[str, Ended]]
) -> None:
    ended = killed[1][f"{kind}-{at}"]
    assert ended.error == ""
    assert 1 <= ended.killed <= KILLS
    aliases, stages = ENDS[kind]
    assert ended.aliases == aliases
    assert ended.champion == aliases["champion"]
    assert ended.stages == stages == ended.shown
    assert ended.ledger == [["promoted", 1], ["promoted", 2], *LEDGER[kind]]
    assert ended.partner == (1 if kind == "partner" else None)
    assert (ended.tags, ended.pending, ended.held) == ([], 0, 0)
    assert len(ended.moves) == len({tuple(move) for move in ended.moves}) + (kind == "rollback")
