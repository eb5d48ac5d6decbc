"""Going back: to what served before, loaded and re-scored first, further back each time, once per wish."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from prefect.exceptions import ParameterTypeError

from flows.rollback import rollback
from tasks import rollback as going_back
from tasks.core.errors import PromotionRefused, RegistryError, SpecError
from tasks.core.model.bundle import GOLDEN, MODEL
from tasks.history.before import Commit
from tasks.register import Version
from tasks.rollback import RollbackPlan, RolledBack
from tasks.run_state import outcome_of
from tasks.settings import Settings
from tasks.store import ledger, provenance, registry
from tasks.store.engine import open_store
from tasks.store.mlflow_client import open_client
from tasks.store.models import load_model
from tests.faults.retraining import clean_processes
from tests.versions import LATER, SPEC_, Made, a_version, files_of, moved

DAY = timedelta(days=1)
NOW = LATER + 5 * DAY


@pytest.fixture
def three(made: Made, place: Settings) -> list[Version]:
    """Versions 1, 2 and 3 served, a day each; 3 serves."""
    versions = [a_version(made, place, f"a{number}") for number in (1, 2, 3)]
    for number, version in enumerate(versions):
        moved(version, place, f"d{number + 1}", as_of=LATER + number * DAY)
    return versions


def plan(place: Settings, to_version: int | None = None, at: datetime = NOW, **over: Any) -> RollbackPlan:
    return going_back.plan_rollback.fn(SPEC_, to_version, as_of=at, settings=place, **over)


def target(place: Settings, at: datetime) -> int | None:
    found = plan(place, at=at).target
    return found.number if found else None


def go(
    place: Settings,
    to_version: int | None = None,
    at: datetime = NOW,
    actor: str = "ann",
    reason: str = "complaints",
) -> RolledBack:
    planned = plan(place, to_version, at, actor=actor, reason=reason, dry_run=False)
    return going_back.roll_back.fn(SPEC_, planned, actor=actor, reason=reason, as_of=at, settings=place)


def serving(place: Settings) -> int:
    found = registry.find_champion(SPEC_.name, settings=place)
    assert found is not None
    return found.number


def moves_of(place: Settings) -> list[tuple[str, int | None, int | None, str]]:
    rows = ledger.history(open_store(place), SPEC_.name)
    return [(row.action, row.from_version, row.to_version, row.actor) for row in rows]


def test_a_plan_names_what_would_change_and_changes_nothing(three: list[Version], place: Settings) -> None:
    before, aliases = moves_of(place), open_client(place).get_registered_model(SPEC_.name).aliases
    planned = plan(place)
    assert planned.target is not None
    assert (planned.from_version, planned.target.number) == (3, 2)
    assert planned.sentence() == (
        "version 2 would serve instead of version 3, which served until 2026-02-06 00:00Z; it was loaded and "
        "answers its golden rows as before; promised roc_auc 0.8, "
        "trained on 2026-01-05T00:00Z..2026-02-02T00:00Z"
    )
    ended = going_back.only_planned(planned)
    assert outcome_of(ended.state()) == "Dry run"
    assert ended.sentence().startswith("dry run, nothing was changed: version 2 would serve")
    assert moves_of(place) == before
    assert open_client(place).get_registered_model(SPEC_.name).aliases == aliases


def test_a_rollback_returns_to_the_version_before_and_the_ledger_says_who_and_why(
    three: list[Version], place: Settings
) -> None:
    ended = go(place)
    assert (ended.from_version, ended.version, ended.digest) == (3, 2, three[1].digest)
    assert outcome_of(ended.state()) == "Rolled back"
    assert serving(place) == 2
    assert moves_of(place)[-1] == ("rolled_back", 3, 2, "ann")
    assert ledger.history(open_store(place), SPEC_.name)[-1].reason == "complaints"
    assert ledger.serving_at(open_store(place), SPEC_.name, NOW) == 2


def test_the_next_rollback_walks_further_back_and_never_to_what_was_rolled_back(
    three: list[Version], made: Made, place: Settings
) -> None:
    go(place)
    go(place, at=NOW + DAY)
    assert serving(place) == 1
    with pytest.raises(PromotionRefused, match="no version that served before version 1"):
        go(place, at=NOW + 2 * DAY)
    moved(a_version(made, place, "a4"), place, "d4", as_of=NOW + 3 * DAY)
    assert target(place, at=NOW + 4 * DAY) == 1  # neither 2 nor 3: both were rolled back
    moved(three[1], place, "d5", as_of=NOW + 5 * DAY, actor="bob")  # a person found 2 good after all
    go(place, 3, at=NOW + 6 * DAY)
    assert target(place, at=NOW + 7 * DAY) == 4


def test_two_people_who_answer_one_alarm_go_back_one_version(three: list[Version], place: Settings) -> None:
    go(place)
    again = go(place, at=NOW + timedelta(minutes=2))  # the same person, the same words: the same rollback
    assert (again.from_version, again.version, serving(place)) == (3, 2, 2)
    with pytest.raises(PromotionRefused, match=r"brought back by ann at .*10 minutes.*--to-version 1"):
        go(place, at=NOW + timedelta(minutes=9), actor="bob")
    assert len(moves_of(place)) == 4
    go(place, 1, at=NOW + timedelta(minutes=9), actor="bob")  # named, it is meant
    assert serving(place) == 1


def test_a_moment_before_the_newest_row_is_refused_and_does_not_get_round_the_pause(
    three: list[Version], place: Settings
) -> None:
    go(place)
    for moment in (LATER, NOW - timedelta(seconds=1)):
        for version in (None, 1, 3):
            with pytest.raises(PromotionRefused, match=r"as_of 2026-.* before .*--as-of"):
                go(place, version, at=moment, actor="bob")
    looked = going_back.only_planned(plan(place, at=NOW - timedelta(seconds=1)))
    assert looked.version is None
    assert looked.why.startswith("as_of 2026-")
    # Her own words, though her second click has an earlier moment, are the rollback that was done.
    assert go(place, at=NOW - timedelta(seconds=1)).version == 2
    assert (serving(place), len(moves_of(place))) == (2, 4)


def test_plans_made_at_the_same_time_are_carried_out_once(three: list[Version], place: Settings) -> None:
    plans = [plan(place, actor=name, reason="slow", dry_run=False) for name in ("ann", "bob", "eve")]
    ended: list[RolledBack] = []

    def carry_out(planned: RollbackPlan, name: str) -> None:
        ended.append(
            going_back.roll_back.fn(SPEC_, planned, actor=name, reason="slow", as_of=NOW, settings=place)
        )

    people = [
        threading.Thread(target=carry_out, args=pair)
        for pair in zip(plans, ("ann", "bob", "eve"), strict=True)
    ]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert [one.version for one in ended] == [2, 2, 2]
    assert len({one.actor for one in ended}) == 1
    assert (serving(place), len(moves_of(place))) == (2, 4)


def test_a_champion_that_changed_since_the_plan_stops_the_rollback(
    three: list[Version], made: Made, place: Settings
) -> None:
    planned = plan(place)
    moved(a_version(made, place, "a4"), place, "d4", as_of=NOW)
    with pytest.raises(PromotionRefused, match="version 4 serving"):
        going_back.roll_back.fn(SPEC_, planned, actor="ann", reason="slow", as_of=NOW, settings=place)
    assert serving(place) == 4


@pytest.mark.parametrize("field", ["actor", "reason"])
def test_nobody_and_no_reason_are_refused_before_anything_is_loaded(
    field: str, three: list[Version], place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(going_back, "probe", lambda *_: pytest.fail("loaded"))
    with pytest.raises(SpecError, match=f"{field}: nothing"):
        go(place, **{field: " "})
    assert serving(place) == 3


def test_a_target_with_damaged_or_exchanged_files_moves_nothing(
    three: list[Version], place: Settings
) -> None:
    (files_of(three[1]) / MODEL).write_bytes(b"x")
    with pytest.raises(RegistryError, match="another digest"):
        go(place)
    tag = {"name": SPEC_.name, "version": "1", "key": registry.TAG_DIGEST, "value": three[2].digest}
    open_client(place).set_model_version_tag(**tag)
    with pytest.raises(RegistryError, match="which served as"):
        go(place, 1)
    assert serving(place) == 3
    assert len(moves_of(place)) == 3


def test_what_cannot_be_gone_back_to_is_refused_in_words_and_told_to_a_look(
    made: Made, place: Settings
) -> None:
    with pytest.raises(PromotionRefused, match="no champion"):
        go(place)
    one = a_version(made, place, "a1")
    moved(one, place, "d1")
    with pytest.raises(PromotionRefused, match="no version that served before version 1"):
        go(place)
    with pytest.raises(PromotionRefused, match="version 1 serving already"):
        go(place, 1)
    with pytest.raises(RegistryError, match="version 7"):
        go(place, 7)
    looked = going_back.only_planned(plan(place))
    assert (looked.version, outcome_of(looked.state())) == (None, "Dry run")
    assert looked.why.startswith("no version that served before version 1")
    with pytest.raises(PromotionRefused, match="no version that served"):
        going_back.roll_back.fn(SPEC_, plan(place), actor="ann", reason="x", as_of=NOW, settings=place)
    assert len(moves_of(place)) == 1


# Back to before a commit.

SHAS = tuple(f"{number:040x}" for number in (1, 2, 3, 4))


@pytest.fixture
def of_commits(made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Version]:
    """Versions 1, 2 and 3 as in `three`, made by the first three of four commits on one line."""

    def find(name: str) -> Commit:
        at = SHAS.index(name)
        return Commit(name, frozenset(SHAS[:at]))

    monkeypatch.setattr(going_back, "find_commit", find)
    state, versions = provenance.code_state(), []
    for number in (1, 2, 3):
        by = replace(state, commit=SHAS[number - 1], dirty=False)
        monkeypatch.setattr("tasks.store.bundles.code_state", lambda by=by: by)
        versions.append(a_version(made, place, f"a{number}"))
        moved(versions[-1], place, f"d{number}", as_of=LATER + (number - 1) * DAY)
    return versions


def go_before(place: Settings, sha: str, actor: str = "ann", at: datetime = NOW) -> RolledBack:
    planned = plan(place, None, at, actor=actor, reason="bad code", dry_run=False, before_commit=sha)
    return going_back.roll_back.fn(SPEC_, planned, actor=actor, reason="bad code", as_of=at, settings=place)


def test_a_rollback_to_before_a_commit_passes_over_everything_made_since(
    of_commits: list[Version], place: Settings
) -> None:
    assert plan(place, before_commit=SHAS[1]).target == of_commits[0]
    assert serving(place) == 3  # only looked at
    ended = go_before(place, SHAS[1])
    assert (ended.from_version, ended.version, serving(place)) == (3, 1, 1)


def test_two_people_who_undo_one_commit_go_back_once(of_commits: list[Version], place: Settings) -> None:
    assert go_before(place, SHAS[2]).version == 2
    assert go_before(place, SHAS[2], at=NOW + timedelta(minutes=1)).version == 2  # the same words again
    with pytest.raises(
        PromotionRefused, match="version 2 serving, which was made before 000000000000 already"
    ):
        go_before(place, SHAS[2], actor="bob", at=NOW + timedelta(minutes=2))
    assert serving(place) == 2
    # Another commit is another wish: it needs no pause.
    assert go_before(place, SHAS[1], actor="bob", at=NOW + timedelta(minutes=3)).version == 1


def test_a_commit_that_undoes_nothing_or_everything_moves_nothing(
    of_commits: list[Version], place: Settings
) -> None:
    with pytest.raises(PromotionRefused, match="version 3 serving, which was made before"):
        go_before(place, SHAS[3])
    with pytest.raises(PromotionRefused, match=r"no version .* made before .*made by this very commit"):
        go_before(place, SHAS[0])
    looked = going_back.only_planned(plan(place, before_commit=SHAS[0]))
    assert looked.version is None
    with pytest.raises(SpecError, match="to_version beside before_commit"):
        plan(place, 1, before_commit=SHAS[1])
    assert serving(place) == 3


def test_a_commit_nobody_knows_is_refused_in_a_look_too(place: Settings) -> None:
    with pytest.raises(SpecError, match=r"no commit 'fedcba98'|no git repository"):
        plan(place, before_commit="fedcba98")


@pytest.mark.parametrize("name", ["--all", "a b", "a..b", "HEAD~1;ls", "x" * 101, "@{-1}"])
def test_a_form_takes_no_commit_that_git_could_read_otherwise(name: str) -> None:
    with pytest.raises(ParameterTypeError, match="before_commit"):
        rollback.validate_parameters({"spec": SPEC_, "before_commit": name})
    assert rollback.validate_parameters({"spec": SPEC_, "before_commit": "v1.2"})["before_commit"] == "v1.2"


def answer(folder: Path, asked: Connection) -> None:
    """Say, each time it is asked, which champion this process finds, after that one has predicted."""
    while asked.recv():
        found = registry.champion(SPEC_.name, settings=Settings(state_dir=folder))
        assert found is not None
        rows = pd.read_parquet(Path(found.path) / GOLDEN)[SPEC_.features.all]
        model = load_model(found.model_path, sha256=found.manifest.files[MODEL])
        asked.send((found.version, len(model.predict(rows))))


def test_a_drill_another_process_answers_with_the_old_version_within_a_minute(
    three: list[Version], place: Settings
) -> None:
    processes = clean_processes()
    here, there = processes.Pipe()
    other = processes.Process(target=answer, args=(place.root, there))
    other.start()
    here.send(True)
    assert here.recv() == (3, 50)
    began = time.perf_counter()
    go(place)
    here.send(True)
    assert here.recv() == (2, 50)
    assert time.perf_counter() - began < 60
    here.send(False)
    other.join()
    assert other.exitcode == 0
