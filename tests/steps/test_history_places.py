"""What history does with the registry: fill the catalog, make a version again, tidy up; all repeatable."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.history import refit_again, train_again
from tasks import register
from tasks.core.errors import RegistryError, SpecError
from tasks.core.model.bundle import MANIFEST
from tasks.core.results import Trained
from tasks.history import reproduce as again
from tasks.history.backfill import backfill
from tasks.history.janitor import clean_up
from tasks.settings import Settings
from tasks.store import catalog, claims, leases, provenance, registry
from tasks.store.engine import open_store, writing
from tasks.store.mlflow_client import open_client
from tasks.store.schema_versions import versions
from tests.versions import LATER, SPEC_, Made, a_version, files_of, moved

DAY = timedelta(days=1)


def known(place: Settings) -> list[int]:
    return [facts.number for facts in catalog.all_facts(open_store(place), "churn")]


def forget(place: Settings) -> None:
    """Make the store one that is older than its catalog."""
    with writing(open_store(place)) as connection:
        connection.execute(versions.delete())


# Noted when registered.


def test_a_registered_version_is_noted_with_its_manifest(made: Made, place: Settings) -> None:
    version = a_version(made, place)
    facts = catalog.version_facts(open_store(place), "churn", 1)
    assert facts is not None
    assert (facts.digest, facts.run_id, facts.attempt) == (version.digest, version.run_id, "a1")
    assert (facts.decision_id, facts.cause, facts.created) == ("decision-a1", "first", LATER)
    assert facts.snapshot["sha256"] == made.snapshot.sha256
    assert (facts.metric, facts.promise, facts.promise_high) == ("roc_auc", 0.8, None)
    assert facts.gate["outcome"] == "promote"
    assert facts.params["metrics"]["accuracy"] == 0.7


def test_a_run_that_died_before_the_note_is_completed_by_the_next(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "note_version", dies)
        with pytest.raises(KeyboardInterrupt):
            a_version(made, place)
    assert known(place) == []
    assert a_version(made, place).number == 1
    assert known(place) == [1]


# Backfill.


def test_versions_of_before_the_catalog_are_read_from_their_manifests(made: Made, place: Settings) -> None:
    for attempt in ("a1", "a2"):
        a_version(made, place, attempt)
    before = catalog.all_facts(open_store(place), "churn")
    forget(place)
    assert backfill("churn", place).data["noted"] == [1, 2]
    after = catalog.all_facts(open_store(place), "churn")
    assert [replace(one, registered_at=LATER) for one in after] == [
        replace(one, registered_at=LATER) for one in before
    ]
    assert all(
        abs(one.registered_at - two.registered_at) < DAY for one, two in zip(after, before, strict=True)
    )
    assert backfill("churn", place).data == {"model": "churn", "noted": [], "known": [1, 2], "failed": {}}


def test_a_manifest_that_was_exchanged_or_lost_is_told_and_not_believed(made: Made, place: Settings) -> None:
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    a_version(made, place, "a3")
    forget(place)
    raw = json.loads((files_of(one) / MANIFEST).read_text())
    (files_of(one) / MANIFEST).write_text(json.dumps({**raw, "code": {"commit": "f" * 40}}))
    (files_of(two) / MANIFEST).unlink()
    answer = backfill("churn", place)
    assert (answer.data["noted"], sorted(answer.data["failed"]), answer.is_good) == ([3], [1, 2], False)
    assert "not the one that was registered" in answer.data["failed"][1]


def test_a_name_that_could_be_a_query_is_refused(place: Settings) -> None:
    with pytest.raises(RegistryError, match="without quotes"):
        backfill("x' or name like '%", place)


# A version made again.


@pytest.fixture
def trained_by_us(made: Made, place: Settings) -> Made:
    """A version's ingredients as `train_challenger` makes them from the rows of `made`."""
    kept = register.save_snapshot.fn(made.snapshot, SPEC_, settings=place)
    trained = train_again(SPEC_, made.snapshot, "first", settings=place)
    return replace(made, trained=trained, snapshot=kept)


def remade(place: Settings, number: int = 1, *, anyway: bool = True, train: Any = train_again) -> Any:
    return again.reproduce("churn", number, train=train, refit=refit_again, settings=place, anyway=anyway)


def test_a_version_made_again_answers_its_golden_rows_the_same(trained_by_us: Made, place: Settings) -> None:
    a_version(trained_by_us, place)
    shutil.rmtree(place.root / "work")
    answer = remade(place)
    assert answer.is_good
    assert (answer.data["equal"], answer.data["largest_difference"]) == (True, 0.0)
    assert (answer.data["same_rows"], answer.data["train_rows"]) == (True, trained_by_us.trained.train_rows)
    assert "trained again, answers its golden rows as before" in answer.lines[0]
    assert list((place.root / "work").iterdir()) == []
    assert len(open_client(place).search_model_versions("name = 'churn'")) == 1  # none was registered


def test_another_model_of_the_same_rows_is_noticed_with_how_far_it_differs(
    trained_by_us: Made, place: Settings
) -> None:
    a_version(trained_by_us, place)

    def otherwise(spec: Any, *args: Any, **kwargs: Any) -> Trained:
        params = {**spec.estimator.params, "max_iter": 9}
        estimator = spec.estimator.model_copy(update={"params": params})
        return train_again(spec.model_copy(update={"estimator": estimator}), *args, **kwargs)

    answer = remade(place, train=otherwise)
    assert not answer.is_good
    assert (answer.data["equal"], answer.data["same_rows"]) == (False, True)
    assert 0.001 < answer.data["largest_difference"] < 1
    assert "other probabilities on" in answer.lines[0]


def test_other_code_or_libraries_stop_it_with_what_to_do(
    trained_by_us: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = provenance.code_state()
    monkeypatch.setattr(
        "tasks.store.bundles.code_state", lambda: replace(state, commit="a" * 40, dirty=False)
    )
    a_version(trained_by_us, place)
    now = replace(state, commit="b" * 40, dirty=True, lock_sha256="c" * 64, scikit_learn="0.1")
    monkeypatch.setattr(provenance, "code_state", lambda: now)
    with pytest.raises(SpecError) as caught:
        remade(place, anyway=False, train=lambda *_, **__: pytest.fail("trained"))
    for part in (
        "commit bbbbbbbbbbbb instead of aaaaaaaaaaaa",
        "there are now uncommitted changes",
        "lock cccccccccccc",
    ):
        assert part in caught.value.found
    assert "git worktree add ../then aaaaaaaaaaaa" in caught.value.todo
    assert "--anyway" in str(caught.value)
    assert "scikit-learn 0.1 instead of" in "; ".join(remade(place).data["code_differs"])
    monkeypatch.setattr(provenance, "code_state", lambda: replace(state, commit="a" * 40, dirty=False))
    assert remade(place, anyway=False).data["code_differs"] == []


def test_rows_that_are_gone_or_changed_are_an_error(trained_by_us: Made, place: Settings) -> None:
    a_version(trained_by_us, place)
    kept = Path(trained_by_us.snapshot.path)
    kept.chmod(0o600)
    kept.write_bytes(b"x")
    with pytest.raises(RegistryError, match="rows with digest"):
        remade(place)
    kept.unlink()
    with pytest.raises(RegistryError, match="rows that cannot be read"):
        remade(place)


def test_a_version_whose_digest_the_store_does_not_hold_is_not_run(
    trained_by_us: Made, place: Settings
) -> None:
    a_version(trained_by_us, place)
    forget(place)
    with pytest.raises(RegistryError, match="digest the store does not hold"):
        remade(place, train=lambda *_, **__: pytest.fail("trained"))


# What was left behind.


@pytest.fixture
def soon() -> datetime:
    """A moment two days from now: everything made in this test is old by then."""
    return datetime.now(UTC) + 2 * DAY


def left(place: Settings, now: datetime, *, apply: bool = False) -> list[tuple[str, str]]:
    answer = clean_up("churn", place, now=now, apply=apply)
    return [(one["kind"], one.get("done") or one["todo"]) for one in answer.data]


def leave(place: Settings) -> None:
    """Leave what dead processes leave: a run, a claim, a lease, a copy and half a snapshot."""
    client, engine = open_client(place), open_store(place)
    experiment = client.get_experiment_by_name("churn").experiment_id
    client.create_run(experiment, run_name="churn-dead", tags={registry.TAG_ATTEMPT: "dead"})
    client.create_run(experiment, run_name="not ours")
    now = datetime.now(UTC)
    claims.claim(engine, "d9", "churn", "elsewhere:1:unknown:x", now)
    leases.take(engine, "churn.move", "elsewhere:1:unknown:x", now=now)
    (place.root / "versions" / ".part-1-x").mkdir(parents=True)
    (place.root / "versions" / ".part-1-x" / "model.skops").write_bytes(b"x")
    snapshots = Path(place.artifact_root) / "snapshots"
    snapshots.mkdir(exist_ok=True)
    (snapshots / ".half.parquet.1.part").write_bytes(b"x")


ALL_LEFT = ["run", "lease", "claim", "copy", "copy"]


def test_remnants_are_shown_first_put_away_by_request_and_then_gone(
    made: Made, place: Settings, soon: datetime
) -> None:
    version = a_version(made, place)
    moved(version, place)
    leave(place)
    client, engine = open_client(place), open_store(place)
    assert [kind for kind, _ in left(place, soon)] == ALL_LEFT
    assert [kind for kind, _ in left(place, soon)] == ALL_LEFT  # looking changed nothing
    assert [kind for kind, done in left(place, soon, apply=True) if "not done" not in done] == ALL_LEFT
    assert left(place, soon, apply=True) == []
    status = {run.info.run_name: run.info.status for run in client.search_runs(["0", "1"])}
    assert status == {"churn-a1": "FINISHED", "churn-dead": "KILLED", "not ours": "RUNNING"}
    assert claims.look(engine, "d9", "churn", datetime.now(UTC)).state == "taken_over"
    assert leases.take(engine, "churn.move", "me:1:unknown:y", now=datetime.now(UTC)).token > 1
    assert not list((place.root / "versions").glob(".part-*"))
    assert register.champion.fn("churn", settings=place).version == 1


def test_what_is_younger_than_a_day_is_left_alone(made: Made, place: Settings) -> None:
    a_version(made, place)
    leave(place)
    assert left(place, datetime.now(UTC) + DAY - timedelta(minutes=5), apply=True) == []
    assert (place.root / "versions" / ".part-1-x").is_dir()


def test_a_version_without_files_is_told_and_never_deleted(
    made: Made, place: Settings, soon: datetime
) -> None:
    one = a_version(made, place)
    moved(one, place)
    shutil.rmtree(files_of(one))
    ((kind, done),) = left(place, soon, apply=True)
    assert (kind, done.split(":")[0]) == ("version", "left to a person")
    assert registry.find_version("churn", 1, settings=place) == one


def test_a_model_that_was_never_finished_is_marked_as_failed(
    made: Made, place: Settings, soon: datetime
) -> None:
    a_version(made, place)
    client = open_client(place)
    experiment = client.get_experiment_by_name("churn").experiment_id
    pending = client.create_logged_model(experiment, name="m-pending")
    assert [kind for kind, _ in left(place, soon)] == ["logged model"]
    assert left(place, soon, apply=True) == [("logged model", "marked as FAILED")]
    assert str(client.get_logged_model(pending.model_id).status) == "FAILED"
    assert left(place, soon) == []


def test_one_thing_that_cannot_be_put_away_does_not_stop_the_others(
    made: Made, place: Settings, soon: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_version(made, place)
    leave(place)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr("tasks.history.janitor.shutil.rmtree", refuse)
    assert [kind for kind, done in left(place, soon, apply=True) if "not done" in done] == ["copy"]
    assert [kind for kind, _ in left(place, soon)] == ["copy"]


def test_a_place_where_nothing_was_ever_made_has_no_remnants(place: Settings, soon: datetime) -> None:
    assert left(place, soon, apply=True) == []
