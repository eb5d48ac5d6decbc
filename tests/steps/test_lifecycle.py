"""Where versions stand: moved by compare-and-set, once per decision, and taken over from older stores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from tasks.core.errors import RegistryError
from tasks.store import ledger, lifecycle, succession
from tasks.store.engine import writing
from tasks.store.lifecycle import StageRow, Why
from tests.stores import BOTH, fresh_store

T0 = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(params=BOTH)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with fresh_store(request.param, request, tmp_path) as engine:
        yield engine


def advance(
    store: Engine, version: int, to: Any, expected: Any, decision: str = "d", **over: Any
) -> StageRow:
    known: dict[str, Any] = {"actor": "gate", "reason": "better", "at": T0, **over}
    return lifecycle.advance(
        store, "churn", version, to, expected_stage=expected, decision_id=decision, **known
    )


def served(store: Engine, version: int, decision: str) -> None:
    advance(store, version, "CANDIDATE", None, decision)
    advance(store, version, "STAGING", "CANDIDATE", decision)
    advance(store, version, "PRODUCTION", "STAGING", decision)


def told(store: Engine, *rows: tuple[str, int | None, int | None]) -> None:
    """Enter rows of the ledger as a release without stages did."""
    earlier = len(ledger.history(store, "churn"))
    for number, (action, old, new) in enumerate(rows, earlier):
        ledger.record(
            store, model="churn", decision_id=f"old{number}", action=action, from_version=old, to_version=new,
            actor="ann", reason="then", at=T0 + timedelta(days=number),
        )  # fmt: skip


def promote(store: Engine, version: int, decision: str = "new") -> set[int]:
    with writing(store, lock=lifecycle.lock_of("churn")) as connection:
        return succession.promote(connection, "churn", version, Why("gate", "better", decision, T0), "gate")


def steps(store: Engine) -> list[tuple[int, str | None, str]]:
    return [(row.version, row.from_stage, row.to_stage) for row in lifecycle.moves(store, "churn")]


def test_moves_are_numbered_without_a_gap_and_say_who_why_and_when(store: Engine) -> None:
    served(store, 1, "d1")
    row = advance(store, 1, "ARCHIVED", "PRODUCTION", "d2", actor="ann", reason="slow")
    assert row == StageRow("churn", 4, 1, "PRODUCTION", "ARCHIVED", "ann", "slow", "d2", T0)
    assert lifecycle.moves(store, "churn")[-1] == row
    assert [move.seq for move in lifecycle.moves(store, "churn", 1)] == [1, 2, 3, 4]
    assert lifecycle.stage_of(store, "churn", 1) == "ARCHIVED"
    assert lifecycle.stage_of(store, "churn", 2) is None


def test_a_move_from_another_stage_than_expected_changes_nothing(store: Engine) -> None:
    advance(store, 1, "CANDIDATE", None)
    with pytest.raises(RegistryError, match=r"version 1 at CANDIDATE, to be moved to PRODUCTION.*at STAGING"):
        advance(store, 1, "PRODUCTION", "STAGING")
    with pytest.raises(RegistryError, match=r"from CANDIDATE to PRODUCTION by the gate.*STAGING, ARCHIVED"):
        advance(store, 1, "PRODUCTION", "CANDIDATE")
    with pytest.raises(RegistryError, match="found move 1 of this model; expected move 4"):
        advance(store, 1, "STAGING", "CANDIDATE", expected_seq=4)
    assert steps(store) == [(1, None, "CANDIDATE")]


def test_the_same_decision_moves_a_version_to_a_stage_once(store: Engine) -> None:
    first = advance(store, 1, "CANDIDATE", None, "d1")
    assert advance(store, 1, "CANDIDATE", None, "d1", reason="again", expected_seq=0) == first
    advance(store, 1, "STAGING", "CANDIDATE", "d1")
    assert advance(store, 1, "CANDIDATE", None, "d1") == first
    assert lifecycle.stage_of(store, "churn", 1) == "STAGING"


def test_what_was_put_away_comes_back_by_a_person_or_a_rollback_alone(store: Engine) -> None:
    served(store, 1, "d1")
    advance(store, 1, "ARCHIVED", "PRODUCTION", "d2")
    with pytest.raises(RegistryError, match=r"from ARCHIVED to PRODUCTION by the gate.*approve it by hand"):
        advance(store, 1, "PRODUCTION", "ARCHIVED", "d3")
    advance(store, 1, "PRODUCTION", "ARCHIVED", "d4", by="rollback")
    advance(store, 1, "ARCHIVED", "PRODUCTION", "d5")
    advance(store, 1, "PRODUCTION", "ARCHIVED", "d6", by="person")
    assert lifecycle.production(store) == {"churn": 1}


def test_of_many_who_saw_the_same_stage_one_moves_it(store: Engine) -> None:
    advance(store, 1, "CANDIDATE", None)
    start, won, lost = threading.Barrier(8), [], []

    def race(number: int) -> None:
        start.wait()
        try:
            won.append(advance(store, 1, "STAGING", "CANDIDATE", f"d{number}"))
        except RegistryError as err:
            lost.append(str(err))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert all("version 1 at STAGING" in message for message in lost)
    assert steps(store) == [(1, None, "CANDIDATE"), (1, "CANDIDATE", "STAGING")]


def test_a_promotion_puts_the_new_one_up_before_the_old_one_is_put_away(store: Engine) -> None:
    served(store, 1, "d1")
    advance(store, 2, "CANDIDATE", None, "d2")
    assert promote(store, 2, "d2") == {1, 2}
    assert steps(store)[-3:] == [
        (2, "CANDIDATE", "STAGING"),
        (2, "STAGING", "PRODUCTION"),
        (1, "PRODUCTION", "ARCHIVED"),
    ]
    before = steps(store)
    promote(store, 2, "d2")
    assert steps(store) == before


def test_production_names_the_one_version_of_each_model(store: Engine) -> None:
    served(store, 1, "d1")
    promote(store, 2, "d2")
    why = {"actor": "gate", "reason": "first", "decision_id": "x", "at": T0}
    for old, new in ((None, "CANDIDATE"), ("CANDIDATE", "STAGING"), ("STAGING", "PRODUCTION")):
        lifecycle.advance(store, "fraud", 1, new, expected_stage=old, **why)  # type: ignore[arg-type]
    lifecycle.advance(store, "spam", 1, "CANDIDATE", expected_stage=None, **why)  # type: ignore[arg-type]
    assert lifecycle.production(store) == {"churn": 2, "fraud": 1}


def test_two_versions_in_production_are_an_error_not_an_answer(store: Engine) -> None:
    served(store, 1, "d1")
    served(store, 2, "d2")
    with pytest.raises(RegistryError, match=r"versions . and . in production"):
        lifecycle.production(store)


def test_a_store_without_stages_is_taken_over_in_the_words_of_its_ledger(store: Engine) -> None:
    told(store, ("promoted", None, 1), ("kept", 1, 2), ("promoted", 1, 3))
    told(store, ("waiting", 3, 4), ("skipped", 3, None))
    with writing(store) as connection:
        assert succession.catch_up(connection, "churn") == {1, 2, 3, 4}
    assert lifecycle.stages(store, "churn") == {1: "ARCHIVED", 2: "ARCHIVED", 3: "PRODUCTION", 4: "STAGING"}
    last = lifecycle.moves(store, "churn", 1)[-1]  # put away by the promotion of version 3
    assert (last.to_stage, last.decision_id, last.at) == ("ARCHIVED", "old2", T0 + timedelta(days=2))
    with writing(store) as connection:
        assert succession.catch_up(connection, "churn") == set()
    promote(store, 5)
    assert lifecycle.production(store) == {"churn": 5}
    assert lifecycle.stage_of(store, "churn", 3) == "ARCHIVED"


def test_what_an_older_release_did_since_is_caught_up_with(store: Engine) -> None:
    told(store, ("promoted", None, 1), ("promoted", 1, 2))
    with writing(store) as connection:
        succession.catch_up(connection, "churn")
    for decision, action, version in (("x", "rolled_back", 1), ("y", "refused", 3)):
        ledger.record(
            store, model="churn", decision_id=decision, action=action, from_version=2, to_version=version,
            actor="bob", reason="by an older release", at=T0,
        )  # fmt: skip
    assert lifecycle.production(store) == {"churn": 2}
    with writing(store) as connection:
        assert succession.catch_up(connection, "churn") == {1, 2, 3}
    assert lifecycle.stages(store, "churn") == {1: "PRODUCTION", 2: "ARCHIVED", 3: "ARCHIVED"}


@pytest.mark.parametrize(
    ("stands", "filed_as", "ends"),
    [
        (None, "CANDIDATE", "CANDIDATE"),
        (None, "STAGING", "STAGING"),
        (None, "ARCHIVED", "ARCHIVED"),
        ("STAGING", "CANDIDATE", "STAGING"),
        ("STAGING", "ARCHIVED", "ARCHIVED"),
        ("ARCHIVED", "STAGING", "ARCHIVED"),
        ("PRODUCTION", "ARCHIVED", "PRODUCTION"),
    ],
)
def test_filing_goes_onward_only_and_never_touches_what_serves(
    store: Engine, stands: Any, filed_as: Any, ends: str
) -> None:
    with writing(store) as connection:
        if stands:
            lifecycle.lead(connection, "churn", 1, stands, Why("gate", "x", "d1", T0), "gate")
        moved = succession.file(connection, "churn", 1, filed_as, Why("gate", "x", "d2", T0))
    assert lifecycle.stage_of(store, "churn", 1) == ends
    assert moved == (set() if ends == stands else {1})
