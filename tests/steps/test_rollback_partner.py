"""Undoing a second opinion: the last change first, once per wish, and never the rule's again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tasks import rollback as going_back
from tasks.core.errors import PromotionRefused
from tasks.core.model.bundle import MODEL
from tasks.core.policy.partners import ServingPair, withdrawn_partners
from tasks.probation import guard_files
from tasks.rollback import RollbackPlan, RolledBack
from tasks.settings import Settings
from tasks.store import ledger, registry
from tasks.store.agreed import serving_pair_now
from tasks.store.engine import open_store
from tests.steps.test_partner import DAY, NAME, partnered
from tests.versions import LATER, SPEC_, Made, a_version, files_of, moved

NOW = LATER + 6 * DAY
MINUTE = timedelta(minutes=1)


@pytest.fixture
def three(made: Made, place: Settings) -> Settings:
    """Return a place where versions 1 and 2 served and 3 serves."""
    for number in (1, 2, 3):
        moved(a_version(made, place, f"a{number}"), place, f"d{number}", as_of=LATER + number * DAY)
    return place


def plan(place: Settings, to_version: int | None = None, at: datetime = NOW, **over: Any) -> RollbackPlan:
    return going_back.plan_rollback.fn(SPEC_, to_version, as_of=at, settings=place, **over)


def go(place: Settings, to_version: int | None = None, at: datetime = NOW, actor: str = "ann") -> RolledBack:
    planned = plan(place, to_version, at, actor=actor, reason="complaints", dry_run=False)
    return going_back.roll_back.fn(SPEC_, planned, actor=actor, reason="complaints", as_of=at, settings=place)


def pair(place: Settings) -> ServingPair:
    return serving_pair_now(open_store(place), NAME)


def rows(place: Settings) -> list[ledger.LedgerRow]:
    return ledger.history(open_store(place), NAME)


def test_a_rollback_undoes_the_partner_and_then_the_champion(three: Settings) -> None:
    partnered(three, 1)
    look = plan(three)
    assert (look.undoes_partner, look.from_partner, look.to_partner) == (True, 1, None)
    assert pair(three) == ServingPair(3, 1)
    ended = go(three)
    assert (ended.from_version, ended.from_partner, ended.version, ended.partner) == (3, 1, 3, None)
    assert not ended.has_moved_champion
    assert pair(three) == ServingPair(3)
    last = rows(three)[-1]
    assert (last.action, last.to_version, last.partner, last.actor) == ("partnered", 3, None, "ann")
    assert withdrawn_partners(rows(three), 3) == {1}
    ended = go(three, at=NOW + DAY)
    assert (ended.version, ended.has_moved_champion) == (2, True)
    assert pair(three) == ServingPair(2)


def test_an_earlier_partner_comes_back_first(three: Settings) -> None:
    partnered(three, 1)
    partnered(three, 2, "p2", as_of=LATER + 5 * DAY)
    assert (go(three).partner, pair(three)) == (1, ServingPair(3, 1))
    assert (go(three, at=NOW + DAY).partner, pair(three)) == (None, ServingPair(3))
    assert withdrawn_partners(rows(three), 3) == {1, 2}


def test_the_same_words_within_minutes_are_one_rollback_and_others_wait(three: Settings) -> None:
    partnered(three, 1)
    go(three)
    count = len(rows(three))
    again = go(three, at=NOW + MINUTE)
    assert (again.version, again.partner) == (3, None)
    with pytest.raises(PromotionRefused):
        go(three, at=NOW + MINUTE, actor="bob")
    assert len(rows(three)) == count
    assert pair(three) == ServingPair(3)


def test_one_plan_of_two_people_makes_one_row(three: Settings) -> None:
    partnered(three, 1)
    plans = [plan(three, actor=who, reason="complaints", dry_run=False) for who in ("ann", "bob")]
    for who, planned in zip(("ann", "bob"), plans, strict=True):
        going_back.roll_back.fn(SPEC_, planned, actor=who, reason="c", as_of=NOW, settings=three)
    assert [row.actor for row in rows(three) if row.action == "partnered"] == ["second opinion", "ann"]


def test_a_rollback_to_a_named_version_ends_the_partnership(three: Settings) -> None:
    partnered(three, 2)
    ended = go(three, 1)
    assert (ended.from_partner, ended.version, ended.partner) == (2, 1, None)
    assert pair(three) == ServingPair(1)
    with pytest.raises(PromotionRefused):
        go(three, 1, at=NOW + DAY)


def test_the_champion_named_answers_alone(three: Settings) -> None:
    partnered(three, 2)
    assert not go(three, 3).has_moved_champion
    assert pair(three) == ServingPair(3)


def test_a_plan_is_refused_when_the_champion_moved_meanwhile(made: Made, three: Settings) -> None:
    partnered(three, 2)
    planned = plan(three, actor="ann", reason="complaints", dry_run=False)
    moved(a_version(made, three, "a4"), three, "d4", as_of=NOW)
    with pytest.raises(PromotionRefused):
        going_back.roll_back.fn(SPEC_, planned, actor="ann", reason="complaints", as_of=NOW, settings=three)
    assert pair(three) == ServingPair(4)


def test_a_broken_champion_goes_back_by_itself_and_its_partner_leaves(three: Settings) -> None:
    partnered(three, 1)
    (files_of(registry.find_version(NAME, 3, settings=three)) / MODEL).write_bytes(b"other")
    guarded = guard_files.fn(SPEC_, as_of=NOW, settings=three)
    assert (guarded.action, guarded.from_version, guarded.version) == ("rolled back", 3, 2)
    assert pair(three) == ServingPair(2)
