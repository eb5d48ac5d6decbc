"""A second version beside the champion: set, refused, recorded, found again."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import Any

import pytest

from tasks.core.errors import PromotionRefused, RegistryError
from tasks.core.policy.partners import ServingPair
from tasks.history.janitor import clean_up
from tasks.register import champion
from tasks.settings import Settings
from tasks.store import ledger, registry
from tasks.store.agreed import serving_now, serving_pair_now
from tasks.store.engine import open_store
from tasks.versions.partner import set_partner
from tests.versions import LATER, SPEC_, Made, a_version, files_of, fresh, made, moved, place

__all__ = ["fresh", "made", "place"]

NAME = SPEC_.name
DAY = timedelta(days=1)


def partnered(place: Settings, partner: int | None, decision: str = "p1", **over: Any) -> ledger.LedgerRow:
    known: dict[str, Any] = {
        **{"champion": 3, "actor": "second opinion", "reason": "ahead on the newest labels"},
        **{"decision_id": decision, "as_of": LATER + 4 * DAY, "settings": place},
        **over,
    }
    return set_partner(SPEC_, partner, **known)


@pytest.fixture
def three(made: Made, place: Settings) -> Settings:
    """Return a place where versions 1 and 2 served and 3 serves; 4 never did."""
    for number in (1, 2, 3, 4):
        version = a_version(made, place, f"a{number}")
        if number < 4:
            moved(version, place, f"d{number}", as_of=LATER + number * DAY)
    return place


def pair(place: Settings) -> ServingPair:
    return serving_pair_now(open_store(place), NAME)


def test_a_partner_is_recorded_and_the_champion_stays(three: Settings) -> None:
    row = partnered(three, 1, note={"loss": 0.2})
    assert (row.action, row.from_version, row.to_version, row.partner) == ("partnered", 3, 3, 1)
    assert row.evidence["loss"] == 0.2
    assert row.evidence["partner"]["digest"]
    assert pair(three) == ServingPair(3, 1)
    assert serving_now(open_store(three), NAME) == 3
    found = champion.fn(NAME, settings=three)
    assert found is not None and found.partner is not None
    assert (found.version, found.partner.version, found.partner_trouble) == (3, 1, "")
    assert found.partner.classes == found.classes


def test_the_same_decision_counts_once_and_the_same_partner_is_no_move(three: Settings) -> None:
    first = partnered(three, 1)
    assert partnered(three, 1) == first
    assert partnered(three, 1, "p2") == first
    assert [row.action for row in ledger.history(open_store(three), NAME)].count("partnered") == 1
    with pytest.raises(RegistryError):
        partnered(three, 2)


def test_alone_already_is_no_move(three: Settings) -> None:
    assert partnered(three, None).action == "promoted"
    assert len(ledger.history(open_store(three), NAME)) == 3


def test_a_new_champion_ends_the_partnership(made: Made, three: Settings) -> None:
    partnered(three, 2)
    moved(a_version(made, three, "a5"), three, "d5", as_of=LATER + 6 * DAY)
    assert pair(three) == ServingPair(5)
    at = {day: ledger.pair_at(open_store(three), NAME, LATER + day * DAY) for day in (0, 3, 4, 5, 6)}
    assert at == {
        0: ServingPair(None),
        3: ServingPair(3),
        4: ServingPair(3, 2),
        5: ServingPair(3, 2),
        6: ServingPair(5),
    }


def test_a_partner_leaves(three: Settings) -> None:
    partnered(three, 2)
    row = partnered(three, None, "p2", as_of=LATER + 5 * DAY)
    assert (row.action, row.to_version, row.partner) == ("partnered", 3, None)
    assert pair(three) == ServingPair(3)


@pytest.mark.parametrize("number", [3, 4])
def test_the_champion_and_what_never_served_are_refused(three: Settings, number: int) -> None:
    with pytest.raises(PromotionRefused):
        partnered(three, number)
    assert pair(three) == ServingPair(3)


def test_a_decision_about_another_champion_is_refused(three: Settings) -> None:
    with pytest.raises(PromotionRefused):
        partnered(three, 1, champion=2)


def test_what_was_rolled_back_from_is_refused(three: Settings) -> None:
    moved(registry.find_version(NAME, 2, settings=three), three, "r", action="rolled_back", actor="ann")
    with pytest.raises(PromotionRefused):
        partnered(three, 3, champion=2)
    assert partnered(three, 1, champion=2).partner == 1


def test_what_was_rejected_after_it_served_is_refused(three: Settings) -> None:
    ledger.record(
        open_store(three), model=NAME, decision_id="no", action="rejected", from_version=3, to_version=1,
        actor="ann", reason="biased", at=LATER + 3 * DAY,
    )  # fmt: skip
    with pytest.raises(PromotionRefused):
        partnered(three, 1)
    assert partnered(three, 2).partner == 2


def test_a_damaged_version_is_refused(three: Settings) -> None:
    files = files_of(registry.find_version(NAME, 1, settings=three))
    (files / "golden.parquet").write_bytes(b"other")
    with pytest.raises(RegistryError):
        partnered(three, 1)
    assert pair(three) == ServingPair(3)


def test_a_partner_damaged_later_leaves_the_champion_alone(three: Settings) -> None:
    partnered(three, 1)
    version = registry.find_version(NAME, 1, settings=three)
    (files_of(version) / "model.skops").write_bytes(b"other")
    shutil.rmtree(three.root / "versions" / version.digest, ignore_errors=True)
    found = champion.fn(NAME, settings=three)
    assert found is not None
    assert (found.version, found.partner) == (3, None)
    assert found.partner_trouble.startswith("version 1 ")


def test_putting_away_what_was_left_behind_touches_no_partner(three: Settings) -> None:
    partnered(three, 1)
    clean_up(NAME, three, now=LATER + 4000 * DAY, apply=True)
    found = champion.fn(NAME, settings=three)
    assert found is not None and found.partner is not None
    assert (found.version, found.partner.version) == (3, 1)
    for number in (1, 2, 3):
        assert (files_of(registry.find_version(NAME, number, settings=three)) / "manifest.json").is_file()
