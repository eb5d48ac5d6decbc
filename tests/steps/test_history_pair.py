"""A second opinion in every answer about a model's past: with which version, since when, by whom and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from tasks.core.kpi.measure import scorecard_of
from tasks.history import served, why
from tasks.history.past import Past, read_past
from tasks.store import facts, ledger, succession
from tasks.store.board import board_facts
from tasks.store.engine import close_stores, open_store, writing
from tests.histories import DAY, START, a_past, ended

SET, LEFT = START + 13 * DAY, START + 15 * DAY


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A store in which version 11 serves, and version 7 answered beside it for two days."""
    monkeypatch.setenv("EVERGREEN_STATE_DIR", str(tmp_path / "state"))
    engine = open_store()
    a_past(engine, 12)
    beside(engine, 7, SET)
    yield engine
    close_stores()


def beside(engine: Engine, partner: int | None, at: object) -> None:
    ended(
        engine, 11, "partnered", 11, decision_id=f"beside-{partner}", partner=partner, actor="rule",
        reason=f"ahead by {partner}", at=at, evidence={},
    )  # fmt: skip


def past_of(engine: Engine) -> Past:
    return read_past(engine, "churn")


def test_what_served_at_a_moment_names_both(engine: Engine) -> None:
    beside(engine, None, LEFT)
    answers = {day: served.served(past_of(engine), START + day * DAY) for day in (12, 14, 16)}
    found = {day: (answer.data["version"], answer.data["partner"]) for day, answer in answers.items()}
    assert found == {12: (11, None), 14: (11, 7), 16: (11, None)}
    assert (answers[14].data["partner_since"], answers[14].data["partner_reason"]) == (SET, "ahead by 7")
    assert answers[14].data["decision_id"] == "train-11"
    assert "version 11 with version 7 at half" in answers[14].text()
    assert "because ahead by 7" in answers[14].text()
    assert "version 7" not in answers[16].text()
    assert "partner_since" not in answers[16].data


def test_production_names_the_partner(engine: Engine) -> None:
    [row] = served.production(engine).data
    assert (row["version"], row["partner"], row["partner_since"]) == (11, 7, SET)
    ended(engine, 12, "promoted", 11, decision_id="by-hand", at=LEFT)
    [row] = served.production(engine).data
    assert (row["version"], row["partner"]) == (12, None)


@pytest.mark.parametrize("number", [11, 7])
def test_why_tells_of_both_versions_and_their_ends_stay_what_they_were(engine: Engine, number: int) -> None:
    answer = why.why(past_of(engine), number, engine)
    assert answer.data["ended"] == "promoted"
    assert [row["partner"] for row in answer.data["beside"]] == [7]
    assert "version 11 with version 7 at half" in answer.lines[0]
    assert any("ahead by 7" in line for line in answer.lines[1:])
    shown = why.show(past_of(engine), number, engine)
    assert any("ahead by 7" in line for line in shown.lines)
    beside(engine, None, LEFT)
    answer = why.why(past_of(engine), number, engine)
    assert [row["partner"] for row in answer.data["beside"]] == [7, None]
    assert "at half" not in answer.lines[0]


def test_a_version_beside_which_nobody_stood_says_nothing_of_it(engine: Engine) -> None:
    assert why.why(past_of(engine), 9, engine).data["beside"] == []


def test_stages_follow_the_champion_alone(engine: Engine) -> None:
    past = past_of(engine)
    assert (past.stage(11), past.stage(7), past.serving) == ("PRODUCTION", "ARCHIVED", 11)
    with writing(engine) as connection:
        succession.catch_up(connection, "churn")
    assert (past_of(engine).stage(11), past_of(engine).stage(7)) == ("PRODUCTION", "ARCHIVED")


def test_a_change_of_partner_is_no_promotion_to_the_scorecard(engine: Engine) -> None:
    before = scorecard_of(facts.gather(engine, "churn", START, as_of=START + 20 * DAY))
    beside(engine, None, LEFT)
    beside(engine, 5, LEFT + DAY)
    after = scorecard_of(facts.gather(engine, "churn", START, as_of=START + 20 * DAY))
    assert before.kpis == after.kpis
    assert before.value("deployments") is not None


def test_the_board_reads_the_partner(engine: Engine) -> None:
    board = board_facts(engine, "churn", as_of=START + 14 * DAY)
    assert board.champion == 11
    assert board.second_opinion is not None
    assert (board.second_opinion.partner, board.second_opinion.at) == (7, SET)
    beside(engine, None, LEFT)
    assert board_facts(engine, "churn", as_of=LEFT).second_opinion is None
    assert [row.partner for row in ledger.history(engine, "churn")][-2:] == [7, None]
