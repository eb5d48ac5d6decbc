"""Versions are whole or absent, champions move once, and whatever is doubtful keeps the champion."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST
from pydantic import SecretStr

from tasks import register
from tasks.core.errors import PromotionRefused, RegistryError
from tasks.core.model.bundle import GOLDEN, MANIFEST, MODEL, REFERENCE, SPEC, digest_of
from tasks.core.model.pipeline import build_pipeline
from tasks.register import Version
from tasks.settings import Settings
from tasks.store import intents, ledger, registry, runs
from tasks.store.engine import open_store
from tasks.store.mlflow_client import open_client
from tasks.store.models import load_model, own_types, save_model
from tests.make import make_spec
from tests.versions import CUT, LATER, SMALL, SPEC_, Made, a_version, files_of, moved


def test_a_version_is_a_complete_bundle(made: Made, place: Settings) -> None:
    version = a_version(made, place)
    assert (version.name, version.number) == ("churn", 1)
    kept = files_of(version)
    assert {MODEL, SPEC, REFERENCE, GOLDEN, MANIFEST, "MLmodel", "requirements.txt"} <= {
        path.name for path in kept.iterdir()
    }
    manifest = json.loads((kept / MANIFEST).read_text())
    assert digest_of((kept / MANIFEST).read_bytes()) == version.digest
    assert {name: digest_of((kept / name).read_bytes()) for name in manifest["files"]} == manifest["files"]
    assert manifest["snapshot"]["sha256"] == made.snapshot.sha256
    assert manifest["promise"] == {"metric": "roc_auc", "value": 0.8, "low": 0.7, "high": None, "rows": 60}
    assert manifest["decision"] == {"id": "decision-a1", "cause": "first"}
    assert manifest["gate"]["outcome"] == "promote"
    assert manifest["classes"] == [0, 1]
    assert manifest["code"]["lock_sha256"] == digest_of(Path("requirements.lock").read_bytes())
    assert manifest["code"]["scikit_learn"] == "1.9.1"
    assert set(manifest["code"]) >= {"commit", "dirty", "python"}
    assert json.loads((kept / SPEC).read_text()) == json.loads(SPEC_.model_dump_json())
    golden = pd.read_parquet(kept / GOLDEN)
    model = load_model(made.trained.model_path)
    np.testing.assert_array_equal(
        golden["__probability_1__"], model.predict_proba(golden[SPEC_.features.all])[:, 1]
    )


def test_the_run_behind_a_version_is_named_ended_and_says_what_happened(made: Made, place: Settings) -> None:
    version = a_version(made, place)
    run = open_client(place).get_run(version.run_id)
    assert run.info.run_name == "churn-a1"
    assert run.info.status == "FINISHED"
    assert run.data.metrics["roc_auc"] == 0.8
    assert run.data.metrics["promise"] == 0.8
    assert "odd" not in run.data.metrics
    assert run.data.params == {"max_iter": "3", "metric": "roc_auc"}
    assert run.data.tags["evergreen.snapshot"] == made.snapshot.sha256
    assert run.inputs.dataset_inputs[0].dataset.digest == made.snapshot.sha256[:36]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of MLflow's own imports, about its own type hints
def test_mlflow_itself_can_load_a_version_and_knows_its_signature(made: Made, place: Settings) -> None:
    version = a_version(made, place)
    rows = made.frame.tail(60)[SPEC_.features.all].reset_index(drop=True)
    loaded = mlflow.pyfunc.load_model(f"models:/churn/{version.number}")
    expected = load_model(made.trained.model_path).predict(rows)
    np.testing.assert_array_equal(loaded.predict(rows), expected)
    assert loaded.metadata.signature.inputs.input_names() == SPEC_.features.all
    example = loaded.metadata.load_input_example(version.source)
    assert list(example.columns) == SPEC_.features.all
    assert len(example) == 5
    pins = (files_of(version) / "requirements.txt").read_text().split()
    assert "scikit-learn==1.9.1" in pins
    assert all("==" in pin for pin in pins)


def test_the_same_attempt_gives_the_same_version_however_often(made: Made, place: Settings) -> None:
    first = a_version(made, place)
    assert a_version(made, place) == first
    assert a_version(made, place, "a2").number == 2
    assert len(open_client(place).search_model_versions("name = 'churn'")) == 2


def test_an_attempt_whose_version_was_damaged_since_is_not_believed(made: Made, place: Settings) -> None:
    version = a_version(made, place)
    (files_of(version) / GOLDEN).write_bytes(b"x")
    with pytest.raises(RegistryError, match=r"golden\.parquet has another digest"):
        a_version(made, place)


@pytest.mark.parametrize("attempt", ["", "a' or 'x' = 'x", "a/b", "../a", "a" * 201])
def test_an_attempt_that_could_be_a_query_or_a_path_is_refused(
    attempt: str, made: Made, place: Settings
) -> None:
    with pytest.raises(RegistryError, match="attempt"):
        a_version(made, place, attempt)


def test_a_model_that_gives_other_answers_when_read_back_is_no_version(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = registry.answers_of

    def other(model: object, rows: pd.DataFrame) -> Any:
        given = honest(model, rows)
        return replace(given, probabilities=given.probabilities + 0.01)

    monkeypatch.setattr(registry, "answers_of", other)
    with pytest.raises(RegistryError, match="other probabilities on 50 of 50 golden rows"):
        a_version(made, place)
    client = open_client(place)
    assert client.search_model_versions("name = 'churn'") == []
    assert [run.info.status for run in all_runs(client)] == ["FAILED"]


def test_a_hostile_model_file_is_refused_and_leaves_no_version(
    made: Made, place: Settings, tmp_path: Path
) -> None:
    bad = tmp_path / "model.skops"
    bad.write_bytes(b"\x80\x04\x95not ours")
    with pytest.raises(RegistryError, match="no skops file"):
        a_version(made, place, trained=replace(made.trained, model_path=str(bad)))
    assert open_client(place).search_registered_models() == []


def test_a_model_file_changed_since_it_was_trained_is_refused(made: Made, place: Settings) -> None:
    with pytest.raises(RegistryError, match="digest"):
        a_version(made, place, trained=replace(made.trained, model_sha256="0" * 64))


def test_an_unreadable_reference_or_an_empty_holdout_is_refused(
    made: Made, place: Settings, tmp_path: Path
) -> None:
    with pytest.raises(RegistryError, match="reference"):
        a_version(made, place, reference=str(tmp_path / "none.json"))
    made.frame.head(0).to_parquet(tmp_path / "none.parquet")
    with pytest.raises(RegistryError, match="empty holdout"):
        a_version(made, place, trained=replace(made.trained, holdout_path=str(tmp_path / "none.parquet")))


def test_a_password_of_the_source_does_not_reach_the_bundle(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "hunter2")
    source = {**SPEC_.source.model_dump(), "url": "postgresql+psycopg://ann:${PASSWORD}@db/x?user=hunter2"}
    version = a_version(made, place, spec=make_spec(source=source, estimator=SMALL))
    texts = [path.read_bytes() for path in files_of(version).iterdir()]
    assert not any(b"hunter2" in text for text in texts)


def test_sensitive_rows_of_the_holdout_do_not_reach_the_bundle(made: Made, place: Settings) -> None:
    features = {**SPEC_.features.model_dump(), "sensitive": ["tenure", "region"]}
    spec = make_spec(features=features, estimator=SMALL)
    golden = pd.read_parquet(files_of(a_version(made, place, spec=spec)) / GOLDEN)
    assert not set(golden["tenure"].dropna()) & set(made.frame["tenure"].dropna())


# Promotion.


def test_a_promoted_version_is_the_champion_with_all_its_files(made: Made, place: Settings) -> None:
    assert register.champion.fn("churn", settings=place) is None
    version = a_version(made, place)
    assert register.champion.fn("churn", settings=place) is None
    promotion = moved(version, place)
    assert (promotion.from_version, promotion.to_version, promotion.action) == (None, 1, "promoted")
    info = register.champion.fn("churn", settings=place, required=True)
    assert info is not None
    assert info.version == 1
    assert info.manifest.digest == version.digest
    assert info.promise.value == 0.8
    assert info.classes == (0, 1)
    assert info.train_end == CUT
    assert asdict(info.ref) == {"model_path": info.model_path, "version": 1, "train_end": CUT}
    assert info.spec == SPEC_
    assert json.loads(Path(info.reference_path).read_text()) == {"rows": 240, "features": {}}
    load_model(info.model_path, sha256=info.manifest.files[MODEL])
    assert not list((place.root / "versions").glob(".part-*"))


def test_a_second_promotion_remembers_the_first_and_a_rollback_returns_to_it(
    made: Made, place: Settings
) -> None:
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    moved(one, place, "d1")
    moved(two, place, "d2", as_of=LATER + timedelta(days=1))
    client = open_client(place)
    assert client.get_registered_model("churn").aliases == {"champion": 2, "previous": 1}
    moved(one, place, "d3", action="rolled_back", actor="ann", as_of=LATER + timedelta(days=2))
    assert client.get_registered_model("churn").aliases == {"champion": 1, "previous": 2}
    rows = ledger.history(open_store(place), "churn")
    assert [(row.action, row.from_version, row.to_version, row.actor) for row in rows] == [
        ("promoted", None, 1, "gate"),
        ("promoted", 1, 2, "gate"),
        ("rolled_back", 2, 1, "ann"),
    ]
    assert rows[1].evidence["digest"] == two.digest
    assert ledger.serving_at(open_store(place), "churn", LATER + timedelta(days=1, hours=1)) == 2


def test_the_same_decision_moves_the_champion_once(made: Made, place: Settings) -> None:
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    first = moved(one, place, "d1")
    assert moved(one, place, "d1") == first
    with pytest.raises(RegistryError, match="already in the ledger"):
        moved(two, place, "d1")
    moved(two, place, "d2")
    assert moved(one, place, "d1") == first  # an old decision, delivered again, does not move it back
    assert register.champion.fn("churn", settings=place).version == 2
    assert len(ledger.history(open_store(place), "churn")) == 2


def test_a_decision_about_another_champion_is_refused(made: Made, place: Settings) -> None:
    one, two, three = (a_version(made, place, name) for name in ("a1", "a2", "a3"))
    with pytest.raises(PromotionRefused, match="version 7"):
        moved(one, place, "d0", expected=7)
    moved(one, place, "d1", expected=None)
    moved(two, place, "d2", expected=1)
    with pytest.raises(PromotionRefused, match="version 2 serving"):
        moved(three, place, "d3", expected=1)
    with pytest.raises(PromotionRefused, match="serving already"):
        moved(two, place, "d4")
    assert register.champion.fn("churn", settings=place).version == 2
    assert len(ledger.history(open_store(place), "churn")) == 2


@pytest.mark.parametrize("name", [MODEL, SPEC, REFERENCE, GOLDEN, MANIFEST])
@pytest.mark.parametrize("harm", ["changed", "missing"])
def test_a_version_with_a_harmed_file_is_neither_promoted_nor_served(
    name: str, harm: str, made: Made, place: Settings
) -> None:
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    moved(one, place, "d1")
    for version in (one, two):
        path = files_of(version) / name
        path.write_bytes(path.read_bytes() + b" ") if harm == "changed" else path.unlink()
    with pytest.raises(RegistryError):
        moved(two, place, "d2")
    with pytest.raises(RegistryError):
        register.champion.fn("churn", settings=place)
    assert open_client(place).get_registered_model("churn").aliases == {"champion": 1}
    assert len(ledger.history(open_store(place), "churn")) == 1


def test_files_changed_together_with_their_manifest_are_still_noticed(made: Made, place: Settings) -> None:
    version = a_version(made, place)
    moved(version, place)
    forge(version)
    with pytest.raises(RegistryError, match="manifest is not the one"):
        register.champion.fn("churn", settings=place)
    # Even whoever can also write the registry's tags meets the digest in the ledger.
    digest = digest_of((files_of(version) / MANIFEST).read_bytes())
    open_client(place).set_model_version_tag("churn", "1", registry.TAG_DIGEST, digest)
    with pytest.raises(RegistryError, match="promoted as"):
        register.champion.fn("churn", settings=place)


def forge(version: Version) -> None:
    """Replace the reference profile and make the manifest agree."""
    folder = files_of(version)
    (folder / REFERENCE).write_text("{}")
    raw = json.loads((folder / MANIFEST).read_text())
    raw["files"][REFERENCE] = digest_of(b"{}")
    (folder / MANIFEST).write_text(json.dumps(raw))


def test_a_damaged_local_copy_is_fetched_again(made: Made, place: Settings) -> None:
    moved(a_version(made, place), place)
    kept = Path(register.champion.fn("churn", settings=place).path)
    (kept / MODEL).write_bytes(b"x")
    again = register.champion.fn("churn", settings=place)
    assert again.path == str(kept)
    load_model(again.model_path, sha256=again.manifest.files[MODEL])


def test_the_local_copy_spares_the_registry_its_files(made: Made, place: Settings) -> None:
    version = a_version(made, place)
    moved(version, place)
    register.champion.fn("churn", settings=place)
    shutil.rmtree(files_of(version))
    assert register.champion.fn("churn", settings=place).version == 1


# "No champion" is only an explicit answer.


def test_a_champion_that_vanished_from_the_registry_is_an_error_not_a_first_version(
    made: Made, place: Settings
) -> None:
    moved(a_version(made, place), place)
    open_client(place).delete_model_version("churn", "1")  # takes its alias with it, silently
    assert registry.find_champion("churn", settings=place) is None
    with pytest.raises(RegistryError, match="version none serving while the ledger says 1"):
        register.champion.fn("churn", settings=place)


def test_an_alias_moved_behind_the_ledgers_back_is_an_error_that_a_promotion_mends(
    made: Made, place: Settings
) -> None:
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    moved(one, place, "d1")
    open_client(place).set_registered_model_alias("churn", "champion", "2")
    with pytest.raises(RegistryError, match="version 2 serving while the ledger says 1"):
        register.champion.fn("churn", settings=place)
    moved(two, place, "d2", actor="ann")
    assert register.champion.fn("churn", settings=place).version == 2


def test_required_turns_no_champion_into_an_error(place: Settings) -> None:
    with pytest.raises(RegistryError, match="no champion"):
        register.champion.fn("churn", settings=place, required=True)


@pytest.mark.parametrize("method", ["get_model_version_by_alias", "search_registered_models"])
@pytest.mark.parametrize(
    "fault",
    [
        mlflow.MlflowException("gone", error_code=RESOURCE_DOES_NOT_EXIST),  # a version, or any HTTP 404
        mlflow.MlflowException("down", error_code=INTERNAL_ERROR),
        ConnectionError("no route"),
        sqlite3.OperationalError("database is locked"),
    ],
)
def test_a_fault_while_looking_for_the_champion_is_not_no_champion(
    method: str, fault: Exception, made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method == "get_model_version_by_alias":
        moved(a_version(made, place), place)

    def broken(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(MlflowClient, method, broken)
    with pytest.raises(RegistryError):
        registry.find_champion("churn", settings=place)  # without the ledger, which would notice too
    with pytest.raises(RegistryError):
        register.champion.fn("churn", settings=place)


class NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()
        self.wfile.write(b"<html>no such page</html>")

    do_POST = do_GET  # noqa: N815 - the server's own naming

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def wrong_server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), NotFound)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_wrong_address_that_answers_404_is_not_no_champion(wrong_server: str, place: Settings) -> None:
    wrong = place.model_copy(update={"mlflow": SecretStr(wrong_server)})
    with pytest.raises(RegistryError, match="looking up the champion"):
        register.champion.fn("churn", settings=wrong)


def test_an_unreachable_server_is_an_error_that_shows_no_secret(
    place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = place.model_copy(update={"mlflow": SecretStr("http://ann:hunter2@127.0.0.1:9")})
    with pytest.raises(RegistryError) as caught:
        register.champion.fn("churn", settings=away)
    assert "hunter2" not in str(caught.value)


def test_a_registry_whose_file_is_no_database_is_an_error(settings: Settings) -> None:
    (settings.root / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(RegistryError, match="opening MLflow"):
        register.champion.fn("churn", settings=settings)


# Crashes: at any side effect, by an exception or by death, and then the same call again.


class Killed(BaseException):
    """The process ends here."""


class Fault:
    """Ends the process right after its n-th side effect; `dead`: nothing it does afterwards has an effect."""

    EFFECTS = (
        "create_experiment",
        "create_run",
        "log_batch",
        "log_inputs",
        "log_artifacts",
        "create_registered_model",
        "create_model_version",
        "set_terminated",
        "set_registered_model_alias",
    )

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.left, self.dead, self.is_death = 10**9, False, False
        for name in self.EFFECTS:
            monkeypatch.setattr(MlflowClient, name, self.wrapped(getattr(MlflowClient, name)))
        monkeypatch.setattr(ledger, "record", self.wrapped(ledger.record))
        monkeypatch.setattr(intents, "note", self.wrapped(intents.note))
        monkeypatch.setattr(intents, "end", self.wrapped(intents.end))
        monkeypatch.setattr(registry, "load_checked", self.wrapped(registry.load_checked))
        monkeypatch.setattr(runs, "load_checked", self.wrapped(runs.load_checked))
        monkeypatch.setattr(register, "write_bundle", self.wrapped(register.write_bundle))

    def wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if self.dead:
                raise Killed
            result = call(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                self.dead = self.is_death
                raise Killed
            return result

        return run

    def after(self, effects: int, *, is_death: bool) -> None:
        self.left, self.is_death, self.dead = effects, is_death, False

    def over(self) -> None:
        self.left, self.dead = 10**9, False


def all_runs(client: MlflowClient) -> list[Any]:
    return client.search_runs([item.experiment_id for item in client.search_experiments()])


@pytest.mark.parametrize("is_death", [False, True], ids=["exception", "death"])
def test_dying_after_any_side_effect_and_running_again_ends_the_same(
    is_death: bool, made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault, died = Fault(monkeypatch), 0
    client, engine = open_client(place), open_store(place)
    champion: int | None = None
    for effects in range(1, 60):
        attempt = f"a{effects}"

        def run(attempt: str = attempt) -> None:
            version = a_version(made, place, attempt)
            moved(version, place, attempt, reason=attempt)

        fault.after(effects, is_death=is_death)
        try:
            run()
        except Killed:
            died += 1
            fault.over()
            run()
        else:
            break
        finally:
            fault.over()
        versions = client.search_model_versions("name = 'churn'")
        assert len(versions) == effects
        aliases = client.get_registered_model("churn").aliases
        expected = {"champion": effects} | ({"previous": champion} if champion else {})
        assert {name: int(number) for name, number in aliases.items()} == expected
        rows = ledger.history(engine, "churn")
        assert [row.to_version for row in rows] == list(range(1, effects + 1))
        assert (rows[-1].from_version, rows[-1].reason) == (champion, attempt)
        assert client.get_registered_model("churn").tags == {}
        assert not [run for run in all_runs(client) if run.info.status == "RUNNING"]
        champion = effects
    assert died >= 13, "the loop ended before every side effect was tried"
    assert register.champion.fn("churn", settings=place).version == effects


def test_a_move_that_died_half_way_is_finished_by_whoever_looks_next(
    made: Made, place: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    moved(one, place, "d1")

    def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "record", dies)
        with pytest.raises(Killed):
            moved(two, place, "d2", actor="ann", reason="half way")
    assert register.champion.fn("churn", settings=place).version == 2
    row = ledger.history(open_store(place), "churn")[-1]
    assert (row.decision_id, row.from_version, row.to_version, row.actor) == ("d2", 1, 2, "ann")


def test_a_noted_move_that_never_happened_is_dropped(made: Made, place: Settings) -> None:
    one, two = a_version(made, place, "a1"), a_version(made, place, "a2")
    moved(one, place, "d1")
    client = open_client(place)
    row = ledger.history(open_store(place), "churn")[0]
    from tasks.store.engine import writing
    from tasks.store.moves import Move

    intent = Move("dx", "promoted", 1, 2, "x", "x", row.at, {})
    with writing(open_store(place)) as connection:
        intents.note(connection, "churn", "dx", 2, intent.content(), token=1, at=row.at)
    moved(two, place, "d2")
    assert [row.decision_id for row in ledger.history(open_store(place), "churn")] == ["d1", "d2"]
    assert intents.find_open(open_store(place), "churn") is None
    assert client.get_registered_model("churn").tags == {}


def test_a_run_left_running_by_a_killed_process_is_closed_by_the_next_attempt(
    made: Made, place: Settings
) -> None:
    client = open_client(place)
    experiment = client.create_experiment("churn", artifact_location=str(place.root / "x"))
    left = client.create_run(experiment, tags={registry.TAG_ATTEMPT: "a1"})
    other = client.create_run(experiment, tags={registry.TAG_ATTEMPT: "a2"})
    a_version(made, place, "a1")
    assert client.get_run(left.info.run_id).info.status == "KILLED"
    assert client.get_run(other.info.run_id).info.status == "RUNNING"


def test_sigterm_marks_the_run_as_failed(place: Settings) -> None:
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        pytest.skip("somebody else handles SIGTERM here")
    client = open_client(place)
    run = client.create_run(client.create_experiment("churn", artifact_location=str(place.root / "x")))
    with pytest.raises(SystemExit) as caught, runs._ended(client, run.info.run_id, "churn"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 143
    assert client.get_run(run.info.run_id).info.status == "FAILED"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_two_promotions_at_once_leave_one_order_in_registry_and_ledger(made: Made, place: Settings) -> None:
    versions = [a_version(made, place, f"a{i}") for i in range(4)]
    threads = [
        threading.Thread(target=moved, args=(version, place, f"d{version.number}")) for version in versions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = ledger.history(open_store(place), "churn")
    assert sorted(row.to_version for row in rows) == [1, 2, 3, 4]
    assert [row.from_version for row in rows] == [None, *[row.to_version for row in rows[:-1]]]
    assert register.champion.fn("churn", settings=place).version == rows[-1].to_version


def test_several_processes_may_set_up_a_fresh_registry_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import mlflow\n"
        "from tasks.settings import Settings; from tasks.store.mlflow_client import open_client\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "client = open_client(Settings(state_dir=Path(sys.argv[1])))\n"
        "print(len(client.search_experiments()), client.search_registered_models())\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "state")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": "."},
        )
        for _ in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    ended = [racer.communicate("go\n", timeout=120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], ended
    assert {out for out, _ in ended} == {"1 []\n"}


def test_versions_live_on_s3_when_the_artifact_root_does(made: Made, place: Settings, s3_bucket: str) -> None:
    remote = place.model_copy(update={"artifacts": f"s3://{s3_bucket}/models"})
    version = a_version(made, remote)
    assert version.source.startswith(f"s3://{s3_bucket}/models/mlflow/churn/")
    moved(version, remote)
    info = register.champion.fn("churn", settings=remote)
    assert info.version == 1
    load_model(info.model_path, sha256=info.manifest.files[MODEL])


def test_a_regressor_is_registered_and_served_like_a_classifier(
    made: Made, place: Settings, tmp_path: Path
) -> None:
    spec = make_spec(
        task="regression",
        label={"column": "spend"},
        features={"numeric": ["tenure"], "categorical": ["plan"]},
        contract={},
        metric="neg_root_mean_squared_error",
        estimator={"class": "sklearn.linear_model.Ridge"},
    )
    save_model(build_pipeline(spec).fit(made.frame, made.frame["spend"]), tmp_path / MODEL)
    version = a_version(
        made, place, spec=spec, trained=replace(made.trained, model_path=str(tmp_path / MODEL))
    )
    moved(version, place)
    info = register.champion.fn("churn", settings=place)
    assert info.classes is None
    assert "__probability_0__" not in pd.read_parquet(Path(info.path) / GOLDEN)


def test_a_users_own_transformer_is_served_once_the_ledger_vouches_for_its_version(
    made: Made, place: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_features.py").write_text(OWN_FEATURES)
    monkeypatch.syspath_prepend(tmp_path)
    estimator = {"class": "sklearn.linear_model.Ridge", "preprocess": "own_features:build"}
    spec = make_spec(
        task="regression",
        label={"column": "spend"},
        features={"numeric": ["tenure"]},
        contract={},
        metric="r2",
        estimator=estimator,
    )
    model = build_pipeline(spec).fit(made.frame, made.frame["spend"])
    also = own_types(spec)
    assert also == ("own_features.Filled", "own_features.build()")
    save_model(model, tmp_path / MODEL, also=also)
    trained = replace(made.trained, model_path=str(tmp_path / MODEL))
    version = a_version(made, place, spec=spec, trained=trained)
    register.move_champion.fn(
        spec, version, actor="gate", reason="x", decision_id="d", as_of=LATER, settings=place
    )
    with pytest.raises(RegistryError, match=r"own_features\.Filled"):
        registry.champion("churn", settings=place)
    assert register.champion.fn("churn", settings=place).version == 1


OWN_FEATURES = """
from sklearn.base import BaseEstimator, TransformerMixin
class Filled(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.mean_ = float(X.mean().iloc[0])
        return self
    def transform(self, X):
        return X.fillna(self.mean_).to_numpy()
def build():
    return Filled()
"""
