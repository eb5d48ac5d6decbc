"""Registry, ledger and stages tell one story of what waits, of what is put away, and of moves that lag."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from tasks.core.errors import PromotionRefused, RegistryError
from tasks.register import Version
from tasks.settings import Settings
from tasks.store import ledger, lifecycle
from tasks.store.engine import open_store, writing
from tasks.store.mirror import TAG_STAGE
from tasks.store.mlflow_client import open_client
from tasks.store.moves import OLD_TAG, Move
from tasks.store.schema_versions import leases
from tasks.store.schema_versions import lifecycle as lifecycle_table
from tasks.versions import move as moving
from tasks.versions.champion import agreed_champion
from tasks.versions.filing import file_version
from tests.versions import LATER, SPEC_, Made, a_version, moved

DAY = timedelta(days=1)


def filed(place: Settings, version: int | None, action: str, decision: str = "f1") -> str | None:
    told = {"actor": "gate", "reason": "so it is", "decision_id": decision, "as_of": LATER}
    return file_version.fn(SPEC_, version, action, **told, settings=place)


def aliases(place: Settings) -> dict[str, int]:
    found = open_client(place).get_registered_model("churn").aliases
    return {name: int(number) for name, number in found.items()}


def shown(place: Settings) -> dict[int, str]:
    found = open_client(place).search_model_versions("name = 'churn'")
    return {int(one.version): one.tags[TAG_STAGE] for one in found if TAG_STAGE in one.tags}


def stages(place: Settings) -> dict[int, str]:
    return dict(lifecycle.stages(open_store(place), "churn"))


def served(place: Settings) -> list[tuple[str, int | None, str]]:
    rows = ledger.history(open_store(place), "churn")
    return [(row.action, row.to_version, row.decision_id) for row in rows]


@pytest.fixture
def four(made: Made, place: Settings) -> list[Version]:
    """Versions 1 to 4; version 1 serves."""
    versions = [a_version(made, place, f"a{number}") for number in (1, 2, 3, 4)]
    moved(versions[0], place, "d1")
    return versions


def test_what_waits_is_the_challenger_until_it_serves_or_is_put_away(
    four: list[Version], place: Settings
) -> None:
    assert filed(place, 2, "waiting", "d2") == "STAGING"
    assert filed(place, 3, "waiting", "d3") == "STAGING"
    assert aliases(place) == {"champion": 1, "challenger": 3}
    assert filed(place, 3, "rejected", "no3") == "ARCHIVED"
    assert aliases(place) == {"champion": 1, "challenger": 2}
    moved(four[1], place, "d2", actor="ann", as_of=LATER + DAY)
    assert aliases(place) == {"champion": 2, "previous": 1}
    assert stages(place) == shown(place) | stages(place)
    assert {number: stages(place)[number] for number in (1, 2, 3)} == {
        1: "ARCHIVED",
        2: "PRODUCTION",
        3: "ARCHIVED",
    }
    row = lifecycle.moves(open_store(place), "churn", 3)[-1]
    assert (row.actor, row.reason, row.decision_id, row.at) == ("gate", "so it is", "no3", LATER)


def test_filing_again_or_late_changes_nothing(four: list[Version], place: Settings) -> None:
    assert filed(place, None, "skipped") is None
    assert filed(place, 2, "kept") == filed(place, 2, "kept") == "ARCHIVED"
    assert filed(place, 2, "waiting", "late") == "ARCHIVED"
    assert filed(place, 1, "refused", "late") == "PRODUCTION"  # it serves, whatever an attempt came to
    assert filed(place, 4, "registered", "a4") == "CANDIDATE"
    before = lifecycle.moves(open_store(place), "churn")
    assert filed(place, 2, "kept") == "ARCHIVED"
    assert lifecycle.moves(open_store(place), "churn") == before
    assert {number: shown(place)[number] for number in (1, 2, 4)} == {
        1: "PRODUCTION",
        2: "ARCHIVED",
        4: "CANDIDATE",
    }


def test_the_gate_brings_back_nothing_that_was_put_away_and_a_person_may(
    four: list[Version], place: Settings
) -> None:
    filed(place, 2, "kept", "d2")
    before = served(place)
    with pytest.raises(
        PromotionRefused, match="version 2 to be moved from ARCHIVED to PRODUCTION by the gate"
    ):
        moved(four[1], place, "d3")
    assert (aliases(place), served(place)) == ({"champion": 1}, before)
    assert open_client(place).get_registered_model("churn").tags == {}
    moved(four[1], place, "d4", actor="ann")
    assert aliases(place) == {"champion": 2, "previous": 1}
    assert [step.to_stage for step in lifecycle.moves(open_store(place), "churn", 2)] == [
        "CANDIDATE",
        "ARCHIVED",
        "PRODUCTION",
    ]


def test_a_store_older_than_the_stages_is_taken_over_by_the_next_move(
    four: list[Version], place: Settings
) -> None:
    moved(four[1], place, "d2")
    engine = open_store(place)
    with writing(engine) as connection:
        connection.execute(lifecycle_table.delete())
    moved(four[2], place, "d3", expected=2)
    assert {number: stages(place)[number] for number in (1, 2, 3)} == {
        1: "ARCHIVED",
        2: "ARCHIVED",
        3: "PRODUCTION",
    }
    assert lifecycle.production(engine) == {"churn": 3}


def test_a_move_that_an_older_release_left_half_way_is_not_believed_until_a_person_promotes(
    four: list[Version], place: Settings
) -> None:
    """It noted its moves in the registry, where anybody could have written this one."""
    client, engine = open_client(place), open_store(place)
    with writing(engine) as connection:
        connection.execute(lifecycle_table.delete())
    intent = Move("d2", "promoted", 1, 2, "gate", "better", LATER + DAY, {"digest": four[1].digest})
    client.set_registered_model_tag("churn", OLD_TAG, json.dumps(intent.content()))
    client.set_registered_model_alias("churn", "champion", "2")
    with pytest.raises(RegistryError, match="version 2 serving while the ledger says 1"):
        agreed_champion("churn", place)
    assert client.get_registered_model("churn").tags == {}
    assert served(place) == [("promoted", 1, "d1")]
    moved(four[1], place, "by-hand", actor="ann", as_of=LATER + DAY)
    assert agreed_champion("churn", place) == four[1]
    assert served(place) == [("promoted", 1, "d1"), ("promoted", 2, "by-hand")]
    assert stages(place) == {1: "ARCHIVED", 2: "PRODUCTION"}


class Paused:
    """A holder that stops right before or after it sets the alias, for longer than its lease."""

    def __init__(self, patch: pytest.MonkeyPatch, place: Settings, *, after: bool):
        self.place, self.after = place, after
        self.meanwhile: list[Any] = []
        self.set_alias = MlflowClient.set_registered_model_alias
        # Its lock is gone too, as a lock in a database is with the connection: only the lease is left.
        patch.setattr(moving, "model_lock", lambda *_: nullcontext())

        def set_alias(client: MlflowClient, *args: str) -> None:
            self.alias(client, *args)

        patch.setattr(MlflowClient, "set_registered_model_alias", set_alias)

    def alias(self, client: MlflowClient, name: str, alias: str, version: str) -> None:
        mine = (alias, version) == ("champion", "2") and self.meanwhile
        if not mine or self.after:
            self.set_alias(client, name, alias, version)
        if mine:
            with writing(open_store(self.place)) as connection:
                connection.execute(leases.update().values(expires_at=LATER))
            self.meanwhile.pop()()
            if not self.after:
                self.set_alias(client, name, alias, version)


def test_a_holder_paused_before_it_moved_the_alias_undoes_that_when_it_was_overtaken(
    four: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = Paused(monkeypatch, place, after=False)
    paused.meanwhile.append(lambda: moved(four[2], place, "d3", expected=1, as_of=LATER + DAY))
    with pytest.raises(RegistryError, match="lost the lease"):
        moved(four[1], place, "d2", expected=1, as_of=LATER + DAY)
    assert served(place) == [("promoted", 1, "d1"), ("promoted", 3, "d3")]
    assert {name: aliases(place)[name] for name in ("champion", "previous")} == {"champion": 3, "previous": 1}
    assert lifecycle.production(open_store(place)) == {"churn": 3}
    assert agreed_champion("churn", place) == four[2]
    with pytest.raises(PromotionRefused, match="version 3 serving"):
        moved(four[1], place, "d2", expected=1, as_of=LATER + DAY)


def test_a_move_paused_after_the_alias_is_finished_in_its_name_by_who_takes_over(
    four: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused, told = Paused(monkeypatch, place, after=True), []

    def second() -> None:
        with pytest.raises(PromotionRefused, match="version 2 serving") as caught:
            moved(four[2], place, "d3", expected=1, as_of=LATER + DAY)
        told.append(caught.value)

    paused.meanwhile.append(second)
    with pytest.raises(RegistryError, match="lost the lease"):
        moved(four[1], place, "d2", expected=1, as_of=LATER + DAY)
    assert len(told) == 1
    done = moved(four[1], place, "d2", expected=1, as_of=LATER + DAY)  # as the task's retry does
    assert (done.to_version, done.decision_id) == (2, "d2")
    assert served(place) == [("promoted", 1, "d1"), ("promoted", 2, "d2")]
    assert aliases(place) == {"champion": 2, "previous": 1}
    with open_store(place).connect() as connection:
        assert connection.execute(sa.select(leases.c.owner)).scalars().all() == [""]
