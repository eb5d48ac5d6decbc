"""A person's word on a version: once, signed, about the champion it was compared with, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tasks import approve as approving
from tasks.core.errors import PromotionRefused, RegistryError, SpecError
from tasks.core.model.bundle import GOLDEN
from tasks.core.policy.approval import SILENCE, is_by_hand
from tasks.core.window import Window
from tasks.register import Version
from tasks.settings import Settings
from tasks.store import ledger, moves, registry
from tasks.store.engine import open_store
from tasks.store.evidence import _futile, gather
from tasks.store.mlflow_client import open_client
from tasks.versions.ruling import Ruling
from tests.versions import LATER, SPEC_, Made, a_version, files_of, moved

HOUR = timedelta(hours=1)
ANN = {"actor": "ann", "reason": "checked with sales"}


def waits(version: Version, place: Settings, against: int | None, at: datetime = LATER) -> None:
    """Let the version wait, as an attempt to retrain ends under manual promotion."""
    ledger.record(
        open_store(place),
        model=SPEC_.name,
        decision_id=f"train-decay-{version.number:016d}",
        action="waiting",
        from_version=against,
        to_version=version.number,
        actor="retrain",
        reason="better than the champion by 0.02",
        at=at,
    )


@pytest.fixture
def two(made: Made, place: Settings) -> tuple[Version, Version]:
    """Version 1 serves, version 2 waits."""
    one, second = a_version(made, place, "a1"), a_version(made, place, "a2")
    moved(one, place, "d1", expected=None)
    waits(second, place, 1)
    return one, second


def approve(place: Settings, version: int | None = 2, at: datetime = LATER + HOUR, **over: Any) -> Ruling:
    return approving.approve.fn(SPEC_, version, as_of=at, settings=place, **{**ANN, **over})


def reject(place: Settings, version: int | None = 2, at: datetime = LATER + HOUR, **over: Any) -> Ruling:
    return approving.reject.fn(SPEC_, version, as_of=at, settings=place, **{**ANN, **over})


def expire(place: Settings, at: datetime) -> approving.Expired:
    return approving.expire_approvals.fn(SPEC_, at, settings=place)


def serving(place: Settings) -> int | None:
    found = registry.find_champion(SPEC_.name, settings=place)
    return found.number if found else None


def rulings(place: Settings) -> list[tuple[str, str, int | None, str]]:
    rows = [row for row in ledger.history(open_store(place), SPEC_.name) if is_by_hand(row.decision_id)]
    return [(row.decision_id, row.action, row.to_version, row.actor) for row in rows]


def test_approving_what_waits_makes_it_the_champion_under_the_persons_name(
    two: tuple[Version, Version], place: Settings
) -> None:
    ruling = approve(place)
    assert (ruling.action, ruling.version, ruling.from_version, ruling.actor) == ("promoted", 2, 1, "ann")
    assert (ruling.digest, ruling.left, ruling.is_news) == (two[1].digest, (), True)
    assert serving(place) == 2
    assert rulings(place) == [("approval-v2", "promoted", 2, "ann")]
    row = ledger.find(open_store(place), SPEC_.name, "approval-v2")
    assert row is not None
    assert row.reason == "checked with sales"
    assert row.evidence["asked"] == {**ANN, "verdict": "approve"}
    assert row.evidence["waited_as"] == "train-decay-0000000000000002"
    assert row.evidence["gate"]["outcome"] == "promote"


def test_the_same_words_said_again_change_nothing_and_say_who_decided(
    two: tuple[Version, Version], place: Settings
) -> None:
    approve(place)
    again = approve(place, 2)
    assert (again.action, again.is_news) == ("promoted", False)
    assert again.sentence() == "already promoted version 2 by ann: checked with sales"
    assert len(rulings(place)) == 1


@pytest.mark.parametrize("rule", [approve, reject])
def test_no_version_is_refused_by_the_fields_name_with_what_waits(
    rule: Callable[..., Ruling], two: tuple[Version, Version], made: Made, place: Settings
) -> None:
    waits(a_version(made, place, "a3"), place, 1)
    with pytest.raises(SpecError) as caught:
        rule(place, None)
    assert caught.value.found == "version: nothing"
    assert caught.value.expected == "the number of the version that is meant; waiting: 2, 3"
    assert (rulings(place), serving(place)) == ([], 1)
    approve(place, 3)
    reject(place, 2)
    with pytest.raises(SpecError, match="nothing waits"):
        rule(place, None)


def test_the_same_words_twice_never_reach_a_version_that_they_do_not_name(
    two: tuple[Version, Version], made: Made, place: Settings
) -> None:
    waits(a_version(made, place, "a3"), place, 99)  # compared with one that does not serve
    assert [approve(place, 3).is_news for _ in range(2)] == [True, False]
    assert rulings(place) == [("approval-v3", "refused", 3, "ann")]
    assert [reject(place, 2).is_news for _ in range(2)] == [True, False]
    assert [row[0] for row in rulings(place)] == ["approval-v3", "approval-v2"]
    assert serving(place) == 1


def test_the_same_words_under_another_verdict_are_another_wish(
    two: tuple[Version, Version], place: Settings
) -> None:
    reject(place)
    ruling = approve(place, at=LATER + 2 * HOUR)
    assert (ruling.action, ruling.is_news, serving(place)) == ("promoted", True, 2)
    assert [row[1] for row in rulings(place)] == ["rejected", "promoted"]


@pytest.mark.parametrize("rule", [approve, reject])
def test_a_moment_before_the_newest_row_is_refused_and_bypasses_no_check(
    rule: Callable[..., Ruling], two: tuple[Version, Version], made: Made, place: Settings
) -> None:
    moved(a_version(made, place, "a3"), place, "d3", expected=1, as_of=LATER + HOUR)  # version 2 is overtaken
    for moment in (LATER - HOUR, LATER, LATER + HOUR - timedelta(microseconds=1)):
        with pytest.raises(PromotionRefused, match=r"as_of 2026-.* before .*2026-02-04T01:00.*--as-of"):
            rule(place, at=moment)
    assert (rulings(place), serving(place)) == ([], 3)
    with pytest.raises(PromotionRefused, match="as_of"):
        approve(place, 1, at=LATER)  # nor by hand
    assert rule(place, at=LATER + HOUR).action in {"refused", "rejected"}
    assert rule(place, at=LATER).is_news is False  # what was said is only repeated
    assert serving(place) == 3


@pytest.mark.parametrize("field", ["actor", "reason"])
@pytest.mark.parametrize("given", ["", "  "])
@pytest.mark.parametrize("rule", [approve, reject])
def test_nobody_and_no_reason_are_refused_by_the_fields_name(
    rule: Callable[..., Ruling], field: str, given: str, two: tuple[Version, Version], place: Settings
) -> None:
    with pytest.raises(SpecError) as caught:
        rule(place, **{field: given})
    assert caught.value.found == f"{field}: nothing"
    assert (rulings(place), serving(place)) == ([], 1)


def test_a_version_compared_with_another_champion_is_a_recorded_refusal_and_the_champion_stays(
    two: tuple[Version, Version], made: Made, place: Settings
) -> None:
    moved(a_version(made, place, "a3"), place, "d3", expected=1, as_of=LATER + HOUR)
    ruling = approve(place, at=LATER + 2 * HOUR)
    assert (ruling.action, ruling.version) == ("refused", 2)
    assert "found version 3 serving; expected version 1" in ruling.why
    assert (serving(place), rulings(place)) == (3, [("approval-v2", "refused", 2, "ann")])
    # Said again it is the same refusal, not a promotion by hand.
    assert approve(place, 2, at=LATER + 3 * HOUR).action == "refused"
    assert serving(place) == 3
    # A person who knows that and has a reason of their own may still have it.
    by_hand = approve(place, 2, at=LATER + 4 * HOUR, reason="version 3 breaks the app")
    assert (by_hand.action, by_hand.from_version, serving(place)) == ("promoted", 3, 2)
    assert [row[1] for row in rulings(place)] == ["refused", "promoted"]


def test_a_version_that_waited_too_long_counts_as_rejected_even_when_nobody_looked(
    two: tuple[Version, Version], place: Settings
) -> None:
    ruling = approve(place, at=LATER + timedelta(days=3))
    assert (ruling.action, ruling.actor) == ("rejected", SILENCE)
    assert approve(place, 2, at=LATER + timedelta(days=3, hours=1)).action == "rejected"
    assert serving(place) == 1


def test_damaged_files_move_nothing_and_the_version_still_waits(
    two: tuple[Version, Version], place: Settings
) -> None:
    (files_of(two[1]) / GOLDEN).write_bytes(b"x")
    with pytest.raises(RegistryError, match="another digest"):
        approve(place)
    assert (serving(place), rulings(place)) == (1, [])
    assert reject(place).version == 2  # it was there to be rejected


def test_rejecting_keeps_the_champion_and_leaves_the_others_waiting(
    two: tuple[Version, Version], made: Made, place: Settings
) -> None:
    waits(a_version(made, place, "a3"), place, 1)
    ruling = reject(place, 3)
    assert (ruling.action, ruling.version, ruling.left) == ("rejected", 3, (2,))
    assert (serving(place), rulings(place)) == (1, [("approval-v3", "rejected", 3, "ann")])
    again = reject(place, 3, actor="bob")
    assert (again.actor, again.is_news) == ("ann", False)
    assert approve(place).version == 2


def test_what_never_waited_cannot_be_rejected_and_what_was_approved_stays_approved(
    two: tuple[Version, Version], place: Settings
) -> None:
    with pytest.raises(PromotionRefused, match=r"version 1 does not wait.*one of \[2\]"):
        reject(place, 1)
    approve(place)
    late = reject(place, 2, actor="bob")
    assert (late.action, late.actor, serving(place)) == ("promoted", "ann", 2)


def test_any_registered_version_can_be_promoted_by_a_person_with_a_reason(
    two: tuple[Version, Version], made: Made, place: Settings
) -> None:
    a_version(made, place, "a3")
    ruling = approve(place, 3)
    assert (ruling.action, ruling.from_version, serving(place)) == ("promoted", 1, 3)
    assert ruling.attempt.startswith("promotion-v3-")
    assert approve(place, 3).attempt == ruling.attempt  # once
    assert ruling.left == (2,)
    with pytest.raises(RegistryError, match="version 9"):
        approve(place, 9)
    assert approve(place, 3, actor="bob").action == "refused"  # it serves already
    assert len(rulings(place)) == 2


def test_silence_rejects_what_waited_long_enough_and_nothing_else(
    two: tuple[Version, Version], made: Made, place: Settings
) -> None:
    waits(a_version(made, place, "a3"), place, 1, at=LATER + timedelta(days=1))
    just_before = LATER + timedelta(days=3) - timedelta(seconds=1)
    assert expire(place, just_before) == approving.Expired((), (2, 3))
    assert rulings(place) == []
    assert expire(place, LATER + timedelta(days=3)) == approving.Expired((2,), (3,))
    assert expire(place, LATER + timedelta(days=3)) == approving.Expired((), (3,))
    assert rulings(place) == [("approval-v2", "rejected", 2, SILENCE)]
    row = ledger.find(open_store(place), SPEC_.name, "approval-v2")
    assert row is not None
    assert row.reason == "nobody decided within gate.approval (3d), until 2026-02-07 00:00Z"


def test_looking_for_silence_asks_no_registry_while_nothing_is_over(
    two: tuple[Version, Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "open_client", lambda *_: pytest.fail("asked the registry"))
    assert expire(place, LATER + HOUR).left == (2,)


def test_of_many_who_rule_at_once_one_is_heard(
    two: tuple[Version, Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, heard, carry_out = threading.Barrier(6), [], approving._carry_out

    def together(*given: Any) -> Ruling:  # who approves has seen version 2 waiting before anyone is heard
        start.wait(30)
        return carry_out(*given)

    monkeypatch.setattr(approving, "_carry_out", together)

    def say(number: int) -> None:
        if number % 2:
            heard.append(approve(place, 2, actor=f"person {number}"))
        else:
            start.wait(30)
            heard.append(reject(place, 2, actor=f"person {number}"))

    people = [threading.Thread(target=say, args=(number,)) for number in range(6)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    (row,) = rulings(place)
    assert row[0] == "approval-v2"
    assert {(ruling.action, ruling.actor) for ruling in heard} == {(row[1], row[3])}
    assert len(heard) == 6
    assert [ruling.is_news for ruling in heard].count(True) == 1
    assert serving(place) == (2 if row[1] == "promoted" else 1)


def test_an_approval_that_died_half_way_stands_and_a_rejection_comes_too_late(
    two: tuple[Version, Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", dies)
        with pytest.raises(KeyboardInterrupt):
            approve(place)
    assert rulings(place) == []
    late = reject(place, 2, actor="bob")
    assert (late.action, late.actor, serving(place)) == ("promoted", "ann", 2)
    assert rulings(place) == [("approval-v2", "promoted", 2, "ann")]
    assert open_client(place).get_registered_model(SPEC_.name).tags == {}


def test_a_persons_word_is_no_retraining_and_what_was_rejected_was_futile(
    two: tuple[Version, Version], made: Made, place: Settings
) -> None:
    engine, span = open_store(place), Window.ending(LATER, SPEC_.window.check)

    def trainings() -> int:
        return len(gather(engine, SPEC_, LATER + timedelta(days=2), span, version=1).retrainings)

    before = trainings()
    reject(place)
    rows = ledger.history(engine, SPEC_.name)
    assert _futile(rows, "decay", SPEC_, LATER + timedelta(days=2)) == 1
    a_version(made, place, "a3")
    approve(place, 3)
    assert trainings() == before
    rows = ledger.history(engine, SPEC_.name)
    assert _futile(rows, "decay", SPEC_, LATER + timedelta(days=2)) == 0  # a promotion starts the count anew
