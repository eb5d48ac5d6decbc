"""A version counts only when the store holds its digest: the registry's word alone makes none of ours."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tasks import register
from tasks.core.errors import PromotionRefused, RegistryError
from tasks.core.model.bundle import GOLDEN, MANIFEST, REFERENCE, digest_of
from tasks.history import reproduce as again
from tasks.history.backfill import backfill
from tasks.register import Version
from tasks.settings import Settings
from tasks.store import catalog, ledger, registry
from tasks.store.engine import open_store, writing
from tasks.store.mlflow_client import open_client
from tasks.store.schema_versions import bundles, versions
from tests.make import make_spec
from tests.versions import LATER, SMALL, SPEC_, Made, a_version, files_of, moved


def rewritten(folder: Path, **changed: Any) -> str:
    """Return the digest of the bundle after its reference and its manifest were rewritten to agree."""
    (folder / REFERENCE).write_text("{}")
    raw = json.loads((folder / MANIFEST).read_text())
    raw["files"][REFERENCE] = digest_of(b"{}")
    (folder / MANIFEST).write_text(json.dumps({**raw, **changed}))
    return digest_of((folder / MANIFEST).read_bytes())


def forged(like: Version, attempt: str, place: Settings) -> Version:
    """Register past this project: changed files of this attempt, it is said, which the gate promotes."""
    client = open_client(place)
    run = client.create_run(client.get_run(like.run_id).info.experiment_id)
    folder = Path(run.info.artifact_uri.removeprefix("file://")) / "bundle"
    shutil.copytree(files_of(like), folder)
    digest = rewritten(folder, attempt=attempt, gate={"outcome": "promote", "reasons": ["trust me"]})
    tags = {registry.TAG_ATTEMPT: attempt, registry.TAG_DIGEST: digest}
    source = f"{run.info.artifact_uri}/bundle"
    return registry.as_version(client.create_model_version("churn", source, run.info.run_id, tags=tags))


def swapped(version: Version, place: Settings) -> Version:
    """Return the version after its files, its manifest and the registry's digest were replaced."""
    digest = rewritten(files_of(version))
    open_client(place).set_model_version_tag("churn", str(version.number), registry.TAG_DIGEST, digest)
    return registry.find_version("churn", version.number, settings=place)


def of_an_older_release(place: Settings) -> None:
    """Make the store one that kept no facts and no bundles."""
    with writing(open_store(place)) as connection:
        connection.execute(versions.delete())
        connection.execute(bundles.delete())


def serving(place: Settings) -> int:
    return register.champion.fn("churn", settings=place, required=True).version


# By its attempt.


def test_a_forged_attempt_is_not_taken_for_the_work_of_a_run_that_died(made: Made, place: Settings) -> None:
    moved(a_version(made, place), place)
    forged(registry.find_version("churn", 1, settings=place), "a2", place)
    with pytest.raises(RegistryError, match=r"version 2 tagged as made by a2, .* to do: find out who") as one:
        register.find_registered.fn(SPEC_, "a2", settings=place)
    assert "version 2" in one.value.found
    with pytest.raises(RegistryError, match="version 2 tagged as made by a2"):
        a_version(made, place, "a2")
    assert serving(place) == 1


def test_a_genuine_version_is_found_beside_a_forged_one_of_its_attempt(made: Made, place: Settings) -> None:
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    open_client(place).set_model_version_tag("churn", "1", registry.TAG_ATTEMPT, "a2")
    forged(one, "a2", place)
    found = register.find_registered.fn(SPEC_, "a2", settings=place)
    assert found is not None
    assert found.version == two
    assert a_version(made, place, "a2") == two


def test_the_store_holds_the_digest_before_the_registry_has_the_version(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, held = MlflowClient.create_model_version, []

    def create(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        held.append(catalog.held_of_attempt(open_store(place), "churn", "a1"))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_model_version", create)
    version = a_version(made, place)
    assert held == [{version.digest}]


def test_files_that_failed_their_reading_back_are_not_held(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = registry._download

    def damaged(version: Version, name: str, folder: Path) -> None:
        real(version, name, folder)
        if name == GOLDEN:
            (folder / name).write_bytes(b"x")

    monkeypatch.setattr(registry, "_download", damaged)
    with pytest.raises(RegistryError, match="another digest"):
        a_version(made, place)
    assert catalog.held_of_attempt(open_store(place), "churn", "a1") == set()


def test_a_version_found_again_is_held_to_this_places_limit_of_latency(made: Made, place: Settings) -> None:
    a_version(made, place)
    slow = make_spec(estimator=SMALL, gate={"max_latency_ms": 0.001})
    with pytest.raises(PromotionRefused, match="max_latency_ms"):
        a_version(made, place, spec=slow)


# By its number.


def test_a_version_that_never_served_is_not_moved_with_exchanged_files(made: Made, place: Settings) -> None:
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    moved(one, place)
    other = swapped(two, place)
    with pytest.raises(RegistryError, match="which the store does not hold"):
        moved(other, place, "d2", actor="ann")
    with pytest.raises(RegistryError, match="which the store does not hold"):
        moved(other, place, "d3", actor="ann", action="rolled_back")
    assert serving(place) == 1


def test_files_of_another_version_are_not_moved_under_this_number(made: Made, place: Settings) -> None:
    for attempt in ("a1", "a2"):
        a_version(made, place, attempt)
    kept = registry.find_version("churn", 1, settings=place)
    open_client(place).set_model_version_tag("churn", "2", registry.TAG_DIGEST, kept.digest)
    with pytest.raises(RegistryError, match="which the store does not hold"):
        moved(registry.find_version("churn", 2, settings=place), place)


def test_places_of_older_releases_keep_working_by_their_ledger(made: Made, place: Settings) -> None:
    one, two, three, four = (a_version(made, place, name) for name in ("a1", "a2", "a3", "a4"))
    moved(one, place, "d1")
    moved(two, place, "d2")
    ledger.record(
        open_store(place), model="churn", decision_id="a3", action="waiting", from_version=2, to_version=3,
        actor="retrain", reason="manual", evidence={"digest": three.digest}, at=LATER,
    )  # fmt: skip
    of_an_older_release(place)
    moved(one, place, "d3", action="rolled_back", actor="ann")
    assert register.find_registered.fn(SPEC_, "a3", settings=place).version == three
    moved(three, place, "d4", actor="ann")
    assert serving(place) == 3
    with pytest.raises(RegistryError, match="which the store does not hold"):
        moved(four, place, "d5", actor="ann")  # nothing but the registry says what it is


# By facts that were read from the registry.


def fail(*_: object, **__: object) -> Any:
    pytest.fail("its spec was run")


def test_backfilled_facts_vouch_for_nothing_unless_the_ledger_does(made: Made, place: Settings) -> None:
    one = a_version(made, place)
    moved(one, place)
    forged(one, "a2", place)
    of_an_older_release(place)
    assert backfill("churn", place).data["noted"] == [1, 2]
    with pytest.raises(RegistryError, match="only the registry says"):
        again.reproduce("churn", 2, train=fail, refit=fail, settings=place, anyway=True)
    with pytest.raises(RegistryError, match="which the store does not hold"):
        moved(registry.find_version("churn", 2, settings=place), place, "d2", actor="ann")
    assert again._vouched("churn", 1, place) == one


def test_facts_that_the_ledger_contradicts_are_not_noted(made: Made, place: Settings) -> None:
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    moved(one, place)
    moved(two, place, "d2")
    of_an_older_release(place)
    swapped(one, place)
    answer = backfill("churn", place)
    assert (answer.data["noted"], list(answer.data["failed"])) == ([2], [1])
    assert "as the ledger has it" in answer.data["failed"][1]
