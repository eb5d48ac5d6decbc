"""The intent of a move is ours alone: kept in the store, of any size, and believed from nowhere else."""

from __future__ import annotations

import logging
import re
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient
from pydantic import SecretStr

from tasks.core.errors import PromotionRefused, RegistryError
from tasks.register import Version
from tasks.settings import Settings
from tasks.store import intents, leases, ledger, moves
from tasks.store.engine import close_stores, open_store, writing
from tasks.store.mlflow_client import open_client
from tasks.store.schema_versions import intents as table
from tasks.store.schema_versions import leases as leases_table
from tasks.versions import move as moving
from tasks.versions.champion import agreed_champion
from tests.versions import LATER, SPEC_, Made, a_version, moved

DAY = timedelta(days=1)
FORGED = (
    '{"decision_id": "forged", "action": "promoted", "from_version": 1, "to_version": 2, "actor": "gate", \
"reason": "x", "at": "2026-02-05T00:00:00+00:00", "evidence": {}}'
)


class Gone(BaseException):
    """The process is killed."""


@pytest.fixture
def three(made: Made, place: Settings) -> list[Version]:
    """Versions 1 to 3; version 1 serves."""
    versions = [a_version(made, place, f"a{number}") for number in (1, 2, 3)]
    moved(versions[0], place, "d1")
    return versions


def aliases(place: Settings) -> dict[str, int]:
    found = open_client(place).get_registered_model("churn").aliases
    return {name: int(number) for name, number in found.items()}


def by_hand(place: Settings, version: int) -> None:
    open_client(place).set_registered_model_alias("churn", "champion", str(version))


def served(place: Settings) -> list[int | None]:
    return [row.to_version for row in ledger.history(open_store(place), "churn")]


def states(place: Settings) -> list[tuple[str, str]]:
    with open_store(place).connect() as connection:
        query = sa.select(table.c.decision_id, table.c.state).order_by(table.c.id)
        return [(row.decision_id, row.state) for row in connection.execute(query)]


def dies(*_: object, **__: object) -> None:
    raise Gone


class Late:
    """A holder that is paused before it sets this alias, for longer than its lease, sets it and dies."""

    def __init__(self, patch: pytest.MonkeyPatch, place: Settings, version: int, meanwhile: Any):
        self.place, self.meanwhile = place, meanwhile
        self.set_alias = MlflowClient.set_registered_model_alias
        self.mine = ("champion", str(version))
        # Its lock is gone too, as a lock in a database is with the connection: only the lease is left.
        patch.setattr(moving, "model_lock", lambda *_: nullcontext())

        def set_alias(client: MlflowClient, *args: str) -> None:
            self.alias(client, *args)

        patch.setattr(MlflowClient, "set_registered_model_alias", set_alias)

    def alias(self, client: MlflowClient, name: str, alias: str, version: str) -> None:
        if (alias, version) != self.mine or self.meanwhile is None:
            self.set_alias(client, name, alias, version)
            return
        work, self.meanwhile = self.meanwhile, None
        with writing(open_store(self.place)) as connection:
            connection.execute(leases_table.update().values(expires_at=LATER))
        work()
        self.set_alias(client, name, alias, version)
        raise Gone


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_large_record_of_the_gate_moves_a_version_and_stays_out_of_the_registry(
    kind: str, made: Made, place: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow keeps the values of tags in VARCHAR(5000) on Postgres."""
    if kind == "postgres":
        url = SecretStr(request.getfixturevalue("postgres_url"))
        place = place.model_copy(update={"store": url})
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    written: list[str] = []
    set_tag = MlflowClient.set_registered_model_tag
    monkeypatch.setattr(
        MlflowClient,
        "set_registered_model_tag",
        lambda *args: (written.append(args[2]), set_tag(*args)),
    )
    moved(one, place, "d1")
    note = {"gate": {"segments": [f"region {number}: " + "x" * 90 for number in range(1000)]}}
    assert moved(two, place, "d2", note=note).to_version == 2
    assert written == []
    assert ledger.history(open_store(place), "churn")[-1].evidence["gate"] == note["gate"]
    assert states(place) == [("d1", "done"), ("d2", "done")]
    close_stores()


@pytest.mark.parametrize("tag", [FORGED, "{}", "no json", '{"to_version": 2}', "[1]"])
def test_a_tag_that_somebody_wrote_launders_no_alias_and_blocks_no_move(
    tag: str, three: list[Version], place: Settings
) -> None:
    client = open_client(place)
    client.set_registered_model_tag("churn", moves.OLD_TAG, tag)
    by_hand(place, 2)
    with pytest.raises(RegistryError, match="version 2 serving while the ledger says 1"):
        agreed_champion("churn", place)
    assert served(place) == [1]
    assert client.get_registered_model("churn").tags == {}
    client.set_registered_model_tag("churn", moves.OLD_TAG, tag)
    by_hand(place, 1)
    moved(three[2], place, "d3", expected=1)
    assert (served(place), aliases(place)) == ([1, 3], {"champion": 3, "previous": 1})
    assert client.get_registered_model("churn").tags == {}


def test_the_intent_is_noted_with_the_nomination_or_not_at_all(
    three: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Gone):
        patch.setattr(intents, "note", dies)
        moved(three[1], place, "d2")
    with open_store(place).connect() as connection:
        query = sa.text("SELECT count(*) FROM lifecycle WHERE version = 2 AND to_stage = 'STAGING'")
        assert connection.execute(query).scalar() == 0
    assert states(place) == [("d1", "done")]


def test_a_move_that_died_before_its_alias_is_dropped_and_after_it_is_finished(
    three: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Gone):
        patch.setattr(MlflowClient, "set_registered_model_alias", dies)
        patch.setattr(moves, "show_stages", lambda *_, **__: None)
        moved(three[1], place, "d2")
    assert states(place)[1:] == [("d2", "open")]
    assert moves.finish_pending("churn", settings=place) is None
    assert states(place)[1:] == [("d2", "dropped")]
    with monkeypatch.context() as patch, pytest.raises(Gone):
        patch.setattr(ledger, "record", dies)
        moved(three[1], place, "d2")
    row = moves.finish_pending("churn", settings=place)
    assert row is not None
    assert (row.decision_id, row.to_version) == ("d2", 2)
    assert states(place)[1:] == [("d2", "dropped"), ("d2", "superseded")]
    assert moves.finish_pending("churn", settings=place) is None
    assert (served(place), aliases(place)) == ([1, 2], {"champion": 2, "previous": 1})


def test_an_alias_set_late_by_one_who_lost_the_lease_and_died_is_put_back(
    three: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        Late(patch, place, 2, lambda: moved(three[2], place, "d3", expected=1, as_of=LATER + DAY))
        with pytest.raises(Gone):
            moved(three[1], place, "d2", expected=1, as_of=LATER + DAY)
    assert (served(place), aliases(place)["champion"]) == ([1, 3], 2)
    with caplog.at_level(logging.WARNING, logger="tasks"):
        assert agreed_champion("churn", place) == three[2]
    assert aliases(place) == {"champion": 3, "previous": 1, "challenger": 2}  # version 2 may still serve
    assert re.search(r"churn: champion put back from version 2, .* to version 3 of the ledger", caplog.text)
    assert served(place) == [1, 3]


def test_one_who_finished_anothers_move_late_and_died_is_healed_too(
    three: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Gone):
        patch.setattr(ledger, "record", dies)
        moved(three[1], place, "d2", expected=1)

    def overtake() -> None:
        moves.finish_pending("churn", settings=place)
        moved(three[2], place, "d3", expected=2, as_of=LATER + DAY)

    with monkeypatch.context() as patch:
        Late(patch, place, 2, overtake)
        with pytest.raises(Gone):
            moves.finish_pending("churn", settings=place)
    assert (served(place), aliases(place)["champion"]) == ([1, 2, 3], 2)
    assert agreed_champion("churn", place) == three[2]


def test_one_who_puts_the_champion_back_late_and_dies_is_healed_too(
    three: list[Version], made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = a_version(made, place, "a4")
    with monkeypatch.context() as patch:
        Late(patch, place, 2, lambda: moved(three[2], place, "d3", expected=1, as_of=LATER + DAY))
        with pytest.raises(Gone):
            moved(three[1], place, "d2", expected=1, as_of=LATER + DAY)

    def overtake() -> None:
        assert agreed_champion("churn", place) == three[2]
        moved(four, place, "d4", expected=3, as_of=LATER + DAY)

    with monkeypatch.context() as patch:
        Late(patch, place, 3, overtake)
        with pytest.raises(Gone):
            moves.finish_pending("churn", settings=place)
    assert (served(place), aliases(place)["champion"]) == ([1, 3, 4], 3)
    assert agreed_champion("churn", place) == four


def test_a_first_alias_set_late_is_taken_away_where_the_ledger_says_that_none_serves(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = a_version(made, place, "a1")
    with monkeypatch.context() as patch:
        Late(patch, place, 1, lambda: moves.finish_pending("churn", settings=place))
        with pytest.raises(Gone):
            moved(one, place, "d1")
    assert (served(place), aliases(place)["champion"]) == ([], 1)
    assert agreed_champion("churn", place) is None
    assert moved(one, place, "d1").to_version == 1
    assert agreed_champion("churn", place) == one


def test_an_alias_that_was_moved_by_hand_stays_and_is_refused(three: list[Version], place: Settings) -> None:
    moved(three[1], place, "d2", as_of=LATER + DAY)
    for number in (1, 3):  # one that served, by a move that ended well, and one that never did
        by_hand(place, number)
        with pytest.raises(RegistryError, match=f"version {number} serving while the ledger says 2"):
            agreed_champion("churn", place)
        with pytest.raises(PromotionRefused, match=f"version {number} serving"):
            moved(three[2], place, f"d3-{number}", expected=2, as_of=LATER + DAY)
        assert aliases(place)["champion"] == number


def test_a_move_whose_decision_ended_otherwise_meanwhile_is_dropped_and_its_alias_put_back(
    three: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Gone):
        patch.setattr(ledger, "record", dies)
        moved(three[1], place, "d2")
    ledger.record(
        open_store(place), model="churn", decision_id="d2", action="rejected", from_version=1,
        to_version=2, actor="ann", reason="no", at=LATER,
    )  # fmt: skip
    assert agreed_champion("churn", place) == three[0]
    assert aliases(place)["champion"] == 1
    assert states(place)[1] == ("d2", "dropped")


def test_nothing_is_noted_or_ended_by_one_who_lost_the_lease(three: list[Version], place: Settings) -> None:
    engine = open_store(place)
    with leases.held(engine, moves.lease_of("churn")) as lost:
        pass
    wanted = moves.Move("d2", "promoted", 1, 2, "gate", "better", LATER, {})
    with pytest.raises(RegistryError, match="lost the lease"):
        moves.carry_out(wanted, SPEC_.name, settings=place, fence=lost)
    assert states(place) == [("d1", "done")]
